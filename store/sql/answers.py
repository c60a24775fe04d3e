"""Answers to queries for other programs and for people: CSV, JSON, Parquet and rows of text, as they are computed.

DuckDB has more types than any of these forms, and more values than Python: days beyond the year 9999, `infinity`,
whole numbers of 128 bits. So what a form has no type for is turned into text by DuckDB itself, before it gets here:

* CSV: numbers, booleans and text as they are; lists, structs and maps as JSON; all else as DuckDB writes it
  (`2026-11-20 10:00:00+00`, `infinity`, `1 day`, `\\xAA`).
* JSON: one array of objects. Numbers of any size and precision are numbers, lists and structs are what they are, and
  NaN and infinities, which JSON does not have, are the texts "NaN", "Infinity" and "-Infinity".
* Parquet: everything it has a type for keeps its type; all else as in CSV.

Memory is that of some ten thousand rows, whatever the size of the answer.
"""

import io
import itertools
import re
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from tamis.store.sql.query import Asked, batches, distinct, project
from tamis.store.tables.arrow import pc

FORMS = ("csv", "json", "parquet")
_ROWS = 20_000  # written at a time
_NUMBERS = {
    "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint", "float", "double",
}  # fmt: skip
_PLAIN = {"boolean", "varchar", *_NUMBERS}
_NESTED = {"list", "array", "struct", "map", "union", "variant"}
_PARQUET = {
    *_PLAIN, "decimal", "date", "time", "timestamp", "timestamp_ns",
    "timestamp with time zone", "blob", "uuid", "enum",
}  # fmt: skip
# Types that Arrow or Parquet have in part: whole numbers of 128 bits have 38 digits there, seconds are stored as ms.
_WIDER = {
    "hugeint": "decimal(38, 0)", "uhugeint": "decimal(38, 0)", "timestamp_s": "timestamp", "timestamp_ms": "timestamp",
}  # fmt: skip
# A text of a JSON document, or one of the numbers that JSON does not have.
_NOT_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)\b', re.DOTALL)


class Kind(Protocol):
    """A type of DuckDB's."""

    @property
    def id(self) -> str: ...
    @property
    def children(self) -> list[tuple[str, Any]]: ...


def write(asked: Asked, form: str, file: BinaryIO) -> None:
    """Write an answer in one of `FORMS`.

    Raises:
        QueryError: DuckDB cannot go on; what was written by then stays.
    """
    {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[form](asked, file)


def rows_of_text(asked: Asked, limit: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
    """The first rows of an answer for people.

    Returns:
        The names of the columns; the rows, in which a value is a number, a boolean, a text or None; and whether there
        are more.
    """
    shown = _projected(asked, _for_people, limit + 1)
    schema, found = batches(shown, _ROWS)
    table = pa.Table.from_batches(list(found), schema)
    columns = [column.to_pylist() for column in table.slice(0, limit).columns]
    return schema.names, list(zip(*columns, strict=True)), len(table) > limit


def _write_csv(asked: Asked, file: BinaryIO) -> None:
    import pyarrow.csv as pacsv

    nested = [i for i, kind in enumerate(asked.relation.types) if kind.id in _NESTED]
    schema, found = batches(_projected(asked, _for_csv), _ROWS)
    first = True
    for batch in itertools.chain([pa.RecordBatch.from_pylist([], schema)], found):
        columns = [_valid(c) if i in nested else c for i, c in enumerate(batch.columns)]
        rows = pa.Table.from_arrays(columns, schema=schema)
        options = pacsv.WriteOptions(include_header=first)
        file.write(_in_memory(lambda sink, rows=rows, options=options: pacsv.write_csv(rows, sink, options)))
        first = False


def _write_json(asked: Asked, file: BinaryIO) -> None:
    pairs = ", ".join(f"{_quoted(name)}, #{i}" for i, name in enumerate(distinct(asked.relation.columns), 1))
    _, found = batches(project(asked, [(f"json_object({pairs})::varchar", "row")]), _ROWS)
    begun = False
    for batch in found:
        lines = ",\n  ".join(_valid(batch.column(0)).to_pylist())
        file.write(f"{',' if begun else '['}\n  {lines}".encode())
        begun = True
    file.write(b"\n]\n" if begun else b"[]\n")


def _write_parquet(asked: Asked, file: BinaryIO) -> None:
    import pyarrow.parquet as pq

    schema, found = batches(_projected(asked, _for_parquet), _ROWS * 10)
    with pq.ParquetWriter(_Sink(file), schema) as writer:
        for batch in found:
            writer.write_batch(batch)


class _Sink(io.RawIOBase):
    """A file that pyarrow may close without closing it: it may be our stdout."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._written = file, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._file.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written


def _projected(asked: Asked, form: Callable[[Kind, str], str], limit: int | None = None) -> Asked:
    """Each column as a form has it, under a name of its own."""
    names = distinct(asked.relation.columns)
    kinds = asked.relation.types
    columns = [(form(kind, f"#{i}"), name) for i, (kind, name) in enumerate(zip(kinds, names, strict=True), 1)]
    return project(asked, columns, limit)


def _for_csv(kind: Kind, column: str) -> str:
    if kind.id in _PLAIN:
        return column
    return f"to_json({column})::varchar" if kind.id in _NESTED else f"{column}::varchar"


def _for_parquet(kind: Kind, column: str) -> str:
    if kind.id in _WIDER:
        return f"{column}::{_WIDER[kind.id]}"
    return column if _in_parquet(kind) else _for_csv(kind, column)


def _in_parquet(kind: Kind) -> bool:
    if kind.id in ("list", "array", "struct", "map"):
        return all(_in_parquet(part) for name, part in kind.children if name != "size" or kind.id == "struct")
    return kind.id in _PARQUET


def _for_people(kind: Kind, column: str) -> str:
    if kind.id in _PLAIN:
        return column
    return f"date_trunc('second', {column})::varchar" if kind.id.startswith("timestamp") else f"{column}::varchar"


def _valid(texts: pa.Array) -> pa.Array:
    """DuckDB's JSON with the numbers that JSON does not have as texts."""
    odd = pc.match_substring_regex(texts, "NaN|Infinity")
    if not pc.any(odd).as_py():
        return texts
    return pa.array([t and _NOT_JSON.sub(_as_text, t) for t in texts.to_pylist()], pa.string())


def _as_text(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else f'"{found[0]}"'


def _in_memory(write: Callable[[pa.BufferOutputStream], None]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
