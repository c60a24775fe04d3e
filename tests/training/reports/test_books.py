"""The books of real training runs: costs, frontier, confidence and gradients of the same few runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, RunNotFound
from tamis.training.config import InLoop
from tamis.training.devices import pick_device
from tamis.training.errors import LabelError, ReportError, TaskError
from tamis.training.job import TrainConfig, train
from tamis.training.reports.confidence import by_percentile, confidences
from tamis.training.reports.costs import PARTS, costs
from tamis.training.reports.drawing.drawings import draw_confidence, draw_costs, draw_frontier, draw_similarity
from tamis.training.reports.evaluation import evaluate_run
from tamis.training.reports.frontier import frontier
from tamis.training.reports.similarity import alike, compare, similarity
from tamis.training.reports.traces import AXES
from tamis.training.signals.scoring import finish_scores, score_parts
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION

N = 299
RECIPE: dict[str, Any] = {
    "dataset": "few", "model": "preact8", "epochs": 2, "batch_size": 64, "augment": "none", "channels": 1,
    "evaluate_on": "few", "evaluate_every": 1, "lr": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, list[Path]]) -> tuple[Store, list[str]]:
    """Full training, half of it dropped at random, and Selective-Backprop, on 299 digits. Scores of the first."""
    store = Store.create(tmp_path_factory.mktemp("books") / "store")
    store.datasets.add("few", digits["test"])
    strategies = None, InLoop(name="random-drop", keep=0.5), InLoop(name="selective-backprop", selectivity=0.3)
    return store, [train(store, TrainConfig(**RECIPE, strategy=one)).run.key for one in strategies]


def test_costs(runs: tuple[Store, list[str]], tmp_path: Path) -> None:
    """Full training reads everything and backpropagates it; dropping halves both, Selective-Backprop the second."""
    found = costs(runs[0], runs[1])
    full, drop, chosen = found
    assert [one.label for one in found] == ["full", "random-drop, keep=0.5", "selective-backprop, selectivity=0.3"]
    assert (full.backprops, full.samples) == (2 * N, 2 * N)
    assert drop.backprops == drop.samples
    assert drop.samples is not None
    assert drop.samples < 2 * N
    assert chosen.backprops is not None
    assert chosen.backprops < (chosen.samples or 0) == 2 * N
    for one in found:
        parts = [getattr(one.parts, name) for name in PARTS]
        assert sum(parts) == pytest.approx(one.total)
        assert min(parts) >= 0
        assert one.parts.backward is not None
        assert one.parts.backward > 0
    assert full.parts.selection_forward == 0 == drop.parts.selection_forward
    assert chosen.parts.selection_forward is not None
    assert chosen.parts.selection_forward > 0
    assert b"selection forward" in draw_costs(found, str(tmp_path / "costs.svg")).read_bytes()
    with pytest.raises(ReportError, match="no training run to plot"):
        draw_costs([], str(tmp_path / "none.svg"))


def test_frontier(runs: tuple[Store, list[str]], tmp_path: Path) -> None:
    """A history carries backprops, whose last is the run's own; the shares of all groups are 1 together."""
    store, keys = runs
    found = frontier(store)
    assert found.traces[0].backprops == (N, 2 * N)
    for one, key in zip(found.traces, keys, strict=True):
        assert one.full == keys[0]
        assert one.backprops is not None
        assert one.backprops[-1] == store.runs.get(key).metrics["backprops"]
    for axis in AXES:
        assert sum(group.share[axis] for group in found.groups) == pytest.approx(1)
    assert draw_frontier(found, str(tmp_path / "a.png")).read_bytes().startswith(b"\x89PNG")
    files = [draw_frontier(found, str(tmp_path / f"{name}.svg")).read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert b"selective-backprop, selectivity=0.3" in files[0]


def test_percentiles_by_hand() -> None:
    """Of .1, .2, ..., .9, 1 in any order the fifths end at .2, .4, ...; wrong are the lowest three."""
    order = np.random.default_rng(1).permutation(10)
    confidence = np.arange(1, 11)[order] / 10
    percentile, reached, accuracy = by_percentile(confidence, confidence > 0.3, 5)
    assert percentile.tolist() == [20, 40, 60, 80, 100]
    assert reached.tolist() == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert accuracy.tolist() == [0, 0.5, 1, 1, 1]
    uneven = by_percentile(confidence, confidence > 0.3, 3)
    assert uneven[1].tolist() == [0.3, 0.6, 1.0]  # parts of 3, 3 and 4
    assert by_percentile(confidence, confidence > 0.3, 100)[1].tolist() == (np.arange(1, 11) / 10).tolist()


@pytest.mark.parametrize("parts", [1, 7, 100])
def test_confidence_of_known_losses(parts: int) -> None:
    """NumPy's inverse CDF; the accuracies of the parts, by their sizes, are that of the whole."""
    rng = np.random.default_rng(parts)
    confidence, right = np.exp(-rng.exponential(size=1000)), rng.random(1000) < 0.6
    percentile, reached, accuracy = by_percentile(confidence, right, parts)
    assert len(percentile) == parts
    if 1000 % parts == 0:
        assert reached.tolist() == np.quantile(confidence, percentile / 100, method="inverted_cdf").tolist()
    sizes = np.diff(np.arange(parts + 1) * 1000 // parts)
    assert np.average(accuracy, weights=sizes) == pytest.approx(right.mean())
    assert sizes.max() - sizes.min() <= 1


def test_confidence_of_real_models(runs: tuple[Store, list[str]], tmp_path: Path) -> None:
    """By evaluating and from scores alike; the mean accuracy and loss are those of an evaluation."""
    store, keys = runs
    seen: list[tuple[int, int]] = []
    found = confidences(store, keys[:2], "few", parts=N, progress=lambda *at: seen.append(at))
    assert (seen[-1], found[0].scores, found[0].samples, found[0].nonfinite) == ((2 * N, 2 * N), None, N, 0)
    for one in found:
        truth = evaluate_run(store, one.run, "few").metrics
        assert np.mean(one.accuracy) == pytest.approx(truth["accuracy"])
        assert -np.log(one.confidence).mean() == pytest.approx(truth["loss"], rel=1e-4)
        assert list(one.confidence) == sorted(one.confidence)
    run, dataset = store.runs.get(keys[0]), store.datasets.get("few")
    assert run.blob is not None
    score_parts(store, dataset, range(len(dataset.shards)), run.blob)
    scored = finish_scores(store, dataset, run.blob, name="preact8", model_run=run.key)
    [again] = confidences(store, keys[:1], "few", parts=N)
    assert again.scores == scored.key
    assert again.confidence == pytest.approx(found[0].confidence)
    assert again.accuracy == found[0].accuracy
    drawn = draw_confidence(found, str(tmp_path / "confidence.svg")).read_bytes()
    assert b"percentile of target confidence" in drawn


def test_what_has_no_confidence_is_refused(runs: tuple[Store, list[str]], digits: dict[str, list[Path]]) -> None:
    store, keys = runs
    store.datasets.add("bare", digits["test"], label=None)
    wrong: list[tuple[type[Exception], str, list[str], str, dict[str, Any]]] = [
        (RunNotFound, "names 0 runs", ["0000"], "few", {}),
        (DatasetNotFound, "nowhere", keys[:1], "nowhere", {}),
        (LabelError, "bare@1 has samples without a class", keys[:1], "bare", {}),
        (ReportError, "parts is 0", keys[:1], "few", {"parts": 0}),
        (ReportError, "No run given", [], "few", {}),
    ]
    for error, words, run, dataset, how in wrong:
        with pytest.raises(error, match=words):
            confidences(store, run, dataset, **how)
    store.runs.begin(kind="train", key="rrrr1", dataset="few@1", model="preact8", config={"task": "regression"})
    store.runs.finish("rrrr1", model=store.runs.get(keys[0]).blob)
    with pytest.raises(TaskError, match="this one was trained for regression"):
        confidences(store, ["rrrr1"], "few")
    store.runs.begin(kind="train", key="uuuu1", dataset="few@1", config={})
    with pytest.raises(RunNotFound, match="a train run that is running"):
        confidences(store, ["uuuu1"], "few")


class Linear(torch.nn.Module):
    """Logits that are the pixels: the gradient of the one weight a class is by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        self.idle = torch.nn.Parameter(torch.zeros(2))  # has no gradient at all

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() @ self.weight.T


def a_batch(pixels: list[list[float]], labels: list[int]) -> Batch:
    images = torch.tensor(pixels).view(len(pixels), 1, 1, -1)
    return Batch(images, torch.tensor(labels), torch.ones(len(labels)), torch.arange(len(labels)))


def test_gradients_of_a_linear_model_by_hand() -> None:
    """The gradient of a sample is (p - y) x^T. The hardest of four is one that is far on the wrong side."""
    pixels, labels = [[2.0, 0.0], [0.0, 3.0], [5.0, 1.0], [1.0, 2.0]], [0, 1, 1, 1]
    model, x, y = Linear(), np.array(pixels), np.eye(2)[labels]
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    grads = np.concatenate([(p - y)[:, :, None] * x[:, None, :]]).reshape(4, -1)
    whole, hardest = np.append(grads.mean(axis=0), [0, 0]), np.append(grads[2], [0, 0])
    cosine = whole @ hardest / np.linalg.norm(whole) / np.linalg.norm(hardest)
    signs = (np.sign(whole) == np.sign(hardest)).mean()
    found = compare(
        model, a_batch(pixels, labels), CLASSIFICATION, [0.25], np.random.default_rng(0), pick_device("cpu")
    )
    assert found[0, 0].tolist() == pytest.approx([cosine, signs], rel=1e-5)
    assert model.weight.grad is None
    g, h = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, -1.0, 0.0])
    assert alike(g, h) == (0, pytest.approx(2 / 3))
    assert alike(g, -g) == (-1, pytest.approx(1 / 3))
    assert np.isnan(alike(g, 0 * g)[0])


def test_a_part_that_is_the_whole_is_the_same(runs: tuple[Store, list[str]], tmp_path: Path) -> None:
    """Cosine 1, all signs equal; larger random parts are more like the whole; the same seed gives the same answer."""
    store, keys = runs
    seen: list[tuple[int, int]] = []
    how: dict[str, Any] = {"batch_size": 70, "batches": 5, "seed": 3, "selectivities": [0.1, 0.5, 1.0]}
    found = similarity(store, keys[0][:10], "few", **how, progress=lambda *at: seen.append(at))
    assert (seen[-1], len(seen), found.batches, found.vanished) == ((5, 5), 5, 5, 0)  # 4 a pass: one of the next
    assert [(row.part, row.samples) for row in found.rows] == [
        (part, m) for m in (7, 35, 70) for part in ("high-loss", "random")
    ]
    for row in found.rows[-2:]:
        assert row.cosine == pytest.approx(1)
        assert (row.signs, row.signs_error) == (1, 0)
    tenth, half = (row for row in found.rows[:4] if row.part == "random")
    assert tenth.cosine < half.cosine < 1
    assert tenth.signs < half.signs < 1
    assert tenth.cosine_error is not None
    assert 0 < tenth.cosine_error < 0.5
    assert similarity(store, keys[0], "few", **how) == found
    one = similarity(store, keys[0], "few", batches=1, batch_size=64, selectivities=[0.5])
    assert one.rows[0].cosine_error is None
    assert b"share of equal signs" in draw_similarity(found, str(tmp_path / "similarity.svg")).read_bytes()


def test_what_has_no_gradients_is_refused(runs: tuple[Store, list[str]]) -> None:
    store, keys = runs
    wrong: list[tuple[type[Exception], str, str, str, dict[str, Any]]] = [
        (RunNotFound, "names 0 runs", "0000", "few", {}),
        (DatasetNotFound, "nowhere", keys[0], "nowhere", {}),
        (ReportError, "selectivity is 0: expected shares", keys[0], "few", {"selectivities": [0.5, 0]}),
        (ReportError, "selectivity is nan", keys[0], "few", {"selectivities": [float("nan")]}),
        (ReportError, "selectivity is empty", keys[0], "few", {"selectivities": []}),
        (ReportError, "few@1 has 299 samples, fewer than a batch of 300", keys[0], "few", {"batch_size": 300}),
        (ReportError, "0 batches of 128", keys[0], "few", {"batches": 0}),
    ]
    for error, words, run, dataset, how in wrong:
        with pytest.raises(error, match=words):
            similarity(store, run, dataset, **how)
    flat = a_batch([[0.0, 0.0]] * 2, [0, 1])  # black images have no gradient with respect to the weight
    found = compare(Linear(), flat, CLASSIFICATION, [0.5], np.random.default_rng(0), pick_device("cpu"))
    assert found[..., 0].isnan().all()


def test_labels_that_a_model_does_not_know_are_said(store: Store, dataset: Dataset) -> None:
    with pytest.raises(LabelError, match="1 labels of a batch are none that the model knows"):
        compare(
            Linear(), a_batch([[1.0, 0.0]] * 2, [0, 7]), CLASSIFICATION, [0.5], np.random.default_rng(0),
            pick_device("cpu"),
        )  # fmt: skip
