"""Runs that one of several processes does: who begins a run first has it.

What: `claim` begins a run that nobody else is at work on, `release` gives one up. Runs are events with numbers, each of
which is published once (`tamis.store.tables.heads`): of all that see the same last event, one gets the next.
Cost: as beginning a run: a few small reads and a commit.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tamis.store.keys import check_name
from tamis.store.runs import FAILED, FINISHED, INTERRUPTED, RUNNING, Run, Runs
from tamis.store.tables.tables import now


def claim(
    runs: Runs,
    *,
    kind: str,
    key: str,
    dataset: str,
    model: str | None = None,
    config: Mapping[str, Any] | None = None,
    patience: float = float("inf"),
) -> bool:
    """Begin a run that nobody else is at work on; False where it has ended, or somebody is.

    A run whose process is gone is taken over. Of another machine's process nothing can be told: it is taken over when
    it began longer than `patience` seconds ago.

    Args:
        runs: of the store.
        kind, key, dataset, model, config: as in `Runs.begin`.
        patience: s.
    """
    events, there, begun = runs.newest(check_name(key, "run"))
    if there is not None and begun is not None:
        late = (now() - begun).total_seconds() > patience
        if there.status in (FINISHED, FAILED) or (there.status == RUNNING and not late):
            return False
    return runs.event(Run(key, kind, dataset, model, dict(config or {}), None, RUNNING), after=events)


def release(runs: Runs, key: str) -> None:
    """Give up a run that was claimed and has not ended, so that another may claim it at once."""
    events, there, _ = runs.newest(key)
    if there is not None and there.status == RUNNING:
        runs.event(replace(there, status=INTERRUPTED), after=events)
