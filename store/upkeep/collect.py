"""Removing what nobody can ask for any more: old log, files that only old states of a table name, and what killed or
beaten writers left behind.

Kept: every published dataset, run, selection and package whole, but for those that were removed and are not in the
history that is kept (`tamis.store.upkeep.freeing`); every finished candidate; of the history (`--at`) the last `keep`
before the newest commit of each table; and every file younger than a day, which a writer may be about to name. Nothing
is removed that a name, a run or a replay needs, so it is safe beside writers and may be killed: what is left is found
the next time.

Ages are told by the clock of the medium (a file is written and looked at), and history by that of the log, not by this
machine's, which may be wrong.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamis.store.roots.roots import UNFINISHED
from tamis.store.tables.lives import COLUMNS, Life
from tamis.store.tables.log import Log
from tamis.store.tables.merging import removal
from tamis.store.tables.specs import TABLES
from tamis.store.upkeep.freeing import NOTHING, Freed, free, thinned

if TYPE_CHECKING:
    from tamis.store.store import Store

KEEP = dt.timedelta(days=30)
_GRACE = 24 * 3600.0  # seconds for which a file may have a writer that has not named it yet
_BLOBS_OF = ("runs", "bases", "candidates")  # tables that name blobs
_LOGGED = re.compile(r"(\d{20})\.(json|checkpoint.*\.parquet)")


@dataclass(frozen=True)
class Garbage:
    """A file that can go.

    Attributes:
        name: in the store.
        bytes: its size.
        why: "unfinished", "never published", "removed", "merged or replaced", "old log", or "old index".
    """

    name: str
    bytes: int
    why: str


def collect(store: "Store", *, keep: dt.timedelta = KEEP, dry_run: bool = False) -> list[Garbage]:
    """Remove what is not needed.

    Args:
        store: an open store.
        keep: how much history stays, before the newest commit of each table.
        dry_run: only say what would be removed.

    Returns:
        What was removed, or would be.
    """
    now = store.root.clock(probe=not dry_run)
    found: list[Garbage] = []
    freed = {table: _freed(store, table, keep, now, dry_run) for table in COLUMNS}
    for table in TABLES:
        found += _of_table(store, table, keep, now, dry_run, freed.get(TABLES[table].head or ""))
        found += _old_indexes(store, table, now)
    found += _lost_blobs(store, now, freed["runs"])
    found += _checkpoints(store, now, freed["runs"])
    found += [
        Garbage(name, size, "unfinished")
        for name, size, changed in store.root.unfinished()
        if now - changed > _GRACE and name.endswith(UNFINISHED)
    ]
    if not dry_run:
        found = [one for one in found if not _put_again(store, one, now)]
        for one in found:
            store.root.delete(one.name)
    return found


def _freed(store: "Store", table: str, keep: dt.timedelta, now: float, dry_run: bool) -> Freed:
    """What is freed of a head table."""
    log = Log(store.root, table)
    if log.latest() < 0:
        return NOTHING
    return free(store, table, log.at(int((now - keep.total_seconds()) * 1000)), dry_run=dry_run)


def _checkpoints(store: "Store", now: float, runs: Freed) -> Iterator[Garbage]:
    for run in sorted(runs.runs):
        for name, size, changed in store.root.aged(f"checkpoints/{run}"):
            if now - changed > _GRACE:
                yield Garbage(name, size, "removed")


def _lost_blobs(store: "Store", now: float, freed: Freed) -> list[Garbage]:
    """Blobs that no run, base model or candidate names: of writers that were killed, or of refused imports."""
    old = [(name, size) for name, size, changed in store.root.aged("blobs") if now - changed > _GRACE]
    named = {
        blob
        for table in (_BLOBS_OF if old else ())  # after the blobs: what was put since is young
        for blob in _blobs_of(store, table, freed)
    }
    return [Garbage(name, size, "never published") for name, size in old if name.rpartition("/")[2] not in named]


def _blobs_of(store: "Store", table: str, freed: Freed) -> list[str]:
    if table != "runs":
        return store.tables.read(table, None, ["blob"])["blob"].unique().to_pylist()
    rows = store.tables.read(table, None, ["run", "blob"]).to_pylist()
    return [row["blob"] for row in rows if row["run"] not in freed.runs]


def _put_again(store: "Store", one: Garbage, now: float) -> bool:
    """Whether a blob was put once more since it was found: somebody is about to name it."""
    changed = store.root.changed(one.name) if one.name.startswith("blobs/") else None
    return changed is not None and now - changed <= _GRACE


def _of_table(
    store: "Store", table: str, keep: dt.timedelta, now: float, dry_run: bool, freed: Freed | None
) -> Iterator[Garbage]:
    log = Log(store.root, table)
    newest = log.latest()
    if newest < 0:
        return
    folder = f"tables/{table}/"
    files = {name.removeprefix(folder): (size, changed) for name, size, changed in store.root.aged(f"tables/{table}")}
    old = {name for name, (_, changed) in files.items() if now - changed > _GRACE}
    if freed is not None and not dry_run:
        thinned(store, table, freed, int(now * 1000))
    removed = _removed(store, table, freed)
    lost = {path for path in _never_published(store, table, freed) | removed if path in old}
    if lost and not dry_run:
        parts = store.tables.state(table).layout.parts
        gone = [removal(p, dict(x.split("=", 1) for x in p.split("/")[: len(parts)]), int(now * 1000)) for p in lost]
        log.append([{"remove": one} for one in gone])
    for path in sorted(lost):
        yield Garbage(folder + path, files[path][0], "removed" if path in removed else "never published")
    begin = _begin(store, log, table, newest, keep, list(files))
    needed = _needed(store, log, table, begin)
    for path in sorted(old - lost):
        if path.startswith("_delta_log/"):
            found = _LOGGED.fullmatch(path.removeprefix("_delta_log/"))
            if found and int(found[1]) < begin:
                yield Garbage(folder + path, files[path][0], "old log")
        elif path.endswith(".parquet") and path not in needed:
            yield Garbage(folder + path, files[path][0], "merged or replaced")


def _begin(store: "Store", log: Log, table: str, newest: int, keep: dt.timedelta, files: list[str]) -> int:
    """The commit with which the history that is kept begins: one that has a checkpoint."""
    moment = log.clock(newest) - int(keep.total_seconds() * 1000)
    oldest, first = log.at(moment), log.first()
    marked = store.tables.marked(table)
    if oldest is None or marked is None:
        return first
    found = [_LOGGED.fullmatch(f.removeprefix("_delta_log/")) for f in files if "checkpoint" in f]
    at = [int(m[1]) for m in found if m and int(m[1]) <= min(oldest, marked)]
    return max(at, default=first)


def _needed(store: "Store", log: Log, table: str, begin: int) -> set[str]:
    """Every file that some state from `begin` on has."""
    needed = set(store.tables.state(table, {table: begin}).files["path"].to_pylist())
    for commit in log.after(begin):
        needed |= {str(add["path"]) for add in commit.adds}
    return needed


def _old_indexes(store: "Store", table: str, now: float) -> Iterator[Garbage]:
    """Files of indexes that were made again."""
    used = store.tables.index_of(table) if TABLES[table].is_head else None
    for name, size, changed in store.root.aged(f"index/{table}") if used is not None else ():
        if name.count("/") > 2 and not name.startswith(f"{used}/") and now - changed > _GRACE:
            yield Garbage(name, size, "old index")


def _removed(store: "Store", table: str, freed: Freed | None) -> set[str]:
    """Files that only freed things need."""
    if freed is None or not (freed.attempts or freed.runs):
        return set()
    files = store.tables.state(table).files.to_pylist()
    return {f["path"] for f in files if f["attempt"] in freed.attempts or f.get("run") in freed.runs}


def _never_published(store: "Store", table: str, freed: Freed | None) -> set[str]:
    """Files of attempts that no head names."""
    head = TABLES[table].head
    if head is None or TABLES[table].by_parts:
        return set()
    files = store.tables.state(table)  # before the head: what is appended later may be published by then
    named = set(store.tables.read(head, None, ["attempt"])["attempt"].to_pylist())
    lives = freed.lives if freed is not None else dict[str, Life]()
    paths: set[str] = set()
    for file in files.files.to_pylist():
        if file["attempt"] is None or file["attempt"] in named:
            continue
        old_run = table == "scores" and "attempt" in files.layout.parts  # of an earlier version: runs name no attempts
        life = lives.get(file["run"], Life()) if head == "runs" else Life()
        kept = (store.tables.found("runs", f"{table}/{file['run']}", n) for n in range(1, life.number + 1))
        claimed = head == "runs" and any(said is not None and said.note["attempt"] == file["attempt"] for said in kept)
        if not old_run and not claimed:
            paths.add(file["path"])
    return paths
