"""Where the seconds of training runs went: forward passes of selection and of training, backward passes, reading.

What: for each run a partition of its total time, with the counts that explain it.

    selection_forward   forward passes that only select
    selecting           the rest of selecting: the selection step, and what is done between epochs (Grad-Match)
    training_forward    forward passes of training
    backward            backward passes and the optimizer's steps
    reading             waiting for batches
    other               what is left: loading, augmenting, moving to a device, checkpoints
    evaluate            evaluations, apart: what measures is no part of what is measured

They add up to the total.
When: to see what a strategy saves, and what it costs elsewhere.
How: on a GPU the work that was asked for goes on while batches are waited for. What of the waiting is hidden by it is
left out of reading, or the parts would exceed the total.
Runs from before these parts were measured have None for them, and what they took is in other.
Cost: one read of the runs; no model is loaded.
Source: A. Jiang, thesis, 2021, figure 3.11, whose "Other" has evaluating, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from tamis.store import Store
from tamis.store.runs import Run
from tamis.training.reports.culling.epochs import seconds_saved
from tamis.training.reports.runs import finished, label_runs
from tamis.training.tasks.coco import MEASURES


@dataclass(frozen=True)
class Parts:
    """Seconds of a run, by what they were spent on; None where that was not measured. See the module."""

    selection_forward: float | None
    selecting: float | None
    training_forward: float | None
    backward: float | None
    reading: float | None
    other: float
    evaluate: float


PARTS = tuple(field.name for field in fields(Parts))


@dataclass(frozen=True)
class Cost:
    """What a training run has cost.

    Attributes:
        run: its key.
        label: its strategy, with the parameters that tell it from the others.
        dataset, model: what was trained.
        seed: its seed.
        parts: seconds, which add up to the total.
        total: seconds of the whole run.
        backprops: samples that got a backward pass; None for runs whose books lack it, as for the next two.
        samples: that were read.
        bytes: that were read.
        t_diff: of Selective-Backprop in the batch, seconds that an epoch with selection saves
            (`tamis.training.reports.culling.epochs`); None for other strategies, or without evaluations that tell.
        precision: of detectors that were evaluated, COCO's measures by name.
    """

    run: str
    label: str
    dataset: str
    model: str | None
    seed: int
    parts: Parts
    total: float
    backprops: int | None
    samples: int | None
    bytes: int | None
    t_diff: float | None = None
    precision: dict[str, float] | None = None


def costs(store: Store, runs: Sequence[str] = (), *, dataset: str | None = None) -> list[Cost]:
    """Where the seconds of training runs went.

    Args:
        store: the store.
        runs: keys of finished training runs, or their beginnings; by default all.
        dataset: only runs on this, "name" or "name@version".

    Returns:
        One a run, in the order given, or the oldest first.

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        ReportError: a run that was named is no training run, or not finished.
    """
    found = finished(store, runs, dataset=dataset)
    return [cost(run, label) for run, label in zip(found, label_runs(found), strict=True)]


def cost(run: Run, label: str) -> Cost:
    """The books of one finished training run."""
    books = [run.metrics.get(name) for name in ("backprops", "samples_read", "bytes_read")]
    total, seed = run.seconds.get("total", 0.0), run.config.get("seed", 0)
    judged = {name: value for name, value in run.metrics.items() if name in MEASURES} or None
    about = run.key, label, run.dataset, run.model, seed
    return Cost(*about, split(run.seconds), total, *books, t_diff=seconds_saved(run), precision=judged)


def split(seconds: dict[str, float]) -> Parts:
    """The seconds that a run has recorded, as parts of its total.

    Args:
        seconds: of a run: total, evaluate, and of newer runs select, stream and the parts of the steps.
    """
    nothing = 0.0 if "training_forward" in seconds else None  # steps that are measured, and do not select
    forward = seconds.get("selection_forward", nothing)
    selecting = seconds["select"] - (forward or 0.0) if "select" in seconds else nothing
    evaluate = seconds.get("evaluate", 0.0)
    training, backward = seconds.get("training_forward"), seconds.get("backward")
    measured = sum(part or 0.0 for part in (forward, selecting, training, backward))
    left = seconds.get("total", 0.0) - evaluate - measured
    reading = None if "stream" not in seconds else min(seconds["stream"], max(left, 0.0))
    return Parts(forward, selecting, training, backward, reading, left - (reading or 0.0), evaluate)
