"""Read-only SQL over a store, by DuckDB.

A connection is made for each query: in memory, with one view a table it names over an explicit list of Parquet files.
On an object store, which DuckDB has no way to, the views stand over pyarrow datasets of the same files: what a query
asks for (columns, filters) is handed on to them.
It can open nothing but those files, for reading (`tamis.store.sql.files`); only statements that read are taken
(`tamis.store.sql.statements`). Because the views are lists of files, a query sees one state of the store from its
beginning to its end, whatever is published meanwhile; `at` makes that an earlier state.

Cost: reading the logs of the tables that are named, about 5 ms each, before DuckDB begins; then what DuckDB costs on
the same files by hand. Memory is bounded (`tamis.store.sql.files.memory_limit`), and so is that of an answer.
"""

import concurrent.futures
import contextvars
import datetime as dt
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from tamis.store.datasets.changes import overlaid
from tamis.store.errors import QueryError, TamisError
from tamis.store.roots.objects import explained, reaching
from tamis.store.roots.roots import Root
from tamis.store.sql.files import MEMORY, TableFiles, connect, lock, memory_limit
from tamis.store.sql.statements import tables_read, translated, without_semicolons
from tamis.store.sql.views import DERIVED, VIEWS, Visible, changes_at, gone, living, tables_of, view, visible
from tamis.store.tables.tables import TABLES, At, Tables

T = TypeVar("T")
_GRACE = 1.5  # s that DuckDB is given to hear of an interruption
Rows = Sequence[Mapping[str, Any]]
Params = Sequence[Any] | Mapping[str, Any] | None

_SQL_TYPES = {
    pa.string(): "varchar", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "float", pa.float64(): "double",
    pa.bool_(): "boolean", pa.timestamp("us", tz="UTC"): "timestamptz",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A query that has been understood, and whose answer is computed as it is read.

    Attributes:
        relation: the answer.
        connection: what it runs on.
        files: what it may open.
        where: the store's URL.
        memory: bytes that it may take.
    """

    relation: duckdb.DuckDBPyRelation
    connection: duckdb.DuckDBPyConnection
    files: TableFiles
    where: str
    memory: int


def ask(
    tables: Tables,
    root: Root,
    query: str,
    params: Params = None,
    at: At = None,
    memory: int | None = None,
    begun: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> Asked:
    """Ask one reading statement.

    Args:
        tables: the store's tables.
        root: the store's root.
        query: SQL.
        params: values of its parameters.
        at: a time, or `{table: version}`; None for now.
        memory: bytes that the query may take, and the answer; None for `memory_limit()`.
        begun: is given the connection before anything runs on it, for whoever may interrupt it from another thread.

    Raises:
        QueryRefused: the statement would write, or reads files outside the store.
        QueryError: DuckDB cannot run it.
    """
    _check_versions(at)
    memory = memory or memory_limit()
    files = TableFiles()
    try:
        asked_for = tables_read(query, VIEWS)
        names = tables_of(asked_for)
        with ThreadPoolExecutor(1) as pool:  # making a connection takes as long as reading the logs
            making = pool.submit(connect, files, memory)
            shown = visible(tables, names, at)
            connection = making.result()
        if begun is not None:
            begun(connection)
        connection.execute("set variable gone = ?::varchar[]", [gone(tables, at) if "runs" in names else []])
        changes = changes_at(tables, at) if {"datasets", "shards"} & names else []
        paths: dict[str, list[str]] = {}
        for name, one in shown.items():
            if root.path is None and len(one.files):
                _create_remote_view(connection, tables, name, one, changes)
            else:
                paths[name] = files.add(name, tables.folder(name), one.files)
                _create_view(connection, tables, paths[name], name, one, changes)
        for name in asked_for & DERIVED.keys():
            connection.execute(f"create view {name} as {DERIVED[name]}")
        for name, every in paths.items():
            connection.execute(f"set variable files_{name} = ?", [every])
        lock(connection, reads_files=root.path is not None)
        with reaching(root.url):
            bare = without_semicolons(query)
            relation = _until_interrupted(connection, files, lambda: connection.sql(bare, params=params))
    except duckdb.Error as error:
        raise _explained(error, root.url, files, memory) from error
    return Asked(relation, connection, files, root.url, memory)


def batches(asked: Asked, rows: int = 100_000) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The columns of an answer, and its rows as they are computed, so many at a time.

    Ctrl-C ends it at any moment. Columns of the same name get names of their own (`a`, `a_1`).

    Raises:
        QueryError: DuckDB cannot go on; also while rows are being read.
    """
    reader: pa.RecordBatchReader = _reading(asked, lambda: _reader(asked.relation, rows))
    schema = pa.schema([f.with_name(n) for f, n in zip(reader.schema, distinct(reader.schema.names), strict=True)])

    def read() -> Iterator[pa.RecordBatch]:
        try:
            while (batch := _reading(asked, lambda: next(reader, None))) is not None:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        finally:
            asked.connection.interrupt()  # where the rest is not wanted, nobody computes it

    return schema, read()


def fetch(asked: Asked) -> pa.Table:
    """All rows of an answer.

    Raises:
        QueryError: DuckDB cannot run it, or the answer takes more memory than the query may.
    """
    schema, found = batches(asked)
    kept: list[pa.RecordBatch] = []
    size = 0
    for batch in found:
        kept.append(batch)
        size += batch.nbytes
        if size > asked.memory:
            raise QueryError(
                f"The answer takes more than the {asked.memory / 1e6:,.0f} MB of memory that a query may. Ask for "
                f"less, or allow more (memory=..., {MEMORY}); `tamis sql --format csv --out FILE` writes an answer of "
                "any size."
            )
    return pa.Table.from_batches(kept, schema)


def project(asked: Asked, columns: Sequence[tuple[str, str]], limit: int | None = None) -> Asked:
    """An answer with other columns, made of its own.

    Args:
        asked: the answer.
        columns: (SQL, name) of each; its own first column is `#1`.
        limit: rows at most.
    """
    made = ", ".join(f'{sql} as "{name.replace(chr(34), chr(34) * 2)}"' for sql, name in columns)

    def work() -> duckdb.DuckDBPyRelation:
        return (asked.relation if limit is None else asked.relation.limit(limit)).project(made)

    return replace(asked, relation=_reading(asked, work))


def distinct(names: Sequence[str]) -> list[str]:
    """Names of which none comes twice: rows become dictionaries, and files that others read."""
    taken, given = set(names), set[str]()
    found: list[str] = []
    for name in names:
        number, new = 0, name
        while new in given or (number and new in taken):
            number += 1
            new = f"{name}_{number}"
        given.add(new)
        found.append(new)
    return found


def _reader(relation: duckdb.DuckDBPyRelation, rows: int) -> pa.RecordBatchReader:
    # DuckDB 2 warns of the name that its older releases know.
    made = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
    return made(rows)


def _reading(asked: Asked, work: Callable[[], T]) -> T:
    try:
        with reaching(asked.where):
            return _until_interrupted(asked.connection, asked.files, work)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, TamisError):
            raise
        raise _explained(error, asked.where, asked.files, asked.memory) from error


def _until_interrupted(connection: duckdb.DuckDBPyConnection, files: TableFiles, work: Callable[[], T]) -> T:
    """Let DuckDB work where Ctrl-C does not wait for it: Python hears of one between two steps of its own alone."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    # In the context of this thread, which says how long servers are waited for.
    inside = contextvars.copy_context().run
    threading.Thread(target=_settle, args=(done, lambda: inside(work)), daemon=True).start()
    try:
        return done.result()
    except KeyboardInterrupt:
        connection.interrupt()
        files.drop_spill()
        concurrent.futures.wait([done], _GRACE)
        raise


def _settle(done: concurrent.futures.Future[T], work: Callable[[], T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
        done.set_exception(error)


def _explained(error: Exception, where: str, files: TableFiles, memory: int) -> TamisError:
    """An error that comes through DuckDB: of its own, of a server, or of the files it was reading."""
    if files.fault is not None and str(files.fault) in str(error):
        return files.fault
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in str(error):
        return QueryError(
            f"The query needs more than the {memory / 1e6:,.0f} MB of memory that it may take. Ask for less at once, "
            f"or allow more: --memory 8GB, memory=..., or {MEMORY}."
        )
    return explained(where, error) or translated(error, VIEWS)


def parse_at(text: str) -> At:
    """'2026-11-20T10:00' -> a time (local unless it says otherwise); 'scores=3,runs=7' -> table versions.

    Raises:
        QueryError: neither.
    """
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        pass
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() in TABLES and re.fullmatch(r"\s*[0-9]{1,18}\s*", version) for name, _, version in pairs):
        raise QueryError(
            f"{text!r} is not a state of the store: expected a time (2026-11-20T10:00:00) or table versions "
            "(scores=3,runs=7)."
        )
    return {name.strip(): int(version) for name, _, version in pairs}


def _check_versions(at: At) -> None:
    for name in at if isinstance(at, Mapping) else ():
        if name not in TABLES:
            raise QueryError(f"No table {name!r}; there are: {', '.join(TABLES)}.")


def _create_remote_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, shown: Visible, changes: Rows
) -> None:
    rows, source = connection.from_arrow(tables.dataset(shown.state, shown.files)), f"files_{name}"
    # DuckDB 1 looks the source up by its name once the view is used: each has one of its own.
    made = rows.query(source, _view(connection, tables, name, shown, changes, source))
    assert made is not None  # only statements that answer nothing give None
    made.create_view(name)


def _create_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, paths: list[str], name: str, shown: Visible, changes: Rows
) -> None:
    layout = shown.state.layout
    columns = ", ".join(f'null::{_sql_type(c.type)} as "{c.name}"' for c in layout.schema)
    empty = f"(select {columns} where false)"
    if not paths:
        connection.execute(f"create view {name} as {view(name, empty)}")
        return
    kinds = ", ".join(f"'{c}': varchar" for c in layout.parts)
    hive = f"hive_partitioning = true, hive_types = {{{kinds}}}" if kinds else "hive_partitioning = false"
    source = f"read_parquet(getvariable('files_{name}'), {hive})"
    if shown.uneven:
        read = f"read_parquet(getvariable('files_{name}'), {hive}, union_by_name = true)"
        source = f"({empty} union all by name (from {read}))"
    # A variable keeps the view's text short however many files there are, and the view is made on one of them: all
    # have the table's columns, and only the query that is asked (for which `ask` names all) looks at every file.
    first = paths if shown.uneven else paths[:1]
    connection.execute(f"set variable files_{name} = ?", [first])
    connection.execute(f"create view {name} as {_view(connection, tables, name, shown, changes, source)}")


def _view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, shown: Visible, changes: Rows, source: str
) -> str:
    """The query of a view over a source of all rows of its files."""
    there = living(tables, name, shown.state, _counted(connection, name, source, shown))
    return view(name, overlaid(name, there, changes))


def _counted(connection: duckdb.DuckDBPyConnection, name: str, source: str, shown: Visible) -> str:
    """The source with the rows of published attempts only, where its files hold others too."""
    if shown.attempts is None:
        return source
    connection.execute(f"set variable attempts_{name} = ?::varchar[]", [shown.attempts])
    return f"(from {source} where attempt in (select unnest(getvariable('attempts_{name}'))))"


def _sql_type(kind: pa.DataType) -> str:
    if isinstance(kind, pa.ListType):
        return f"{_sql_type(kind.value_type)}[]"
    if isinstance(kind, pa.StructType):
        return (
            "struct("
            + ", ".join(f'"{kind.field(i).name}" {_sql_type(kind.field(i).type)}' for i in range(kind.num_fields))
            + ")"
        )
    return _SQL_TYPES[kind]
