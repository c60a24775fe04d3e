"""Read-only SQL over a store, by DuckDB.

A connection is made for each query: in memory, with one view a table it names over an explicit list of Parquet files.
On an object store, which DuckDB has no way to, the views stand over pyarrow datasets of the same files: what a query
asks for (columns, filters) is handed on to them.
It reads nothing but the store's tables folder (`allowed_directories`), installs nothing, and its configuration is
locked; only statements that read are taken. Because the views are lists of files, a query sees one state of the store
from its beginning to its end, whatever is published meanwhile; `at` makes that an earlier state.

Cost: reading the logs of the tables that are named, about 5 ms each, before DuckDB begins; then what DuckDB costs on
the same files by hand.
"""

import datetime as dt
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa

from tamis.store.changes import overlaid
from tamis.store.errors import QueryError, TamisError
from tamis.store.objects import explained, reaching
from tamis.store.roots import Root
from tamis.store.statements import tables_read, translated
from tamis.store.tables import TABLES, At, Tables
from tamis.store.views import Visible, gone, view, visible

_SQL_TYPES = {
    pa.string(): "varchar", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "float", pa.float64(): "double",
    pa.bool_(): "boolean", pa.timestamp("us", tz="UTC"): "timestamptz",
}  # fmt: skip

Rows = Sequence[Mapping[str, Any]]


def relation(
    tables: Tables,
    root: Root,
    query: str,
    params: Sequence[Any] | Mapping[str, Any] | None = None,
    at: At = None,
) -> duckdb.DuckDBPyRelation:
    """The answer to one reading statement.

    Args:
        tables: the store's tables.
        root: the store's root.
        query: SQL.
        params: values of its parameters.
        at: a time, or `{table: version}`; None for now.

    Raises:
        QueryRefused: the statement would write, or reads files outside the store.
        QueryError: DuckDB cannot run it.
    """
    _check_versions(at)
    try:
        names = tables_read(query, TABLES)
        with ThreadPoolExecutor(1) as pool:  # making a connection takes as long as reading the logs
            making = pool.submit(_locked, root)
            shown = visible(tables, names, at)
            connection = making.result()
        connection.execute("set variable gone = ?::varchar[]", [gone(tables, at) if "runs" in names else []])
        changes = tables.rows_in_order("dataset_changes", at) if {"datasets", "shards"} & names else []
        for name, one in shown.items():
            if root.path is None and len(one.files):
                _create_remote_view(connection, tables, name, one, changes)
            else:
                _create_view(connection, tables, name, one, changes)
        with reaching(root.url):
            return connection.sql(query, params=params)
    except duckdb.Error as error:
        raise _explained(error, root.url) from error


def fetch(answer: duckdb.DuckDBPyRelation, where: str = "") -> pa.Table:
    """All rows of an answer to a query of the store at `where`."""
    try:
        with reaching(where):
            return answer.to_arrow_table()
    except duckdb.Error as error:
        raise _explained(error, where) from error


def _explained(error: duckdb.Error, where: str) -> TamisError:
    # A server's fault comes through DuckDB as its own.
    return explained(where, error) or translated(error, TABLES)


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
    if not all(name.strip() in TABLES and version.strip().isdigit() for name, _, version in pairs):
        raise QueryError(
            f"{text!r} is no state of the store: give a time (2026-11-20T10:00:00) or table versions (scores=3,runs=7)."
        )
    return {name.strip(): int(version) for name, _, version in pairs}


def _check_versions(at: At) -> None:
    for name in at if isinstance(at, Mapping) else ():
        if name not in TABLES:
            raise QueryError(f"No table {name!r}; there are: {', '.join(TABLES)}.")


def _locked(root: Root) -> duckdb.DuckDBPyConnection:
    """A connection that can be asked about the tables folder, and nothing else."""
    spill = os.path.join(tempfile.gettempdir(), f"tamis-sql-{uuid.uuid4().hex}")  # made by DuckDB where it is needed
    connection = duckdb.connect(
        ":memory:",
        config={
            "temp_directory": spill,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    allowed = "" if root.path is None else _quote(root.table_uri(""))
    connection.execute(
        f"set allowed_directories = [{allowed}]; set enable_external_access = false; set lock_configuration = true"
    )
    return connection


def _create_remote_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, shown: Visible, changes: Rows
) -> None:
    rows = connection.from_arrow(tables.dataset(shown.state, shown.files))
    made = rows.query("files", view(name, overlaid(name, _counted(connection, name, "files", shown), changes)))
    assert made is not None  # only statements that answer nothing give None
    made.create_view(name)


def _create_view(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, shown: Visible, changes: Rows
) -> None:
    layout = shown.state.layout
    base = tables.folder(name)
    paths = [f"{base}/{path}" for path in shown.files["path"].to_pylist()]
    columns = ", ".join(f'null::{_sql_type(c.type)} as "{c.name}"' for c in layout.schema)
    empty = f"(select {columns} where false)"
    if not paths:
        connection.execute(f"create view {name} as {view(name, empty)}")
        return
    kinds = ", ".join(f"'{c}': varchar" for c in layout.parts)
    hive = f"hive_partitioning = true, hive_types = {{{kinds}}}" if kinds else "hive_partitioning = false"
    source = f"read_parquet(getvariable('files_{name}'), {hive})"
    if shown.uneven:
        source = f"({empty} union all by name (from read_parquet(getvariable('files_{name}'), union_by_name = true)))"
    # A variable keeps the view's text short however many files there are, and the view is made on one of them: all
    # have the table's columns, and only the query that is asked needs to look at every file.
    first = paths if shown.uneven else paths[:1]
    connection.execute(f"set variable files_{name} = ?", [first])
    connection.execute(
        f"create view {name} as {view(name, overlaid(name, _counted(connection, name, source, shown), changes))}"
    )
    if len(paths) > len(first):
        connection.execute(f"set variable files_{name} = ?", [paths])


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


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
