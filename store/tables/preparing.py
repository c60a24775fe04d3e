"""Making a table, or adding the columns that it lacks, before its first writer writes. Safe to repeat and to race.

`index/<table>/layout.json` says what was found, so that a table is opened for this once in its life.
"""

import json
from functools import partial

from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError

from tamis.store.errors import StoreFormatError, WriteConflict
from tamis.store.roots.roots import Root, reporting
from tamis.store.roots.waiting import patiently
from tamis.store.tables.log import digest_of
from tamis.store.tables.snapshot import layout_name, open_table, understood
from tamis.store.tables.specs import TABLES

_TRIES = 20


def prepare(root: Root, name: str, configuration: dict[str, str], *, making: bool = False) -> tuple[str, ...]:
    """See to it that a table is there with all its columns; returns the columns that are in its files' paths.

    Args:
        root: the store's.
        name: of the table.
        configuration: of a new table, in Delta's words.
        making: the store is being made: none of its tables need be there.

    Raises:
        WriteConflict: others changed the table every time.
    """
    kept = layout_name(name)
    wanted = digest_of({c.name: str(c.type) for c in TABLES[name].schema})
    known = _layout(root.get(kept))
    if known is not None and known[0] == wanted:
        return known[1]
    for _ in range(_TRIES):
        table = open_table(root, name, making=making) or _make(root, name, configuration)
        if table is not None and _complete(root, name, table):
            parts = tuple(table.metadata().partition_columns)
            root.put(kept, json.dumps({"columns": wanted, "partition_by": list(parts)}).encode() + b"\n")
            return parts
    raise WriteConflict(
        f"Table {name} of {root.url} was changed by other writers {_TRIES} times. Run the command again."
    )


def _layout(data: bytes | None) -> tuple[str, tuple[str, ...]] | None:
    try:
        said = json.loads(data) if data else None
        return (said["columns"], tuple(said["partition_by"])) if said else None
    except (ValueError, KeyError, TypeError):
        return None  # it is made again


def _make(root: Root, name: str, configuration: dict[str, str]) -> DeltaTable | None:
    spec = TABLES[name]
    try:
        with understood(root, name), reporting(root.url):
            make = partial(
                DeltaTable.create,
                root.table_uri(name),
                spec.schema,
                mode="ignore",
                partition_by=list(spec.partition_by) or None,
                configuration=configuration,
                storage_options=root.table_options,
            )
            return patiently(root.url, root.options, make)
    except (DeltaError, StoreFormatError):
        return open_table(root, name)  # somebody else made it at the same time, or it is damaged and this says so


def _complete(root: Root, name: str, table: DeltaTable) -> bool:
    """Add the columns that a table of an earlier version lacks; False where others were in the way."""
    there = {f.name for f in table.schema().fields}
    missing = [f for f in Schema.from_arrow(TABLES[name].schema).fields if f.name not in there]
    if not missing:
        return True
    try:
        with reporting(root.url):
            patiently(root.url, root.options, lambda: table.alter.add_columns(missing))
    except CommitFailedError:
        return False
    return True
