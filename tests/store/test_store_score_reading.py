"""Scores by sample: the same whether read at once or in blocks, and refused where they are another version's."""

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.runs import runs

KEY = "cd" * 16


@pytest.fixture(params=[2**17, 10], ids=["at once", "in blocks"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_AT_ONCE", request.param)


def scored(store: Store, samples: list[int]) -> None:
    store.runs.begin(kind="score", key=KEY, dataset="digits@1")
    halves = np.array_split(np.asarray(samples), 2)
    store.runs.put_score_batches(
        KEY, iter([({"entropy": part * 2.0, "margin": np.full(len(part), np.nan)}, part) for part in halves])
    )
    store.runs.finish(KEY)


@pytest.mark.usefixtures("read")
def test_scores_by_sample(store: Store) -> None:
    order = np.random.default_rng(0).permutation(50).tolist()
    scored(store, order)
    np.testing.assert_array_equal(store.runs.scores(KEY, "entropy", 50), np.arange(50) * 2.0)
    assert np.isnan(store.runs.scores(KEY, "margin", 50)).all()
    with pytest.raises(RunNotFound, match="no metric 'loss'; it has: entropy, margin"):
        store.runs.scores(KEY, "loss", 50)


@pytest.mark.usefixtures("read")
@pytest.mark.parametrize("samples", [range(49), range(51), range(1, 51), [*range(49), 3]], ids=str)
def test_scores_of_another_version_are_refused(store: Store, samples: list[int]) -> None:
    scored(store, list(samples))
    with pytest.raises(SelectionError, match=rf"has {len(samples)} scores of 'entropy' where the dataset has 50"):
        store.runs.scores(KEY, "entropy", 50)
