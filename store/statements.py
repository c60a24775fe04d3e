"""What one SQL statement does, told from DuckDB's own parse of it: that it only reads, and which tables.

The kind of a statement is not enough. Since DuckDB 2.0 a `select` may carry `with x as (copy ... to ...)`, which is of
the kind SELECT and writes a file; the tree of the statement tells.
"""

import functools
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from tamis.store.errors import QueryError, QueryRefused

_EXPLAIN = re.compile(r"\A\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TAKEN = "SQL here is read-only: select, describe, summarize and explain are taken."


def tables_read(query: str, known: Collection[str]) -> set[str]:
    """Which of the known tables one reading statement may name.

    Raises:
        QueryRefused: it is not one statement, or it would write.
        QueryError: it cannot be parsed.
    """
    nodes = list(_nodes(_tree(_parser().cursor(), query)))
    kinds = {str(node["type"]) for node in nodes}
    if writing := sorted(kind for kind in kinds if kind.endswith("_NODE") and kind not in _READING):
        what = ", ".join(kind.removesuffix("_QUERY_NODE") for kind in writing)
        raise QueryRefused(f"{_short(query)!r} holds {what}; {_TAKEN}")
    named = {str(node["table_name"]).lower() for node in nodes if "table_name" in node} & set(known)
    # `show tables`, query_table('...') and the catalogue name tables without naming them.
    return set(known) if not named or kinds & {"SHOW_REF", "TABLE_FUNCTION"} else named


def translated(error: duckdb.Error, known: Collection[str]) -> QueryError | QueryRefused:
    """DuckDB's error as one of ours."""
    text = str(error)
    if isinstance(error, duckdb.PermissionException) or "disabled by configuration" in text:
        return QueryRefused(f"{text} SQL sees the store's own tables and nothing else: {', '.join(known)}.")
    return QueryError(f"{text}\nTables: {', '.join(known)}.")


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    """Holds nothing and is asked about texts alone."""
    return duckdb.connect(":memory:")


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    statement = _one(connection, query)
    if statement.type == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains: that must only read too.
        statement = _one(connection, _EXPLAIN.sub("", statement.query, count=1))
    if statement.type != duckdb.StatementType.SELECT:
        raise QueryRefused(f"{_short(query)!r} is of the kind {statement.type.name}; {_TAKEN}")
    answer = connection.execute("select json_serialize_sql(?::varchar)", [statement.query]).fetchone()
    tree = json.loads(answer[0]) if answer else {"error": True}
    if tree["error"]:
        raise QueryRefused(
            f"{_short(query)!r} cannot be told to be reading only ({tree.get('error_message')}). {_TAKEN}"
        )
    return tree["statements"]


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise QueryRefused(f"{_short(query)!r} holds {len(statements)} statements; one that selects was expected.")
    return statements[0]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree that has a type."""
    if isinstance(tree, dict):
        if isinstance(tree.get("type"), str):
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)


def _short(query: str) -> str:
    query = " ".join(query.split())
    return query if len(query) <= 60 else query[:57] + "..."
