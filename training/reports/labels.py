"""Which samples of high loss are mislabelled, and which under-represented.

What: `judge` looks at the samples with the highest losses, and at where their activations lie: near the cluster of
another class, they are *mislabelled*, and that class is suggested; far from all clusters, they are *under-represented*,
and worth more samples like them; near their own, they are merely *hard*. `report` does it with stored features and
losses, and holds it against the flips of a dataset made by `tamis dataset flip`.
When: to clean a dataset, or to choose what to collect. Losses of a model that has not learnt the wrong labels by heart
tell most: train few epochs.
How: clusters and distances are `tamis.training.reports.clusters`'. Far from all is a distance from the nearest cluster
in the upper `1 - near` of all samples'. Mislabelled are ordered by loss times log-likelihood ratio of the two clusters,
(d(own)^2 - d(other)^2) / 2; under-represented by distance from the nearest cluster, in units of the threshold. Ties go
by sample.
Cost: two passes over the features, from a mapped file: 10^6 vectors of 512 numbers and 100 classes take about 50 s of
one core; memory for a block of them and about 100 bytes a sample.
Source: A. Jiang, thesis, CMU-CS-20-112, 2020, section 6.2: "mislabels are likely to exhibit similar activations as
other examples in the dataset. By clustering similar intermediate activations, one could find under-represented examples
by finding high-loss examples that are far from a cluster's centroid".

Legend: N samples, E numbers a vector.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.flipping import FLIP, Flips
from tamis.training.errors import LabelError, ReportError
from tamis.training.reports.clusters import Vectors, fit, nearest
from tamis.training.reports.drawing.contact_sheet import class_name, draw_groups
from tamis.training.reports.drawing.plots import check_form
from tamis.training.reports.stored import losses_of, losses_run
from tamis.training.selecting.by_scores import features_run

HIGH, NEAR = 0.1, 0.95  # the defaults of `judge`

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What became of the samples of high loss.

    Attributes:
        mislabelled: sample numbers, the surest first.
        under_represented: sample numbers, the farthest first.
        hard: how many others have a high loss.
        suggested: [N] the class of the nearest other cluster; -1 where there is no vector.
        score: [N] by which mislabelled samples are ordered.
        distance: [N] from the nearest cluster, in units of the threshold: above 1 is far.
        loss_from: the lowest loss that counts as high.
        left_out: how many samples lack a finite loss or vector.
    """

    mislabelled: Ints
    under_represented: Ints
    hard: int
    suggested: Ints
    score: Floats
    distance: Floats
    loss_from: float
    left_out: int


@dataclass(frozen=True)
class Detection:
    """How well some samples name the flipped ones.

    Attributes:
        named: how many samples.
        precision: the share of them that are flipped; None where none is named.
        recall: the share of the flipped that are named.
    """

    named: int
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Compared:
    """The first so many of what is reported as mislabelled, beside as many with the highest losses."""

    first: int
    mislabelled: Detection
    highest_loss: Detection


@dataclass(frozen=True)
class Checked:
    """The report held against planted flips.

    Attributes:
        flips: how many there are.
        compared: half as many, as many, and all that are reported as mislabelled.
        under_represented: how many of these are flips.
        suggested_right: of the flips among the mislabelled, the share whose suggested class is that before.
    """

    flips: int
    compared: tuple[Compared, ...]
    under_represented: Detection
    suggested_right: float | None


@dataclass(frozen=True)
class LabelReport:
    """What `report` found.

    Attributes:
        dataset: that was looked at.
        features, losses: keys of the runs whose numbers were used.
        loss: [N] the losses.
        judged: which samples are what.
        checked: against planted flips; None for a dataset that was not made by flipping.
    """

    dataset: Dataset
    features: str
    losses: str
    loss: Floats
    judged: Judged
    checked: Checked | None


def judge(vectors_NE: Vectors, losses_N: Floats, labels_N: Ints, *, high: float = HIGH, near: float = NEAR) -> Judged:
    """Tell mislabelled from under-represented samples.

    Args:
        vectors_NE: activations; a sample whose vector is not finite is left out.
        losses_N: of the labels; a sample without a finite one is left out.
        labels_N: class numbers.
        high: share of the samples whose losses count as high, above 0 and up to 1.
        near: share of the samples that count as near some cluster, above 0 and below 1.

    Raises:
        LabelError: there are fewer than two classes, or samples without one.
        ReportError: a share is none, lengths differ, or no sample has both a loss and a vector.
    """
    _check(vectors_NE, losses_N, labels_N, high, near)
    clusters = fit(vectors_NE, labels_N)
    if len(clusters.classes) < 2:
        raise LabelError("Only one class has finite vectors: expected two or more to tell labels apart.")
    own_N, other_N, suggested_N = nearest(clusters, vectors_NE, labels_N)
    known_N = np.isfinite(losses_N) & np.isfinite(own_N)
    if not known_N.any():
        raise ReportError("No sample has both a finite loss and a finite vector: compute losses and features again.")
    nearest_N = np.sqrt(np.minimum(own_N, other_N))
    threshold = max(float(np.quantile(nearest_N[known_N], near)), np.finfo(np.float64).tiny)
    distance_N, ratio_N = nearest_N / threshold, (own_N - other_N) / 2
    score_N = np.where(known_N, losses_N, 0.0) * np.where(known_N, ratio_N, 0.0)
    loudest = _highest(losses_N, known_N, max(1, math.floor(high * int(known_N.sum()) + 0.5)))
    apart = distance_N[loudest] > 1
    wrong = ~apart & (ratio_N[loudest] > 0)
    return Judged(
        _ordered(loudest[wrong], score_N), _ordered(loudest[apart], distance_N), int((~apart & ~wrong).sum()),
        suggested_N, score_N, distance_N, float(losses_N[loudest].min()), int((~known_N).sum()),
    )  # fmt: skip


def check(judged: Judged, losses_N: Floats, flips: Flips) -> Checked:
    """Hold what was found against the flips that are known.

    Args:
        judged: from `judge`.
        losses_N: that it was given.
        flips: of the dataset.
    """
    flipped_N = np.zeros(len(losses_N), bool)
    flipped_N[flips.samples] = True
    before_N = np.full(len(losses_N), -1)
    before_N[flips.samples] = flips.before
    found = judged.mislabelled
    by_loss = _highest(losses_N, np.isfinite(losses_N), len(found))
    firsts = sorted({n for n in (len(flips.samples) // 2, len(flips.samples)) if 0 < n < len(found)} | {len(found)})
    compared = [Compared(n, _detection(found[:n], flipped_N), _detection(by_loss[:n], flipped_N)) for n in firsts]
    right = found[flipped_N[found]]
    suggested_right = float((judged.suggested[right] == before_N[right]).mean()) if len(right) else None
    apart = _detection(judged.under_represented, flipped_N)
    return Checked(len(flips.samples), tuple(compared), apart, suggested_right)


def report(
    store: Store,
    ref: str,
    *,
    features: str | None = None,
    losses: str | None = None,
    high: float = HIGH,
    near: float = NEAR,
) -> LabelReport:
    """Judge the labels of a dataset by stored features and losses.

    Args:
        store: the store.
        ref: the dataset.
        features: key of a run of `tamis score features`; by default the newest of this dataset version.
        losses: key of a scoring run with the metric `loss`, or of a training run that recorded losses, whose mean over
            the epochs counts; by default the newest scoring run by the model that made the features.
        high, near: as for `judge`.

    Raises:
        RunNotFound: there are no features or no losses of this dataset version.
        SelectionError: they are of another version.
        LabelError, ReportError: as `judge`.
    """
    dataset = store.datasets.get(ref)
    if not dataset.has_classes:
        raise LabelError(f"{dataset.ref} has no classes (its label is {dataset.label or 'none'}): nothing to judge.")
    seen = features_run(store, dataset, features)
    heard = losses_run(store, dataset, losses, seen)
    vectors_NE, losses_N = store.runs.features(seen.key, dataset), losses_of(store, heard, dataset.samples)
    judged = judge(vectors_NE, losses_N, dataset.labels(), high=high, near=near)
    origin = dataset.origin()
    flips = store.datasets.flipped(dataset.ref) if origin is not None and origin["kind"] == FLIP else None
    checked = None if flips is None else check(judged, losses_N, flips)
    return LabelReport(dataset, seen.key, heard.key, losses_N, judged, checked)


def summary(found: LabelReport, top: int) -> dict[str, Any]:
    """A report as plain values, with the first `top` samples of each kind."""
    judged, dataset = found.judged, found.dataset
    listed = {"mislabelled": judged.mislabelled, "under_represented": judged.under_represented}
    return {
        "dataset": dataset.ref,
        "features": found.features,
        "losses": found.losses,
        "loss_from": judged.loss_from,
        "left_out": judged.left_out,
        "hard": judged.hard,
        **{f"{kind}_count": len(samples) for kind, samples in listed.items()},
        **{kind: _rows(found, samples[:top], kind == "mislabelled") for kind, samples in listed.items()},
        "checked": None if found.checked is None else asdict(found.checked),
    }


def draw(store: Store, found: LabelReport, out: str, top: int) -> str:
    """Draw the first `top` samples of each kind to a .png file, captioned with number, label and suggested class.

    Returns:
        The file's path.

    Raises:
        ReportError: there is nothing, or too much, to draw, or the file's name ends in something else.
    """
    target, judged = check_form(out, (".png",)), found.judged
    labels_N, named = found.dataset.labels(), partial(class_name, found.dataset)

    def captions(samples: Ints, suggest: bool) -> dict[int, tuple[str, str]]:
        return {
            i: (f"{i} {named(int(labels_N[i]))}", f"-> {named(int(judged.suggested[i]))}" if suggest else "")
            for i in samples[:top].tolist()
        }

    groups = {
        "Mislabelled: number, label, suggestion": captions(judged.mislabelled, suggest=True),
        "Under-represented: number, label": captions(judged.under_represented, suggest=False),
    }
    draw_groups(store, found.dataset, groups).save(target, "PNG")
    return str(target)


def _rows(found: LabelReport, samples: Ints, suggest: bool) -> list[dict[str, Any]]:
    labels, keys, judged = found.dataset.labels()[samples], found.dataset.keys(samples), found.judged
    return [
        {
            "sample": sample,
            "key": key,
            "label": class_name(found.dataset, label),
            **({"suggested": class_name(found.dataset, int(judged.suggested[sample]))} if suggest else {}),
            "loss": float(found.loss[sample]),
            **({"score": float(judged.score[sample])} if suggest else {"distance": float(judged.distance[sample])}),
        }
        for sample, key, label in zip(samples.tolist(), keys, labels.tolist(), strict=True)
    ]


def _check(vectors_NE: Vectors, losses_N: Floats, labels_N: Ints, high: float, near: float) -> None:
    if not (0 < high <= 1 and 0 < near < 1):
        raise ReportError(
            f"high is {high} and near is {near}: expected shares of the samples, above 0 and below 1 (high: at most 1)."
        )
    if vectors_NE.ndim != 2 or not len(vectors_NE) == len(losses_N) == len(labels_N):
        raise ReportError(
            f"Vectors are {vectors_NE.shape}, losses {losses_N.shape}, labels {labels_N.shape}: expected [N, E], [N] "
            "and [N]."
        )
    if len(np.unique(labels_N)) < 2 or labels_N.min() < 0:
        raise LabelError("Labels are of fewer than two classes, or some are missing: expected class numbers from 0.")


def _highest(values_N: Floats, known_N: NDArray[np.bool_], count: int) -> Ints:
    """The known samples with the highest values, by (value, sample)."""
    order = np.lexsort((np.arange(len(values_N)), -np.where(known_N, values_N, -np.inf)))
    return order[: min(count, int(known_N.sum()))].astype(np.int64)


def _ordered(samples: Ints, values_N: Floats) -> Ints:
    return samples[np.lexsort((samples, -values_N[samples]))]


def _detection(named: Ints, flipped_N: NDArray[np.bool_]) -> Detection:
    right = int(flipped_N[named].sum())
    return Detection(len(named), right / len(named) if len(named) else None, right / int(flipped_N.sum()))
