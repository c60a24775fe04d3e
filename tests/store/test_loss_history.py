"""The views of losses and what is told of them, on a history worked by hand; and the same from a bucket."""

import math
from typing import Any

import numpy as np
import pytest
from s3kit import S3Server

from tamis.store import Store
from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.history import SHARES, bands, chosen, datamap, of_sample, probabilities
from tamis.store.selections import Request, RoundData

NAN, N = float("nan"), 5


def put(store: Store, epoch: int, sample: Any, loss: Any, loss_epoch: Any = None, **more: Any) -> None:
    store.runs.put_losses("mine", epoch, sample, loss, epoch if loss_epoch is None else loss_epoch, **more)


def record(store: Store) -> Store:
    """Four epochs of four samples. Epoch 1 uses losses of epoch 0 again; epoch 2 leaves sample 3 out, which has NaN in
    epoch 3; sample 0 is right, wrong, right, wrong; 1 never right; 2 right, not recorded, wrong, wrong."""
    store.runs.begin(kind="train", key="mine", dataset="made@1")
    put(store, 0, [0, 1, 2, 3], [1, 2, 3, 4], correct=[1, 0, 1, 1])
    known = np.ma.masked_array([0, 0, 0, 1], [0, 0, 1, 0])
    chosen = {"selected": [1, 0, 1, 0], "probability": [0.5, 0.25, 1.0, NAN]}
    put(store, 1, [0, 1, 2, 3], [1, 2, 3, 4], 0, correct=known, **chosen)
    put(store, 2, [0, 1, 2], [3, 2, 1], correct=[1, 0, 0])
    put(store, 3, [0, 1, 2, 3], [2, 2, 2, NAN], correct=[0, 0, 0, 1], selected=[1, 1, 1, 0])
    return store


@pytest.fixture
def lost(store: Store) -> Store:
    return record(store)


def asked(store: Store, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in store.query(query).to_pylist()]


NEWEST = [("mine", 0, 3, 2.0, 3, 0), ("mine", 1, 3, 2.0, 3, 0), ("mine", 2, 3, 2.0, 3, 0), ("mine", 3, 1, 4.0, 0, 3)]
STATS = [
    # sample, epochs, mean and variance of losses 0, 2, 3, min, max, selected, forgetting, learnt, forgotten
    (0, 4, 2.0, 2 / 3, 1.0, 3.0, 2, 2, 0, True),
    (1, 4, 2.0, 0.0, 2.0, 2.0, 1, 0, None, False),
    (2, 4, 2.0, 2 / 3, 1.0, 3.0, 2, 1, 0, True),
    (3, 3, 4.0, 0.0, 4.0, 4.0, 0, 0, 0, False),
]


def check_views(store: Store) -> None:
    assert asked(store, "from losses_newest order by sample") == NEWEST
    found = asked(store, "select * exclude run from loss_stats order by sample")
    assert [row[:3] + row[4:] for row in found] == [row[:3] + row[4:] for row in STATS]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in STATS])


def test_views_by_hand(lost: Store) -> None:
    check_views(lost)
    assert asked(lost, "select loss from losses_newest n join loss_stats s using (run, sample) where forgotten") == [
        (2.0,), (2.0,),
    ]  # fmt: skip
    assert asked(lost, "describe losses_newest")[0][:2] == ("run", "VARCHAR")


def test_views_of_an_earlier_state(lost: Store) -> None:
    before = lost.tables.versions()
    put(lost, 4, [3], [0.5])
    assert asked(lost, "select epoch, staleness from losses_newest where sample = 3") == [(4, 0)]
    found = lost.query("select epoch, staleness from losses_newest where sample = 3", at={"losses": before["losses"]})
    assert found.to_pylist() == [{"epoch": 1, "staleness": 3}]


def test_views_on_a_bucket(s3: S3Server) -> None:
    check_views(record(Store.create(f"{s3.bucket()}/history")))


def test_as_arrays(lost: Store) -> None:
    """A loss stands where it was computed, correctness where it was recorded: epoch 1 has no loss of its own."""
    found = lost.runs.losses("mine", N)
    expected = [[1, 2, 3, 4, NAN], [NAN] * 5, [3, 2, 1, NAN, NAN], [2, 2, 2, NAN, NAN]]
    np.testing.assert_array_equal(found.losses_EN, np.array(expected, np.float32))
    assert found.correct_EN.tolist() == [[1, 0, 1, 1, -1], [0, 0, -1, 1, -1], [1, 0, 0, -1, -1], [0, 0, 0, 1, -1]]
    assert found.epoch == lost.runs.last_epoch("mine") == 3
    with pytest.raises(SelectionError, match="losses of samples 0 to 3 where the dataset has 3"):
        lost.runs.losses("mine", 3)
    with pytest.raises(RunNotFound, match="has no losses"):
        lost.runs.losses("none", 3)
    assert lost.runs.last_epoch("none") == -1


def test_one_sample(lost: Store) -> None:
    rows = of_sample(lost, 2, "mine")
    assert [(r["epoch"], r["loss"], r["staleness"], r["probability"], r["selected"], r["correct"]) for r in rows] == [
        (0, 3.0, 0, None, None, True), (1, 3.0, 1, 1.0, True, None), (2, 1.0, 0, None, None, False),
        (3, 2.0, 0, None, True, False),
    ]  # fmt: skip
    assert {(r["run"], r["dataset"]) for r in of_sample(lost, 2)} == {("mine", "made@1")}
    assert of_sample(lost, 77) == []


def test_one_run(lost: Store) -> None:
    first, second, third, fourth = bands(lost, "mine")
    assert (first["samples"], first["finite"], first["mean"], first["selected"], first["accuracy"]) == (
        4, 4, 2.5, None, 0.75,
    )  # fmt: skip
    # Of 1, 2, 3, 4 the share q lies at 1 + 3 q.
    assert first["quantiles"] == pytest.approx([1 + 3 * share for share in SHARES])
    assert (second["staleness"], second["selected"], second["accuracy"]) == (1, 2, pytest.approx(1 / 3))
    assert (third["samples"], fourth["samples"], fourth["finite"], fourth["selected"]) == (3, 4, 3, 3)
    [drawn] = probabilities(lost, "mine")
    assert (drawn["epoch"], drawn["chosen"], drawn["mean"]) == (1, 2, 0.75)
    assert drawn["quantiles"] == pytest.approx([0.5 + 0.5 * share for share in SHARES])


def test_datamap(lost: Store) -> None:
    """Sample 1 has the confidence exp(-2) in every epoch; sample 3 has one epoch with a loss."""
    points = {row["sample"]: row for row in datamap(lost, "mine").to_pylist()}
    assert points[1]["confidence"] == pytest.approx(math.exp(-2))
    assert (points[1]["variability"], points[1]["correctness"]) == (pytest.approx(0, abs=1e-9), 0)
    confidences = np.exp([-1.0, -3.0, -2.0])
    assert points[0]["confidence"] == pytest.approx(confidences.mean())
    assert points[0]["variability"] == pytest.approx(confidences.std())
    assert points[0]["correctness"] == pytest.approx(2 / 3)
    assert points[3]["variability"] == 0


@pytest.mark.parametrize("ask", [bands, probabilities, datamap])
def test_runs_without_losses(lost: Store, ask: Any) -> None:
    lost.runs.begin(kind="train", key="bare", dataset="made@1")
    with pytest.raises(RunNotFound, match="Run bare has no losses: train with --record-losses"):
        ask(lost, "bare")


def test_when_samples_were_chosen(store: Store, dataset: Any) -> None:
    rounds = [RoundData([3, 1]), RoundData([3, 0], first_epoch=4)]
    store.selections.publish(Request(dataset, "by-hand", 1), "mine", rounds, seconds=0.0)
    assert [tuple(row.values()) for row in chosen(store, "mine")] == [
        (3, 2, [0, 1], [0, 4]), (0, 1, [1], [4]), (1, 1, [0], [0]),
    ]  # fmt: skip
    assert [row["rounds"] for row in chosen(store, "mine@1", 1)] == [[0]]
