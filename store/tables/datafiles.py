"""Data files of tables: Parquet, named by the attempt that wrote them and by the digest of their bytes.

`<attempt>-<digest>.parquet` holds the rows of one attempt, `merged.<version>-<digest>.parquet` those of many that had
been published when the head table was at that version, and `life.<version>-<digest>.parquet`, of a head, rows that say
what became of things (`tamis.store.tables.lives`). The name says what the bytes must hash to, so a file that was
damaged or exchanged is told without asking anything else. Files of earlier versions have other names and no digest;
they are read as they are.

A file is written under a name that nobody looks for and gets its own when it is whole.

Cost: writing one row takes 0.5 ms; hashing, 1 ms a megabyte.
"""

import contextlib
import functools
import hashlib
import json
import operator
import os
import re
import tempfile
import time
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.store.errors import StoreFormatError
from tamis.store.roots.roots import UNFINISHED, Root, reporting
from tamis.store.tables.arrow import pc
from tamis.store.tables.log import Action, damaged

_NAME = re.compile(
    r"(?:(?:merged|life)\.(?P<upto>\d{1,18})|(?P<attempt>[0-9a-z]{1,64}))-(?P<digest>[0-9a-f]{32})\.parquet"
)
LIFE = "life."  # how names of files begin that say what became of things, and publish nothing
LATE = "correct"  # a column that losses came to have after stores were written without it
_GROUP = 1 << 18  # rows of a row group: batches are gathered until there are so many, or so many bytes
_GROUP_BYTES = 64 << 20
_COMPRESSION: dict[str, Any] = {"compression": "zstd", "compression_level": 1}


@dataclass(frozen=True)
class Named:
    """What a file's name says of it."""

    attempt: str | None  # whose rows it holds; None where of several, or of a file of an earlier version
    upto: int | None  # of a merged file: the version of the head table by which all its rows were published
    digest: str | None


def named(path: str) -> Named:
    """What the name of a data file says."""
    found = _NAME.fullmatch(path.rpartition("/")[2])
    if found is None:
        return Named(None, None, None)
    return Named(found["attempt"], int(found["upto"]) if found["upto"] else None, found["digest"])


@dataclass(frozen=True)
class Layout:
    """How the rows of one table lie in its files.

    Attributes:
        schema: all columns.
        parts: those of them that are in a file's path, not in the file.
    """

    schema: pa.Schema
    parts: tuple[str, ...]

    @property
    def inside(self) -> pa.Schema:
        """The columns in the files."""
        return pa.schema([c for c in self.schema if c.name not in self.parts])


def write(
    root: Root, table: str, layout: Layout, batches: Iterable[pa.RecordBatch], prefix: str, folder: str = ""
) -> Action:
    """Write rows that share their partition as one file; returns Delta's `add` action for it.

    Args:
        root: the store's.
        table: the table's name.
        layout: of the table.
        batches: of the table's schema, at least one; what they raise comes out as it is.
        prefix: what the file's name begins with.
        folder: where in the table's folder the file goes, where partitions do not say that.
    """
    rows = iter(batches)
    first = next(rows)
    values = {c: first.column(c)[0].as_py() for c in layout.parts}
    place = "".join(f"{c}={value}/" for c, value in values.items()) or folder
    with _file(root, f"tables/{table}/{place}") as file:
        hashing = _Hashing(file)
        count, low, high, nulls = _write_rows(hashing, layout, first, rows)
        file.flush()
        path = f"{place}{prefix}-{hashing.digest}.parquet"
        _keep(root, f"tables/{table}/{path}", file)
    stats: dict[str, Any] = {"numRecords": count}
    if low is not None:
        stats |= {"minValues": {"epoch": low}, "maxValues": {"epoch": high}}
    if nulls:
        stats["nullCount"] = nulls
    return {
        "path": path, "partitionValues": values, "size": hashing.size, "dataChange": True,
        "modificationTime": time.time_ns() // 1_000_000, "stats": json.dumps(stats, separators=(",", ":")),
    }  # fmt: skip


def read(
    root: Root, table: str, layout: Layout, path: str, values: Mapping[str, str], columns: list[str] | None = None
) -> pa.Table | None:
    """The rows of a file, its digest checked where its name has one; None where the file is gone.

    Raises:
        StoreFormatError: the file is damaged.
    """
    name = f"tables/{table}/{path}"
    data = root.get(name)
    if data is None:
        return None
    check(f"{root.url}/{name}", named(path).digest, data)
    return parse(f"{root.url}/{name}", data, layout, values, columns)


def check(shown: str, digest: str | None, data: bytes) -> None:
    """Refuse bytes that are not those that were written.

    Raises:
        StoreFormatError: naming the file.
    """
    if digest is not None and hashlib.sha256(data).hexdigest()[:32] != digest:
        raise StoreFormatError(damaged(shown, "its bytes do not have the digest in its name"))


def parse(
    shown: str, data: bytes, layout: Layout, values: Mapping[str, str], columns: list[str] | None = None
) -> pa.Table:
    """The bytes of a file as rows; a column that it lacks is null, one that is in its path has that value."""
    wanted = layout.schema if columns is None else pa.schema([layout.schema.field(c) for c in columns])
    with reading(shown):
        file = pq.ParquetFile(pa.BufferReader(data))
        there = set(file.schema_arrow.names)
        rows = file.read([c for c in wanted.names if c in there and c not in layout.parts], use_threads=False)
        count = file.metadata.num_rows
        arrays = [
            pa.repeat(pa.scalar(values[c.name], c.type), count) if c.name in layout.parts
            else rows[c.name].cast(c.type) if c.name in there
            else pa.nulls(count, c.type)
            for c in wanted
        ]  # fmt: skip
        return pa.Table.from_arrays(arrays, schema=wanted)


@contextlib.contextmanager
def reading(shown: str) -> Generator[None]:
    """What Arrow says of a damaged file, in our own words.

    Raises:
        StoreFormatError: naming the file, or the table that it belongs to.
    """
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise StoreFormatError(damaged(shown, _line(error))) from error
    except OSError as error:
        if error.errno is not None:  # the medium's own: missing, not allowed, broken
            raise
        raise StoreFormatError(damaged(shown, _line(error))) from error


def matching(rows: pa.Table, wanted: Mapping[str, pa.Array]) -> pa.Table:
    """The rows whose columns have one of the wanted values each."""
    if not wanted:
        return rows
    terms = [pc.is_in(rows[c], value_set=values) for c, values in wanted.items()]
    return rows.filter(functools.reduce(pc.and_, terms)) if len(terms) > 1 else rows.filter(terms[0])


def either(terms: list[Any]) -> Any:
    """Expressions of Arrow joined by `and`; None for none."""
    return functools.reduce(operator.and_, terms) if terms else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(". ")


class _Hashing:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._total, self.size, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: Any) -> int:
        self._total.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        return None

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        return None

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    @property
    def digest(self) -> str:
        return self._total.hexdigest()[:32]


def _write_rows(
    file: _Hashing, layout: Layout, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]
) -> tuple[int, int | None, int | None, dict[str, int]]:
    """Write batches in row groups of a good size; returns how many rows, the range of their epochs, and of a column
    that came late how many are null: a file that does not say may lack it."""
    count, low, high = 0, None, None
    nulls = {LATE: 0} if LATE in layout.schema.names else {}
    with pq.ParquetWriter(pa.PythonFile(file, "w"), layout.inside, **_COMPRESSION) as writer:
        for group in _groups(first, rest):
            writer.write_table(group.select(layout.inside.names), row_group_size=1 << 20)
            count += len(group)
            nulls = {column: n + group[column].null_count for column, n in nulls.items()}
            if "epoch" in layout.schema.names and len(group):
                epochs = np.asarray(group["epoch"])
                low = int(epochs.min()) if low is None else min(low, int(epochs.min()))
                high = int(epochs.max()) if high is None else max(high, int(epochs.max()))
    return count, low, high, nulls


def _groups(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held, rows, size = [first], len(first), first.nbytes
    for batch in rest:
        if rows >= _GROUP or size >= _GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
        held.append(batch)
        rows += len(batch)
        size += batch.nbytes
    yield pa.Table.from_batches(held)


@contextlib.contextmanager
def _file(root: Root, folder: str) -> Generator[BinaryIO]:
    """A file to write to: in the folder where it will stay, or on this machine's disk until it is sent."""
    if root.path is None:
        with tempfile.NamedTemporaryFile(prefix="tamis-rows-") as file, reporting(tempfile.gettempdir()):
            yield file  # pyright: ignore[reportReturnType] - a wrapper with a file's methods
        return
    path = root.path / folder / f".{uuid.uuid4().hex}{UNFINISHED}"
    try:
        with reporting(root.url):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                yield file
    finally:
        path.unlink(missing_ok=True)


def _keep(root: Root, name: str, file: BinaryIO) -> None:
    if root.path is None:
        root.put(name, Path(file.name))
    else:
        os.replace(file.name, root.path / name)
