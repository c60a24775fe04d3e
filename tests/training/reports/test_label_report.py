"""Mislabelled and under-represented samples: hand-made activations where the answer is known, and a store's."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError
from tamis.training.errors import LabelError, ReportError
from tamis.training.reports.labels import check, draw, judge, report, summary

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WRONG, ODD, HARD = range(300, 305), range(305, 309), range(309, 315)


def hand_made() -> tuple[Floats, Floats, Ints]:
    """300 plain samples around the axes of 3 classes, then those of WRONG, ODD and HARD, labelled 0, of high loss."""
    generator = np.random.default_rng(2)
    labels = np.concatenate([np.arange(300) % 3, np.zeros(15, np.int64)])
    axes = np.eye(8)
    centres = np.concatenate([axes[labels[:300]], axes[[1] * 5], axes[[7] * 4], axes[[0] * 6]])
    vectors = centres + generator.normal(scale=0.05, size=(315, 8)) * (np.arange(315) < 300)[:, None]
    losses = np.concatenate([generator.random(300), np.arange(15) + 3.0])
    return vectors, losses, labels


def test_each_kind_is_told_from_the_others() -> None:
    vectors, losses, labels = hand_made()
    found = judge(vectors, losses, labels, high=15 / 315, near=0.97)
    assert sorted(found.mislabelled.tolist()) == list(WRONG)
    assert sorted(found.under_represented.tolist()) == list(ODD)
    assert found.hard == len(HARD)
    assert set(found.suggested[list(WRONG)].tolist()) == {1}, "the cluster that they lie in"
    assert (found.loss_from, found.left_out) == (3.0, 0)
    assert found.mislabelled.tolist() == list(reversed(WRONG)), "alike in all but the loss: the highest first"
    assert (found.distance[list(ODD)] > 1).all()
    assert (found.distance[list(WRONG)] <= 1).all()


def test_the_order_of_samples_does_not_count() -> None:
    vectors, losses, labels = hand_made()
    turn = np.random.default_rng(3).permutation(315)
    found, turned = (
        judge(*each, high=0.1) for each in ((vectors, losses, labels), (vectors[turn], losses[turn], labels[turn]))
    )
    assert turn[turned.mislabelled].tolist() == found.mislabelled.tolist()
    assert set(turn[turned.under_represented].tolist()) == set(found.under_represented.tolist())


def test_low_losses_are_not_looked_at_and_ties_go_by_sample() -> None:
    vectors, losses, labels = hand_made()
    losses[list(WRONG)] = 0.0
    assert not set(judge(vectors, losses, labels, high=10 / 315).mislabelled.tolist()) & set(WRONG)
    losses[list(WRONG)] = 99.0
    assert judge(vectors, losses, labels, high=5 / 315, near=0.97).mislabelled.tolist() == list(WRONG)


def test_samples_without_a_loss_or_vector_are_left_out() -> None:
    vectors, losses, labels = hand_made()
    losses[300], vectors[301, 2] = np.nan, np.inf
    found = judge(vectors, losses, labels, high=13 / 313, near=0.97)
    assert found.left_out == 2
    assert sorted(found.mislabelled.tolist()) == [302, 303, 304]
    assert (found.suggested[301], found.loss_from) == (-1, 5.0)


@pytest.mark.parametrize("shares", [{"high": 0}, {"high": 1.1}, {"near": 0}, {"near": 1}, {"high": float("nan")}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ReportError, match="expected shares of the samples"):
        judge(*hand_made(), **shares)


def test_what_cannot_be_judged_is_refused() -> None:
    vectors, losses, labels = hand_made()
    with pytest.raises(LabelError, match="fewer than two classes"):
        judge(vectors, losses, 0 * labels)
    with pytest.raises(LabelError, match="some are missing"):
        judge(vectors, losses, labels - 1)
    with pytest.raises(ReportError, match=r"labels \(3,\)"):
        judge(vectors, losses, labels[:3])
    with pytest.raises(ReportError, match="No sample has both"):
        judge(vectors, np.full(315, np.nan), labels)
    vectors[labels > 0] = np.nan
    with pytest.raises(LabelError, match="Only one class has finite vectors"):
        judge(vectors, losses, labels)


def keep_features(store: Store, dataset: Dataset, vectors: NDArray[np.float32], key: str = "fea1") -> None:
    store.runs.begin(kind="features", key=key, dataset=dataset.ref, config={"model": "m1", "model_run": "run1"})
    store.runs.put_features(key, iter([(np.arange(len(vectors)), vectors)]))
    store.runs.finish(key)


def keep_losses(store: Store, dataset: Dataset, losses: Floats, key: str = "sco1", model: str = "m1") -> None:
    config = {"model": model, "hard": {"loss": "higher"}}
    store.runs.begin(kind="score", key=key, dataset=dataset.ref, config=config)
    store.runs.put_scores(key, {"loss": losses}, np.arange(len(losses)))
    store.runs.finish(key)


@pytest.fixture
def noisy(store: Store, dataset: Dataset) -> Dataset:
    """The digits with a tenth of the labels flipped, and what a perfect network would make of them."""
    made = store.datasets.flip("digits", 0.1, seed=4)
    generator = np.random.default_rng(5)
    seen = np.eye(12)[dataset.labels()] + generator.normal(scale=0.05, size=(dataset.samples, 12))
    keep_features(store, made, seen.astype(np.float32))
    keep_losses(store, made, np.where(made.labels() != dataset.labels(), 4.0, 1.0) * generator.random(dataset.samples))
    return made


def test_planted_flips_are_found_and_judged(store: Store, dataset: Dataset, noisy: Dataset) -> None:
    """With half of the samples looked at, all but the flips of low loss, or far, are found: the clusters are clear."""
    found = report(store, "digits-flipped", high=0.5, near=0.99)
    flips = store.datasets.flipped("digits-flipped")
    assert found.checked is not None
    assert (found.features, found.losses, found.checked.flips) == ("fea1", "sco1", 150)
    last = found.checked.compared[-1]
    assert last.first == len(found.judged.mislabelled)
    assert last.mislabelled.precision == 1.0, "whatever lies in another class's cluster was flipped"
    right = set(found.judged.mislabelled.tolist())
    assert last.mislabelled.recall == len(right & set(flips.samples.tolist())) / 150 > 0.7
    by_loss = np.argsort(-found.loss, kind="stable")[: last.first]
    assert last.highest_loss.precision == np.isin(by_loss, flips.samples).mean() < 1
    assert found.checked.suggested_right == 1.0
    assert np.array_equal(found.judged.suggested[flips.samples], dataset.labels()[flips.samples])
    halfway = found.checked.compared[0]
    assert halfway.first == 75
    assert halfway.mislabelled.recall == 0.5


def test_precision_and_recall_by_hand(store: Store, dataset: Dataset, noisy: Dataset) -> None:
    flips = store.datasets.flipped("digits-flipped")
    judged = judge(*hand_made(), high=15 / 315, near=0.97)  # names 304, 303, ... and 4 that are far
    known = type(flips)("x@1", 0.1, 0, np.asarray([7, 303, 304]), np.asarray([0, 1, 2]))
    found = check(judged, hand_made()[1], known)
    assert [(c.first, c.mislabelled.precision) for c in found.compared] == [(1, 1.0), (3, 2 / 3), (5, 2 / 5)]
    assert [c.mislabelled.recall for c in found.compared] == [1 / 3, 2 / 3, 2 / 3]
    assert [c.highest_loss.precision for c in found.compared] == [0, 0, 0], "those of HARD have the highest losses"
    assert (found.suggested_right, found.under_represented.precision) == (0.5, 0.0)


def test_losses_that_a_training_run_recorded(store: Store, dataset: Dataset, noisy: Dataset) -> None:
    scored = report(store, "digits-flipped")
    store.runs.begin(kind="train", key="trn1", dataset=noisy.ref)
    halves = np.arange(1498)
    store.runs.put_losses("trn1", 0, halves, scored.loss * 0.5, 0)
    store.runs.put_losses("trn1", 1, halves[:1000], scored.loss[:1000] * 1.5, 1)
    store.runs.put_losses("trn1", 2, halves[:1000], np.full(1000, 77.0), 1)  # stale
    found = report(store, "digits-flipped", losses="trn1")
    wanted = np.where(halves < 1000, scored.loss, 0.5 * scored.loss)
    np.testing.assert_allclose(found.loss, wanted, rtol=1e-6)
    assert found.losses == "trn1"


def test_features_and_losses_must_be_of_this_version(
    store: Store, dataset: Dataset, noisy: Dataset, digits: dict[str, list[Path]]
) -> None:
    with pytest.raises(RunNotFound, match="no features of digits@1 yet"):
        report(store, "digits")
    with pytest.raises(RunNotFound, match="not features of digits@1"):
        report(store, "digits", features="fea1")
    keep_features(store, dataset, np.ones((1498, 2), np.float32), "fea2")
    with pytest.raises(RunNotFound, match="no losses of digits@1 by the model of the features"):
        report(store, "digits")
    with pytest.raises(
        RunNotFound, match="score run of digits-flipped@1: expected a scoring or training run of digits@1"
    ):
        report(store, "digits", losses="sco1")
    store.runs.begin(kind="train", key="trn2", dataset="digits@1")
    with pytest.raises(RunNotFound, match="recorded losses of 0 samples"):
        report(store, "digits", losses="trn2")
    keep_losses(store, dataset, np.ones(1498), "sco2", model="m2")
    with pytest.raises(RunNotFound, match="by the model of the features"):
        report(store, "digits")
    assert report(store, "digits", losses="sco2").checked is None
    longer = store.datasets.add("digits", digits["test"], append=True)
    keep_features(store, longer, np.ones((1498, 2), np.float32), "fea3")
    keep_losses(store, longer, np.ones(1797), "sco3")
    with pytest.raises(SelectionError, match="1498 vectors where digits@2 has 1797 samples"):
        report(store, "digits")


def test_summary_and_sheet(store: Store, dataset: Dataset, noisy: Dataset, tmp_path: Path) -> None:
    found = report(store, "digits-flipped")
    told = summary(found, 3)
    assert [row["sample"] for row in told["mislabelled"]] == found.judged.mislabelled[:3].tolist()
    first = told["mislabelled"][0]
    assert first["key"] == noisy.keys([first["sample"]])[0]
    assert first["label"] == str(noisy.labels()[first["sample"]])
    assert first["suggested"] == str(dataset.labels()[first["sample"]])
    assert told["mislabelled_count"] == len(found.judged.mislabelled) > 3
    out = draw(store, found, str(tmp_path / "sheet.png"), 3)
    with Image.open(out) as image:
        assert image.width > 3 * 72
    with pytest.raises(ReportError, match="0 images to show"):
        draw(store, found, str(tmp_path / "sheet.png"), 0)
    with pytest.raises(ReportError, match=r"\.png"):
        draw(store, found, str(tmp_path / "sheet.gif"), 3)
