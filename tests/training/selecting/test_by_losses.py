"""Selections from stored losses: which run's, under which key, and the methods that read scores of their own kind."""

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.signals.passes import record_losses

N = 1498


def record(store: Store, dataset: str, key: str, epoch: int, losses: np.ndarray, right: np.ndarray) -> None:
    if store.runs.state(key) is None:
        store.runs.begin(kind="train", key=key, dataset=dataset)
    store.runs.put_losses(key, epoch, np.arange(N), losses, epoch, correct=right)


def test_the_newest_run_with_losses_of_this_version(store: Store, dataset: Dataset) -> None:
    asked = SelectConfig(dataset="digits", method="losses", budget=2, params={"by": "newest"})
    with pytest.raises(RunNotFound, match="No run has losses of digits@1: train with --record-losses"):
        select(store, asked)
    rising, right = np.arange(N, dtype=np.float64), np.ones(N, bool)
    record(store, dataset.ref, "older", 0, rising, right)
    record(store, "elsewhere@1", "other", 0, rising, right)
    record(store, dataset.ref, "newer", 0, -rising, right)
    newest = select(store, asked).selection
    assert (newest.round_at(0)[0].tolist(), newest.inputs, newest.ref) == ([0, 1], ("newer",), "digits-losses@1")
    older = select(store, asked.model_copy(update={"run": "older"})).selection
    assert older.round_at(0)[0].tolist() == [N - 1, N - 2]
    for key in ("other", "fresh"):
        store.runs.begin(kind="train", key=key, dataset="elsewhere@1")
        with pytest.raises(RunNotFound, match=f"Run {key} has .*, and those of digits@1 are asked for"):
            select(store, asked.model_copy(update={"run": key}))


def test_another_epoch_is_another_question(store: Store, dataset: Dataset) -> None:
    asked = SelectConfig(dataset="digits", method="losses", budget=1, params={"by": "forgotten"})
    right = np.ones(N, bool)
    record(store, dataset.ref, "mine", 0, np.arange(N) / N, right)
    first = select(store, asked)
    assert (first.created, first.selection.round_at(0)[0].tolist()) == (True, [N - 1])
    assert not select(store, asked).created
    right[7] = False
    record(store, dataset.ref, "mine", 1, np.arange(N) / N, right)
    second = select(store, asked)
    assert (second.created, second.selection.round_at(0)[0].tolist()) == (True, [7])
    assert (first.selection.params["epoch"], second.selection.params["epoch"]) == (0, 1)


def test_a_scoring_pass_is_an_epoch_of_losses(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="train", key="model", dataset=dataset.ref, config={"epochs": 5})
    store.runs.begin(kind="score", key="pass", dataset=dataset.ref, config={"model_run": "model"})
    losses = np.linspace(0, 3, N)
    losses[5] = np.nan
    store.runs.put_scores("pass", {"loss": losses, "correct": losses < 1}, np.arange(N))
    store.runs.finish("pass", seconds={"total": 2.0})
    for _ in range(2):
        record_losses(store, "pass")
    rows = store.query("select epoch, loss_epoch, count(*) as n, count(loss) as known, count(*) filter (correct) as r "
                       "from losses group by all").to_pylist()  # fmt: skip
    assert rows == [{"epoch": 4, "loss_epoch": 4, "n": N, "known": N - 1, "r": int((losses < 1).sum())}]
    made = select(store, SelectConfig(dataset="digits", method="losses", budget=2, params={"by": "newest"})).selection
    assert (made.round_at(0)[0].tolist(), made.stats["excluded"]) == ([N - 1, N - 2], 1)
    assert made.stats["seconds"]["score"] == 2.0


def test_el2n_reads_its_own_metric_and_ccs_any(store: Store, dataset: Dataset) -> None:
    for key, values in (("seed0", np.arange(N)), ("seed1", np.zeros(N))):
        store.runs.begin(kind="score", key=key, dataset=dataset.ref, config={"hard": {"el2n": "higher"}})
        store.runs.put_scores(key, {"el2n": values}, np.arange(N))
        store.runs.finish(key)
    both = SelectConfig(dataset="digits", method="el2n", budget=2, scores=("seed0", "seed1"))
    made = select(store, both).selection
    assert (made.round_at(0)[0].tolist(), made.params["measure"], made.name) == ([N - 1, N - 2], "el2n", "digits-el2n")
    assert select(store, SelectConfig(dataset="digits", method="el2n", budget=1)).selection.inputs == ("seed1",)
    covering = SelectConfig(dataset="digits", method="ccs", budget=100, measure="el2n", scores=("seed0",))
    chosen = select(store, covering).selection.round_at(0)[0]
    # A tenth of 1,498 is dropped; the rest in 50 strata gives two from each.
    assert chosen.max() < N - 149
    assert np.bincount((chosen * 50) // (N - 149), minlength=50).tolist() == pytest.approx([2] * 50, abs=1)
    with pytest.raises(RunNotFound, match="has the measure 'entropy'"):
        select(store, SelectConfig(dataset="digits", method="ccs", budget=1))
