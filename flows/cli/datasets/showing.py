"""A dataset as commands print it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tamis.flows.cli.common import App
from tamis.flows.cli.output import emit, facts, size

if TYPE_CHECKING:
    from tamis.store.datasets import Dataset
    from tamis.store.shards.skipped import Skipped


def show_dataset(app: App, found: "Dataset", skipped: "Sequence[Skipped]" = (), **also: object) -> None:
    """Print a dataset, what was skipped, and what else is not empty."""
    from tamis.store import summaries

    answer = summaries.dataset(found) | {name: value for name, value in also.items() if value}
    if skipped:
        answer["skipped"] = [one.as_json() for one in skipped]
    told = {"skipped": "; ".join(map(str, skipped))} if skipped else {}
    emit(answer, app.as_json, lambda: facts(answer | {"bytes": size(found.bytes)} | told))
