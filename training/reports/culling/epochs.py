"""Seconds of an epoch outside and inside of Selective-Backprop in the batch.

What: `seconds_saved` is t_diff, the mean time of the epochs that are trained on whole less that of the epochs with
selection: what an epoch saves.
How: from the evaluations during training, whose seconds have no evaluating in them. Where several epochs lie between
two of them, they share the time equally; where some of these have selection and others not, they are left out.
Cost: nothing is read.
Departs: the formula writes sums of the mean times; a difference of 41 s beside 30 epochs of 15 minutes is that of the
means.
Source: seed of the method for detection: "Selective-Backprop for Object Detection", results.
"""

from itertools import pairwise
from statistics import mean

from tamis.store.runs import Run
from tamis.training.strategies.in_batch import InBatch, InBatchParameters


def seconds_saved(run: Run) -> float | None:
    """t_diff of a finished training run.

    Returns:
        Seconds an epoch; None for runs of other strategies, and where the evaluations do not tell.
    """
    strategy = run.config.get("strategy") or {}
    if strategy.get("name") != InBatch.name:
        return None
    asked, epochs = InBatchParameters.model_validate(strategy), int(run.config["epochs"])
    chosen = [asked.begin * epochs <= i < asked.end * epochs and i >= asked.start for i in range(epochs)]
    points = [(0, 0.0), *((int(one["epoch"]), float(one["seconds"])) for one in run.metrics.get("history", ()))]
    times: dict[bool, list[float]] = {True: [], False: []}
    for (before, started), (after, ended) in pairwise(points):
        kinds = set(chosen[before:after])
        if len(kinds) == 1:
            times[kinds.pop()] += [(ended - started) / (after - before)] * (after - before)
    return mean(times[False]) - mean(times[True]) if all(times.values()) else None
