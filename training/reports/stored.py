"""Stored losses of a dataset's samples, as reports read them: of a scoring run, or those that a training run recorded.

What: `losses_run` finds the run, `losses_of` reads its numbers. Of a training run, the mean over its epochs counts, of
losses that the epoch itself computed: a wrong label is learnt late, so that its mean is high even where the last loss
no longer is.
Cost: one read of the run's rows; 8 bytes a sample.

Legend: N samples, R of them with rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.advice import command
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.store.runs import FINISHED, Run
from tamis.training.signals.alike import alike

Floats = NDArray[np.float64]


def losses_run(store: Store, dataset: Dataset, key: str | None, features: Run) -> Run:
    """The run of this key, whose losses are asked for, or the newest scoring run by the model that made some features.

    Args:
        store: the store.
        dataset: the version whose samples it scored.
        key: of a scoring run, or of a training run that recorded losses.
        features: the run of the features.

    Raises:
        RunNotFound: there is none, or it is of another dataset version.
    """
    if key is not None:
        return _of(store, store.runs.get(key), dataset)
    model = features.config.get("model")
    found = [
        r
        for r in store.runs.all()
        if (r.kind, r.status, r.dataset) == ("score", FINISHED, dataset.ref)
        and r.config.get("model") == model
        and _has_loss(r.config.get("hard"))
    ]
    if not found:
        run = features.config.get("model_run") or "KEY"
        computing = command(store.root, "score", "uncertainty", "--dataset", dataset.ref, "--run", run)
        raise RunNotFound(
            f"There are no losses of {dataset.ref} by the model of the features yet. Compute them: {computing}, or "
            "name a run with losses."
        )
    return found[-1]


def _has_loss(hard: Any) -> bool:
    return isinstance(hard, dict) and "loss" in hard


def _of(store: Store, run: Run, dataset: Dataset) -> Run:
    if run.kind not in ("score", "train") or run.dataset not in alike(store, dataset):
        listing = command(store.root, "run", "ls", "--kind", "score")
        raise RunNotFound(
            f"Run {run.key[:12]} is a {run.kind} run of {run.dataset}: expected a scoring or training run of "
            f"{dataset.ref}. {listing} lists those with scores."
        )
    return run


def losses_of(store: Store, run: Run, count: int) -> Floats:
    """[count] the losses of a run; NaN where it has none.

    Raises:
        RunNotFound: it has none at all.
        SelectionError: they are of another version.
    """
    if run.kind == "score":
        return store.runs.scores(run.key, "loss", count)
    found = store.query(
        "select sample, avg(loss) as loss from losses where run = $run and loss_epoch = epoch group by sample",
        {"run": run.key},
    )
    samples_R = np.asarray(found["sample"], np.int64)
    if not len(samples_R) or samples_R.max() >= count:
        raise RunNotFound(
            f"Run {run.key[:12]} recorded losses of {len(samples_R)} samples, for a dataset of {count}: name a scoring "
            "run with the metric loss, or a training run that records losses."
        )
    losses_N = np.full(count, np.nan)
    losses_N[samples_R] = np.asarray(found["loss"].to_pylist(), np.float64)
    return losses_N
