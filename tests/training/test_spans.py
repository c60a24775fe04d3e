"""Runs that are a part of something: begun with another run's weights, ended by a budget, inside a longer schedule."""

import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.training.config import Span, TrainConfig
from tamis.training.errors import CheckpointError
from tamis.training.job import train
from tamis.training.loop import Recipe, learning_rate
from tamis.training.models.weights import unpack_model
from tamis.training.planning import plan

QUICK = TrainConfig(dataset="digits", model="preact8", epochs=1, batch_size=128, channels=1, augment="none")


class Killed(BaseException):
    pass


def changed(**fields: object) -> TrainConfig:
    return TrainConfig(**(QUICK.model_dump() | fields))


def test_a_run_begins_with_the_weights_of_another(store: Store, dataset: Dataset) -> None:
    """With a rate of next to nothing it ends where that one did, but for what BatchNorm counts."""
    first = train(store, QUICK).run
    still = {"lr": 1e-30, "weight_decay": 0.0, "seed": 5}
    second = train(store, changed(init_from=first.key[:8], **still)).run
    assert first.blob is not None
    assert second.blob is not None
    (theirs, meta), (ours, own) = (unpack_model(store.blobs.get(run.blob)) for run in (first, second))
    learnt = [name for name in theirs if name.endswith(("weight", "bias"))]
    assert all(torch.equal(theirs[name], ours[name]) for name in learnt)
    assert (own.mean, own.std) == (meta.mean, meta.std)
    assert second.metrics["train_loss"] < 0.75 * train(store, changed(**still)).run.metrics["train_loss"]


def test_the_key_covers_the_weights_and_is_as_before_without(store: Store, dataset: Dataset) -> None:
    first = train(store, QUICK).run
    keys = [plan(store, one).key for one in (QUICK, changed(init_from=first.key), changed(span=Span(backprops=9)))]
    assert len(set(keys)) == 3
    assert plan(store, changed(init_from=first.key[:8])).key == keys[1]
    assert keys[0] == first.key


def test_weights_that_are_not_there_or_do_not_fit_are_refused(store: Store, dataset: Dataset) -> None:
    with pytest.raises(RunNotFound):
        train(store, changed(init_from="nothing"))
    store.runs.begin(kind="train", key="abcd1", dataset=dataset.ref)
    with pytest.raises(RunNotFound, match="no finished training run"):
        train(store, changed(init_from="abcd1"))
    first = train(store, QUICK).run
    with pytest.raises(CheckpointError, match="are of preact8 with 10 outputs, and do not fit preact20"):
        train(store, changed(init_from=first.key, model="preact20"))


@pytest.mark.parametrize(
    ("span", "epochs"),
    [(Span(backprops=1), 1), (Span(backprops=1_498), 1), (Span(backprops=1_499), 2)],
)
def test_a_budget_ends_a_run_after_the_epoch_that_uses_it_up(
    store: Store, dataset: Dataset, span: Span, epochs: int
) -> None:
    run = train(store, changed(epochs=3, span=span)).run
    assert run.metrics["backprops"] == epochs * dataset.samples


def test_a_run_that_is_killed_ends_where_its_budget_does(store: Store, dataset: Dataset) -> None:
    asked = changed(epochs=4, span=Span(backprops=2 * dataset.samples))

    def stop(done: int, total: int) -> None:
        if done == 15:  # in epoch 1 of 12 steps each
            raise Killed

    with pytest.raises(Killed):
        train(store, asked, progress=stop)
    assert train(store, asked).run.metrics["backprops"] == 2 * dataset.samples
    assert train(store, asked, force=True).confirmed


def test_segments_follow_one_schedule(store: Store, dataset: Dataset) -> None:
    """The rate at the seam is that of the whole: lr (1 + cos(pi t / T)) / 2 at t = T / 2 is lr / 2."""
    recipe = Recipe(6, 0.1, 0.9, 0, True, "cosine", 1, 0.1, 0, "none", "fp32", begins=3.0)
    assert learning_rate(recipe, recipe.begins) == pytest.approx(0.05)
    whole = plan(store, changed(epochs=1, span=Span(begins=3, whole=6)))
    assert whole.config.span == Span(begins=3, whole=6)
    ended = train(store, changed(epochs=1, lr=0.1, span=Span(begins=6, whole=6), weight_decay=0.0)).run
    fresh = train(store, changed(epochs=1, lr=1e-30, weight_decay=0.0)).run
    assert ended.blob is not None
    assert fresh.blob is not None
    ours, theirs = (unpack_model(store.blobs.get(blob))[0] for blob in (ended.blob, fresh.blob))
    learnt = [name for name in theirs if name.endswith(("weight", "bias"))]
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-12) for name in learnt)  # behind the end: a rate of 0


def test_evaluations_are_told_as_they_are_made_and_may_end_a_run(store: Store, dataset: Dataset) -> None:
    told: list[list[float]] = []

    def listen(history: object) -> None:
        told.append([one["accuracy"] for one in history])  # type: ignore[attr-defined]  # a sequence of dicts
        if len(told) == 2:
            raise RuntimeError("enough")

    asked = changed(epochs=3, evaluate_on="digits", evaluate_every=1)
    with pytest.raises(RuntimeError, match="enough"):
        train(store, asked, evaluated=listen)
    assert [len(one) for one in told] == [1, 2]
    assert store.runs.get(plan(store, asked).key).status == "failed"
    run = train(store, asked).run
    assert [one["accuracy"] for one in run.metrics["history"]][:2] == told[1]
