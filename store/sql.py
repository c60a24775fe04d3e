"""Read-only SQL over a store, by DuckDB.

A connection is made for each query: in memory, with one view a table over an explicit list of Parquet files. It reads
nothing but the store's tables folder (`allowed_directories`), installs nothing, and its configuration is locked; only
statements that select are taken. Because the views are lists of files, a query sees one state of the store from its
beginning to its end, whatever is published meanwhile; `at` makes that an earlier state.

Cost: reading the logs, about 5 ms a table, before DuckDB begins; then what DuckDB costs on the same files by hand.
"""

import datetime as dt
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from tamis.store.arrow import pc
from tamis.store.errors import QueryError, QueryRefused
from tamis.store.roots import Root
from tamis.store.runs import FINISHED
from tamis.store.tables import TABLES, At, Tables

_EXPLAIN = re.compile(r"\A\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)

# What a view shows, where that is not simply the table's columns without `attempt`.
_VIEWS = {
    # Runs are events; the newest is the state, and `finished` is final.
    "runs": """select run, kind, dataset, model, config::json as config, selection, status, metrics::json as metrics,
                      seconds::json as seconds, blob, error, code, updated
               from {source}
               qualify row_number() over (partition by run order by status = 'finished' desc, updated desc) = 1""",
    "losses": """select run, epoch, sample, loss, loss_epoch, epoch - loss_epoch as staleness, probability, selected
                 from {source}""",
    "selections": """select * exclude (params, stats, attempt), params::json as params, stats::json as stats
                     from {source}""",
}


def connect(tables: Tables, root: Root, at: At = None) -> duckdb.DuckDBPyConnection:
    """A locked, in-memory connection with the store's views.

    Args:
        tables: the store's tables.
        root: the store's root.
        at: a time, or `{table: version}`; None for now.
    """
    _check_versions(at)
    connection = duckdb.connect(":memory:", config={"temp_directory": os.path.join(tempfile.gettempdir(), "tamis-sql")})
    for name in TABLES:
        _create_view(connection, name, _visible(tables, name, at))
    # From here on the connection can be asked, and nothing else.
    connection.execute("set python_enable_replacements = false")
    connection.execute("set autoinstall_known_extensions = false")
    connection.execute("set autoload_known_extensions = false")
    connection.execute(f"set allowed_directories = [{_quote(root.table_uri(''))}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def relation(
    connection: duckdb.DuckDBPyConnection, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None
) -> duckdb.DuckDBPyRelation:
    """The answer to one selecting statement.

    Raises:
        QueryRefused: the statement would write, or reads files outside the store.
        QueryError: DuckDB cannot run it.
    """
    _check_statement(connection, query)
    try:
        answer = connection.sql(query, params=params)
    except duckdb.Error as error:
        raise translated(error) from error
    return answer


def fetch(answer: duckdb.DuckDBPyRelation) -> pa.Table:
    """All rows of an answer."""
    try:
        return answer.to_arrow_table()
    except duckdb.Error as error:
        raise translated(error) from error


def translated(error: duckdb.Error) -> QueryError | QueryRefused:
    """DuckDB's error as one of ours."""
    text = str(error)
    if isinstance(error, duckdb.PermissionException) or "disabled by configuration" in text:
        return QueryRefused(f"{text} SQL sees the store's own tables and nothing else: {', '.join(TABLES)}.")
    return QueryError(f"{text}\nTables: {', '.join(TABLES)}.")


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


def _check_statement(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = _parsed(connection, query)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains: that must be a selection too.
        statements = _parsed(connection, _EXPLAIN.sub("", statements[0].query, count=1))
    if len(statements) != 1:
        raise QueryRefused(f"{_short(query)!r} holds {len(statements)} statements; one that selects was expected.")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefused(
            f"{_short(query)!r} is of the kind {statements[0].type.name}; SQL here is read-only: select, describe, "
            "summarize and explain are taken."
        )


def _parsed(connection: duckdb.DuckDBPyConnection, query: str) -> list[duckdb.Statement]:
    try:
        return connection.extract_statements(query)
    except duckdb.Error as error:
        raise translated(error) from error


def _visible(tables: Tables, name: str, at: At) -> list[str]:
    """The files of a table that belong to something published."""
    files = tables.files(name, at)
    if name in ("shards", "samples"):
        return _named(files, "attempt", tables.read("datasets", at, ["attempt"])["attempt"])
    if name in ("selection_rounds", "selection_samples"):
        return _named(files, "attempt", tables.read("selections", at, ["attempt"])["attempt"])
    if name in ("scores", "losses"):
        runs = tables.read("runs", at, ["run", "status"])
        finished = runs.filter(pc.equal(runs["status"], FINISHED)) if name == "scores" else runs
        return _named(files, "run", finished["run"])
    return files["path"].to_pylist()


def _named(files: pa.Table, column: str, wanted: pa.ChunkedArray) -> list[str]:
    return files.filter(pc.is_in(files[column], value_set=wanted.combine_chunks()))["path"].to_pylist()


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, paths: list[str]) -> None:
    spec = TABLES[name]
    if paths:
        # A variable keeps the view's text short however many files there are.
        connection.execute(f"set variable files_{name} = ?", [paths])
        kinds = ", ".join(f"'{c}': varchar" for c in spec.partition_by)
        hive = f", hive_partitioning = true, hive_types = {{{kinds}}}" if kinds else ""
        source = f"read_parquet(getvariable('files_{name}'){hive})"
    else:
        connection.register(f"empty_{name}", spec.schema.empty_table())
        source = f"empty_{name}"
    hidden = "attempt" in spec.schema.names
    shown = _VIEWS.get(name, "select * exclude (attempt) from {source}" if hidden else "select * from {source}")
    connection.execute(f"create view {name} as {shown.format(source=source)}")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _short(query: str) -> str:
    query = " ".join(query.split())
    return query if len(query) <= 60 else query[:57] + "..."
