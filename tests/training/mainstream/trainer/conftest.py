"""A few digits as digits@1, and as digits-test@1 others."""

from pathlib import Path

import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset


@pytest.fixture
def few(store: Store, digits: dict[str, list[Path]]) -> Dataset:
    """299 digits."""
    return store.datasets.add("digits", digits["test"])
