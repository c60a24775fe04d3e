"""What applications saw: the rows of looks and of events that a run of Mainstream leaves, part by part."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tamis.store.tables.specs import TABLES


def watched_rows(table: str, run: str, attempt: str, source: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of one part.

    Args:
        table: "looks" or "events".
        run: the run's key.
        attempt: that writes them.
        source: of the frames.
        rows: the other columns.
    """
    same = {"run": run, "attempt": attempt, "source": source}
    return pa.Table.from_pylist([{**row, **same} for row in rows], schema=TABLES[table].schema)
