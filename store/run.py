"""A run, as its newest event tells it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tamis.store.processes import is_gone
from tamis.store.tables.claims import FINISHED as FINISHED

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
