"""A crowd at one store for 20 seconds: nothing is lost or doubled, and no error is seen."""

import pytest
from bench_crowd import crowd


@pytest.mark.nightly
def test_a_crowd_loses_nothing() -> None:
    wrong = {line.name: line.ours for line in crowd(20.0, 8, 3) if line.target == 0 and line.ours}
    assert wrong == {}
