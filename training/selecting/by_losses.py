"""The losses that a method chooses by: which run's, and as what it takes.

A run is told by its dataset version and by having losses; which kind it is of does not matter: a training run, a loop
of one's own (`tamis.training.LossRecorder`), a scoring pass (`tamis score losses`).
"""

from dataclasses import replace

from tamis.curation.contract import Inputs
from tamis.store import Store
from tamis.store.advice import command
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.store.runs import Run
from tamis.training.signals.alike import alike


def run_of(store: Store, dataset: Dataset, key: str | None) -> Run:
    """The run of this key, or the newest one that has losses of a dataset version.

    Raises:
        RunNotFound: there is none, or it has none, or those of another version.
    """
    recorded, refs = store.runs.with_losses(), alike(store, dataset)
    if key is not None:
        run = store.runs.get(key)
        if run.key not in recorded or run.dataset not in refs:
            has = f"losses of {run.dataset}" if run.key in recorded else "no losses"
            raise RunNotFound(
                f"Run {run.key[:12]} has {has}, and those of {dataset.ref} are asked for. {_advice(store)}"
            )
        return run
    found = [run for run in store.runs.all() if run.dataset in refs and run.key in recorded]
    if not found:
        raise RunNotFound(
            f"No run has losses of {dataset.ref}: train with --record-losses, or record a loop of your own with "
            f"tamis.training.LossRecorder. {_advice(store)}"
        )
    return found[-1]


def with_losses(store: Store, inputs: Inputs, run: Run) -> Inputs:
    """The inputs, with the losses of a run and whether its predictions were right."""
    found = store.runs.losses(run.key, inputs.n)
    known = bool((found.correct_EN >= 0).any())
    return replace(inputs, losses_EN=found.losses_EN, correct_EN=found.correct_EN if known else None)


def _advice(store: Store) -> str:
    asked = '"select run, dataset from runs where run in (select run from losses)"'
    return f"{command(store.root, 'sql')} {asked} lists the runs with losses."
