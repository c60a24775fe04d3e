"""Every benchmark runs, at a tiny size. How fast is for `make bench` to say."""

import gc

import pytest
from benchlib import table
from run import NAMES, measure

# Those that start a Ray cluster take most of a minute.
NIGHTLY = ("ray", "chaos")  # test_chaos.py has a smaller one
CASES = [pytest.param(name, marks=pytest.mark.nightly) if name in NIGHTLY else name for name in NAMES]


# WebDataset, a peer, leaves it to the collector to close shards.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", CASES)
def test_benchmark_runs(name: str) -> None:
    results = measure(name, quick=True, data=None)
    gc.collect()
    assert results
    assert all(r.ours >= 0 for r in results)
    assert len(table(results).splitlines()) == len(results) + 1
