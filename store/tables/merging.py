"""Folding the small files of a table together, so that reading it does not grow with the number of publications.

When: by whoever commits every 32nd version of a table, every 8th of those that appends read. What: files of less than
1 MiB that share a partition; of a payload, only those of published attempts, so that a merged file is visible as a
whole. Which state of the head table that was is in the file's name: a query that looks at an earlier state takes the
rows of its own attempts only.

The old files stay where they are for those that look back, until `tamis gc` removes them. A commit that merges changes
no row; where somebody else took one of its files away meanwhile, it is given up, and the next one does more.

Cost: reading and writing what is merged, at most some MiB a partition, once every 32 commits.
"""

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa

from tamis.store.roots.roots import Root
from tamis.store.tables import datafiles
from tamis.store.tables.datafiles import LIFE
from tamis.store.tables.log import Action, Log
from tamis.store.tables.snapshot import Snapshot
from tamis.store.tables.specs import LOG, TABLES

_SMALL = 1 << 20  # bytes
_TRIES = 100
_ORDER = {
    "selection_rounds": ["selection", "round"],
    "selection_samples": ["selection", "round", "rank"],
    "shards": ["shard"],
    "samples": ["sample"],
    "losses": ["epoch", "sample"],
    "looks": ["seconds", "application"],
    "events": ["ends", "application"],
}


def merge(root: Root, state: Snapshot, published: Collection[str] | None, upto: int, few: int) -> bool:
    """Merge what is small in one state of a table; whether anything was merged.

    Args:
        root: the store's.
        state: the table as it is.
        published: of a payload, the attempts that its head names; None for all files.
        upto: the version of the head table that names them.
        few: how many files of a partition are left as they are.
    """
    actions: list[Action] = []
    for group in _groups(state, published, few):
        actions += _merged(root, state, group, upto)
    return bool(actions) and _commit(Log(root, state.table), state.version, actions)


def _groups(state: Snapshot, published: Collection[str] | None, few: int) -> Iterator[list[dict[str, object]]]:
    """Small files that may be one."""
    together: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for file in state.files.to_pylist():
        known = published is None or file["upto"] is not None or file["attempt"] in published
        if file["bytes"] < _SMALL and known:
            life = str(file["path"]).startswith(LIFE)
            together.setdefault((life, *(file[c] for c in state.layout.parts)), []).append(file)
    return (group for group in together.values() if len(group) > few)


def _merged(root: Root, state: Snapshot, group: list[dict[str, object]], upto: int) -> list[Action]:
    values = {c: str(group[0][c]) for c in state.layout.parts}
    parts = [datafiles.read(root, state.table, state.layout, str(f["path"]), values) for f in group]
    read = [p for p in parts if p is not None]
    if len(read) < len(group):
        return []  # somebody merged or removed them meanwhile
    rows = pa.concat_tables(read)
    order = [LOG] if TABLES[state.table].is_head else _ORDER.get(state.table)
    if order:
        rows = rows.sort_by([(c, "ascending") for c in order])
    batches = rows.combine_chunks().to_batches()
    prefix = LIFE if str(group[0]["path"]).startswith(LIFE) else "merged."
    add = datafiles.write(root, state.table, state.layout, batches, f"{prefix}{upto}")
    if any(f["path"] == add["path"] for f in group):
        return []
    gone = [{"remove": removal(str(f["path"]), values, add["modificationTime"])} for f in group]
    return [*gone, {"add": {**add, "dataChange": False}}]


def rewritten(root: Root, state: Snapshot, file: Mapping[str, object], rows: pa.Table, moment: int) -> bool:
    """Put fewer rows in place of a merged file; False where somebody merged or removed it meanwhile.

    Args:
        root: the store's.
        state: of the table.
        file: one of its files.
        rows: those that stay, none at all too.
        moment: now, ms since 1970.
    """
    values = {c: str(file[c]) for c in state.layout.parts}
    actions: list[Action] = [{"remove": removal(str(file["path"]), values, moment, True)}]
    if len(rows):
        batches = rows.combine_chunks().to_batches()
        actions.append({"add": datafiles.write(root, state.table, state.layout, batches, f"merged.{file['upto']}")})
    return _commit(Log(root, state.table), state.version, actions)


def removal(path: str, values: dict[str, str], moment: int, changes: bool = False) -> Action:
    """Delta's `remove` action for a file.

    Args:
        path: in the table's folder.
        values: of its partition.
        moment: now, ms since 1970.
        changes: whether rows go with it.
    """
    return {
        "path": path, "deletionTimestamp": moment, "dataChange": changes, "extendedFileMetadata": True,
        "partitionValues": values, "size": 0,
    }  # fmt: skip


def _commit(log: Log, version: int, actions: list[Action]) -> bool:
    mine = {a["remove"]["path"] for a in actions if "remove" in a}
    for _ in range(_TRIES):
        if log.put(version + 1, actions, clock=log.clock(version)):
            return True
        others = log.after(version)
        if any(r["path"] in mine for c in others for r in c.removes):
            return False
        version = others[-1].version if others else version
    return False
