"""The books of training runs: parts that add up to the total, of runs old and new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, RunNotFound
from tamis.training.errors import ReportError
from tamis.training.reports.costs import PARTS, Parts, costs, split

NEW = {
    "total": 20.0, "evaluate": 2.0, "select": 5.0, "train": 13.0, "stream": 1.5, "selection_forward": 3.0,
    "selection_step": 0.5, "training_forward": 4.0, "backward": 6.0,
}  # fmt: skip


def test_parts_by_hand() -> None:
    """Selecting: 5 less the 3 of forward passes. Other: 20 - 2 - 3 - 2 - 4 - 6 - 1.5."""
    assert split(NEW) == Parts(3.0, 2.0, 4.0, 6.0, 1.5, 1.5, 2.0)
    full = {name: s for name, s in NEW.items() if not name.startswith("select")}
    assert split(full) == Parts(0.0, 0.0, 4.0, 6.0, 1.5, 6.5, 2.0)


def test_runs_of_before_show_what_they_have() -> None:
    assert split({"total": 9.0, "train": 6.0, "evaluate": 1.0, "select": 2.0}) == Parts(
        None, 2.0, None, None, None, 6.0, 1.0
    )
    assert split({"total": 9.0, "train": 8.0, "evaluate": 1.0, "stream": 3.0}) == Parts(
        None, None, None, None, 3.0, 5.0, 1.0
    )


def test_waiting_that_a_gpu_hides_is_not_counted_twice() -> None:
    """18 s that are no evaluating, 15 of them in the GPU's own parts: of 9 s of waiting at most 3 had it idle."""
    found = split(NEW | {"stream": 9.0})
    assert (found.reading, found.other) == (3.0, 0.0)


SECONDS = st.floats(0, 1e6)


@given(st.fixed_dictionaries({"total": SECONDS}, optional={name: SECONDS for name in NEW if name != "total"}))
def test_parts_add_up_to_the_total(seconds: dict[str, float]) -> None:
    made = [getattr(split(seconds), name) or 0.0 for name in PARTS]
    assert sum(made) == pytest.approx(seconds["total"], abs=1e-6)


def test_what_has_no_books_is_refused(store: Store, sixty: Dataset) -> None:
    store.runs.begin(kind="train", key="eeee1", dataset="sixty@1", config={})
    store.runs.begin(kind="score", key="ffff1", dataset="sixty@1", config={})
    store.runs.finish("ffff1")
    assert costs(store) == []
    for error, words, runs, how in (
        (ReportError, r"eeee1 \(train, running\) is not a finished training run", ["eeee1"], {}),
        (ReportError, r"ffff1 \(score, finished\) is not", ["ffff"], {}),
        (RunNotFound, "names 0 runs", ["0000"], {}),
        (DatasetNotFound, "there are: sixty", [], {"dataset": "seventy"}),
    ):
        with pytest.raises(error, match=words):
            costs(store, runs, **how)
