"""A run, as its newest event tells it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tamis.store.processes import is_gone
from tamis.store.tables.claims import FINISHED as FINISHED
from tamis.store.tables.lives import place_of
from tamis.store.tables.log import Row

RUNNING, FAILED, INTERRUPTED = "running", "failed", "interrupted"


@dataclass(frozen=True)
class Run:
    """A run as its newest event tells it."""

    key: str
    kind: str
    dataset: str
    model: str | None
    config: dict[str, Any]
    selection: str | None
    status: str
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    blob: str | None = None
    error: str | None = None


def run_of(row: Mapping[str, Any]) -> Run:
    """The run of an event's row; of one that is under way and whose process is gone, that it was interrupted."""
    gone = row["status"] == RUNNING and is_gone(row.get("process"))
    return Run(
        row["run"], row["kind"], row["dataset"], row["model"], json.loads(row["config"]), row["selection"],
        INTERRUPTED if gone else row["status"], json.loads(row["metrics"]), json.loads(row["seconds"]), row["blob"],
        row["error"],
    )  # fmt: skip


def newest_runs(events: pa.Table) -> list[Row]:
    """The newest event of every run, the first that was begun first; `finished` is final.

    Args:
        events: rows of `runs`, of runs that are there.
    """
    state: dict[str, Row] = {}
    for row in sorted(events.to_pylist(), key=lambda row: (place_of(row), row["updated"])):
        there = state.get(row["run"])
        if there is None or there["status"] != FINISHED:
            state[row["run"]] = row
    return list(state.values())
