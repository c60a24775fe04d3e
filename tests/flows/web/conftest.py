"""The store that pages are tested over, and the page over it: made once, and read by every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pagekit import Served, make, serving

from tamis.store import Store


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, list[Path]]) -> Store:
    """The store. Do not write."""
    return make(tmp_path_factory.mktemp("shown"), digits["train"])


@pytest.fixture(scope="session")
def page(shown: Store) -> Iterator[Served]:
    """The page over the store, on loopback, with no token."""
    with serving(shown) as served:
        yield served
