"""The store's Delta tables: schemas, appending, publishing, replacing losses, and which files a state has.

Two kinds of tables. A *head* has one row that makes a thing visible (a dataset version, a selection, a run's status); a
*payload* has the rows of the thing, in files named by the *attempt* that wrote them. An attempt's payload is appended
first, the head that names the attempt last, in one commit that claims the thing's key and its next version (see
`tamis.store.tables.heads`). What a killed or beaten attempt wrote is never named by a head and so never seen.

Because files belong to attempts, visibility is a matter of files: a view is a list of whole Parquet files, and reading
it costs nothing over reading the files. Small files of published attempts are folded together now and then
(`tamis.store.tables.merging`).

A table that a store lacks, made by an earlier version, reads as empty and is made by its first writer; a column that it
lacks reads as null and is added by its first writer.
"""

import datetime as dt
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError

from tamis.store.errors import TamisError, WriteConflict
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import patiently
from tamis.store.tables import datafiles
from tamis.store.tables.arrow import pc
from tamis.store.tables.claims import claims_of
from tamis.store.tables.datafiles import LIFE, Layout
from tamis.store.tables.heads import Heads
from tamis.store.tables.lives import NEEDED_BY, Life, is_life, life_of, said_of
from tamis.store.tables.log import Action, Commit, Log, Published, Row
from tamis.store.tables.merging import merge, removal
from tamis.store.tables.preparing import prepare
from tamis.store.tables.reading import Reading, in_order
from tamis.store.tables.snapshot import At as At
from tamis.store.tables.snapshot import Snapshot
from tamis.store.tables.specs import LOG, TIME
from tamis.store.tables.specs import TABLES as TABLES

# Without the first, Delta drops the log's entries, and with them every earlier state, after 30 days. The second keeps
# checkpoints small: which files are gone is known from the log, and `tamis gc` removes them.
_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": "interval 0 days",
}
_TRIES = 40
_UPKEEP = 32  # commits from one checkpoint to the next
# An append reads what all versions before it have: their files are kept fewer.
_UPKEEP_OF = {"datasets": 8, "shards": 8, "samples": 8}
_FILE_ROWS = 1 << 24


class Tables(Reading):
    """The Delta tables of one root. Every call reads the log as it is now."""

    def __init__(self, root: Root) -> None:
        super().__init__(root)
        self._layouts: dict[str, Layout] = {}  # of tables that were seen to be there; that does not change

    def create(self) -> None:
        """Make every table that is not there yet. Safe to repeat and to race."""
        for name in TABLES:
            self._prepared(name, making=True)

    def append(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> tuple[str, ...]:
        """Append one attempt's payload in one commit; returns its files. Appends never conflict.

        Nothing of it is visible until a head names the attempt.
        """
        layout, spec = self._prepared(name), TABLES[name]
        batches = iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)
        adds: list[Action] = []
        for part in _parts(batches):
            first = part[0]
            folder = f"{spec.folder}={first.column(spec.folder)[0].as_py()}/" if spec.folder else ""
            attempt = first.column("attempt")[0].as_py()
            adds.append(datafiles.write(self._root, name, layout, part[1], attempt, folder))
        self._upkeep(name, Log(self._root, name).append([{"add": add} for add in adds]))
        return tuple(add["path"] for add in adds)

    def publish(
        self,
        name: str,
        rows: Sequence[Row],
        claims: Mapping[str, int],
        note: Mapping[str, str] | None = None,
        unless: Mapping[str, int] | None = None,
        good: Callable[[Sequence[Commit]], bool] | None = None,
        since: int = -1,
    ) -> bool:
        """Commit rows of a head, if nobody has any of the claims; whether it was done (`tamis.store.tables.heads`).

        Args:
            name: a head table.
            rows: {column: value}; columns that are not given are null.
            claims: {what: version}.
            note: texts that are kept with the claims.
            unless, good, since: more conditions, as of `Heads.publish`.

        Raises:
            Barred: somebody has one of `unless`.
        """
        self._prepared(name)
        version = self._heads(name).publish([_plain(row) for row in rows], claims, note or {}, unless, good, since)
        if version is not None:
            self._upkeep(name, version)
        return version is not None

    def found(self, name: str, what: str, version: int) -> Published | None:
        """What a head published with a claim, or None."""
        return self._heads(name).get(what, version)

    def claimed(self, name: str, what: str) -> int:
        """The last version claimed for something, 0 for none."""
        return self._heads(name).newest(what)

    def claimed_of(self, name: str, *whats: str) -> list[int]:
        """As `claimed`, of several at one moment."""
        return self._heads(name).newest_of(*whats)

    def life(self, name: str, thing: str) -> Life:
        """What became of a thing of a head table."""
        return self._life(name, thing, self.claimed(name, f"moves/{thing}"))

    def last_of(self, name: str, thing: str, kind: str = "name") -> tuple[int, Life]:
        """The last version that was claimed for a name (`name/<thing>`), and what became of it, at one moment."""
        newest, moves = self.claimed_of(name, f"{kind}/{thing}", f"moves/{thing}")
        return newest, self._life(name, thing, moves)

    def _life(self, name: str, thing: str, moves: int) -> Life:
        said = self.found(name, f"moves/{thing}", moves) if moves else None
        return Life() if said is None else life_of(name, said.rows[0])

    def every(self, name: str, what: str) -> list[Row]:
        """The rows that a head published for each version of something, in order."""
        return [row for said in self._heads(name).every(what) for row in said.rows]

    def replace(self, name: str, run: str, epoch: int, rows: pa.Table) -> None:
        """Put one epoch's losses in place of those that are there, in one commit, however many do the same.

        Raises:
            WriteConflict: others were faster every time.
        """
        add = datafiles.write(self._root, name, self._prepared(name), rows.to_batches(), new_attempt())
        log = Log(self._root, name)
        for wait in _waits():
            state = self.state(name)
            there = self._with_epoch(state, run, epoch)
            actions: list[Action] = [{"remove": removal(f["path"], {"run": run}, _ms(), True)} for f in there]
            rest = [self._without(state, f, epoch) for f in there if f["low"] != f["high"]]
            actions += [{"add": one} for one in (add, *rest)]
            if self._commit(log, state.version, actions, run):
                self._upkeep(name, state.version + 1)
                return
            for one in rest:
                self._root.delete(f"tables/{name}/{one['path']}")
            time.sleep(wait)
        raise WriteConflict(
            f"Table {name} of {self._root.url}: {_TRIES} tries to write epoch {epoch} of run {run} lost to "
            "other writers. Run the command again."
        )

    def drop_run(self, name: str, run: str, upto: int) -> None:
        """Take the files of a run from a table that had them at a version; what merging made of them too.

        Raises:
            WriteConflict: others were faster every time.
        """
        log = Log(self._root, name)
        for wait in _waits():
            state = self.state(name)
            mine = state.of(run=pa.array([run])).to_pylist() if len(state.files) else []
            fresh = {add["path"] for commit in log.after(upto) for add in commit.adds if add.get("dataChange")}
            gone = [removal(f["path"], {"run": run}, _ms(), True) for f in mine if f["path"] not in fresh]
            if not gone or self._commit(log, state.version, [{"remove": one} for one in gone], run):
                return
            time.sleep(wait)
        raise WriteConflict(f"Table {name} of {self._root.url}: {_TRIES} tries to clear run {run} lost. Try again.")

    def last_epoch(self, name: str, run: str) -> int:
        """The last epoch that a table has of a run; -1 for none."""
        return max((f["high"] for f in self._epochs(self.state(name), run)), default=-1)

    def drop_attempt(self, name: str, paths: Sequence[str]) -> None:
        """Forget the payload of an attempt that was beaten. Nobody saw it; failing to forget it costs disk, no more."""
        parts = self._prepared(name).parts
        try:
            values = [dict(p.split("=", 1) for p in path.split("/")[: len(parts)]) for path in paths]
            gone = [removal(path, v, _ms()) for path, v in zip(paths, values, strict=True)]
            Log(self._root, name).append([{"remove": one} for one in gone])
            for path in paths:
                self._root.delete(f"tables/{name}/{path}")
        except (TamisError, OSError):
            return

    def marked(self, name: str) -> int | None:
        """Up to which commit the index of a head holds; of a payload, which has none, all; None where it is missing."""
        return self._heads(name).marked() if TABLES[name].is_head else Log(self._root, name).latest()

    def index_of(self, name: str) -> str | None:
        """The folder in the store with the index that is in use for a head; None where there is none."""
        return self._heads(name).generation()

    def derived(self, name: str) -> list[Published]:
        """All that a head publishes, in order, told from its rows alone."""
        return self._derived(self.state(name))

    def _derived(self, state: Snapshot) -> list[Published]:
        rows = in_order(self._rows_of(state, state.files)).to_pylist()
        return [*claims_of(state.table, map(_plain, rows)), *self._bars(state.table)]

    def _bars(self, name: str) -> Iterator[Published]:
        """What bars a head's publications: everything that they may need and that somebody removed, or wanted to."""
        for table in (one for one, those in NEEDED_BY.items() if name in those):
            state = self.state(table)
            for row in self._rows_of(state, state.life).to_pylist() if len(state.life) else ():
                fates = said_of(table, row).get("fates", {})
                yield from (Published((), {f"bar/{table}/{thing}": number}) for thing, number in fates.items())

    def _heads(self, name: str) -> Heads:
        def derive() -> tuple[int, list[Published]]:
            state = self.state(name)
            return state.version, self._derived(state)

        def write(rows: Sequence[Row]) -> list[Action]:
            table = _table(name, rows)
            prefix = f"{LIFE}{rows[0][LOG]}" if is_life(name, rows[0]) else f"{rows[0][LOG]:020d}"
            return [datafiles.write(self._root, name, self._prepared(name), table.to_batches(), prefix)]

        return Heads(self._root, name, derive, write)

    def _prepared(self, name: str, *, making: bool = False) -> Layout:
        """How a table is laid out, once it is there and has every column that we know of."""
        if name not in self._layouts:
            parts = prepare(self._root, name, _CONFIGURATION, making=making)
            self._layouts[name] = Layout(TABLES[name].schema, parts)
        return self._layouts[name]

    def _with_epoch(self, state: Snapshot, run: str, epoch: int) -> list[dict[str, Any]]:
        return [f for f in self._epochs(state, run) if f["low"] <= epoch <= f["high"]]

    def _epochs(self, state: Snapshot, run: str) -> list[dict[str, Any]]:
        """The files of a run, `low` and `high` known."""
        files = state.of(run=pa.array([run])).to_pylist()
        for file in files:
            if file["low"] is None or file["high"] is None:  # a writer that keeps no statistics
                epochs = self._file(state, file, ["epoch"])["epoch"]
                file["low"], file["high"] = pc.min(epochs).as_py(), pc.max(epochs).as_py()
        return files

    def _without(self, state: Snapshot, file: Mapping[str, Any], epoch: int) -> Action:
        """A file of several epochs as one without an epoch."""
        rows = self._file(state, file, state.layout.schema.names)
        kept = rows.filter(pc.not_equal(rows["epoch"], epoch)).combine_chunks()
        return datafiles.write(self._root, state.table, state.layout, kept.to_batches(), new_attempt())

    def _commit(self, log: Log, version: int, actions: list[Action], run: str) -> bool:
        """Commit behind a state, also behind commits that do not touch the run."""
        for _ in range(_TRIES):
            if log.put(version + 1, actions, clock=log.clock(version)):
                return True
            others = log.after(version)
            touched = [a.get("partitionValues") or {} for c in others for a in (*c.adds, *c.removes)]
            if not others or any(values.get("run", run) == run for values in touched):
                return False
            version = others[-1].version
        return False

    def _upkeep(self, name: str, version: int) -> None:
        """Now and then: merge small files, and write a checkpoint. What was committed is there with or without."""
        every = _UPKEEP_OF.get(name, _UPKEEP)
        if version % every:
            return
        try:
            head = TABLES[name].head
            if head is None:
                merge(self._root, state := self.state(name), None, state.version, every // 2)
            elif TABLES[name].by_parts:
                merge(self._root, self.state(name), None, 0, every // 2)
            elif head != "runs":  # a run's payload is one attempt in a partition of its own
                heads = self.state(head)  # first: what it names is in the payload's state
                merge(self._root, self.state(name), self.attempts(heads), heads.version, every // 2)
            patiently(self._root.url, self.options, self.open(name).create_checkpoint)
        except (TamisError, DeltaError, OSError):
            return


def new_attempt() -> str:
    """A name that no other attempt has."""
    return uuid.uuid4().hex


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def rows_of(name: str, columns: Mapping[str, Any], count: int) -> pa.Table:
    """Columns as a table of the named schema; a scalar is repeated for every row."""
    schema = TABLES[name].schema
    arrays = [_column(columns[field.name], field.type, count) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def moment_of(value: object) -> dt.datetime | None:
    """A time of a head's row, which is text where the row comes from the log."""
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value  # type: ignore[return-value]  # as read


def _column(value: Any, kind: pa.DataType, count: int) -> pa.Array | pa.ChunkedArray:
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value if value.type == kind else value.cast(kind)
    if hasattr(value, "__array__"):
        return pa.array(value, kind)
    return pa.repeat(pa.scalar(value, kind), count)


def _plain(row: Mapping[str, Any]) -> Row:
    """A row as plain JSON."""
    return {c: v.isoformat() if isinstance(v, dt.datetime) else v for c, v in row.items()}


def _table(name: str, rows: Sequence[Row]) -> pa.Table:
    schema = TABLES[name].schema
    full = [{c.name: row.get(c.name) for c in schema} for row in rows]
    times = [c.name for c in schema if c.type == TIME]
    return pa.Table.from_pylist([row | {c: moment_of(row[c]) for c in times} for row in full], schema=schema)


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, Iterator[pa.RecordBatch]]]:
    """The batches of one file after another: its first, and all of them."""
    first = next(batches, None)
    while first is not None:
        following: list[pa.RecordBatch] = []
        yield first, _limited(first, batches, following)
        first = following[0] if following else None


def _limited(
    first: pa.RecordBatch, batches: Iterator[pa.RecordBatch], following: list[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    count = len(first)
    yield first
    for batch in batches:
        if count + len(batch) > _FILE_ROWS:
            following.append(batch)
            return
        count += len(batch)
        yield batch


def until_claimed(attempt: Callable[[], Any], what: str) -> Any:
    """Call `attempt` until it answers something other than None: each None is a commit that another writer beat."""
    for wait in _waits():
        answer = attempt()
        if answer is not None:
            return answer
        time.sleep(wait)
    raise WriteConflict(f"{what}: {_TRIES} attempts lost to other writers. Try again with fewer concurrent writers.")


def _ms() -> int:
    return time.time_ns() // 1_000_000


def _waits() -> list[float]:
    """Pauses between tries, s: doubling from 5 ms to half a second, each drawn at random so that rivals part."""
    return [random.random() * min(0.005 * 2**i, 0.5) for i in range(_TRIES)]
