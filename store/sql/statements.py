"""What one SQL statement does, told from DuckDB's own parse of it: that it only reads, and which tables.

This is the second line of defence: what a connection may open at all stands in `tamis.store.sql.files`, and no
statement gets past that. Here it is said early, and in plain words, why a statement is not taken.

A statement is never told by its text, which may hold comments anywhere. Nor is its kind enough: since DuckDB 2.0 a
`select` may carry `with x as (copy ... to ...)`, which is of the kind SELECT and writes a file; the tree of the
statement tells. Functions that give tables (`read_text(...)`, `json_execute_serialized_sql(...)`) do things that no
tree shows, so those that may be called are listed.
"""

import functools
import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from tamis.store.errors import QueryError, QueryRefused

_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TAKEN = "SQL here is read-only: select, describe, summarize and explain are taken."
# Functions that make tables of their arguments alone.
_MAKING = {
    "range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree", "summary",
    "icu_calendar_names", "pg_timezone_names", "test_all_types",
}  # fmt: skip
# Functions that name tables without naming them in the tree, or tell what there is.
_NAMING = {
    "query", "query_table", "histogram", "histogram_values", "pragma_table_info", "pragma_version", "duckdb_columns",
    "duckdb_constraints", "duckdb_databases", "duckdb_extensions", "duckdb_functions", "duckdb_indexes",
    "duckdb_keywords", "duckdb_memory", "duckdb_optimizers", "duckdb_schemas", "duckdb_sequences", "duckdb_settings",
    "duckdb_tables", "duckdb_types", "duckdb_variables", "duckdb_views",
}  # fmt: skip


def tables_read(query: str, known: Collection[str]) -> set[str]:
    """Which of the known tables one reading statement may name.

    Raises:
        QueryRefused: it is not one statement, it would write, or it calls a function that is not offered.
        QueryError: it cannot be parsed.
    """
    try:
        query.encode()
        tree = _tree(_parser().cursor(), query)
    except UnicodeEncodeError as error:
        raise QueryError(f"The query is not UTF-8 text: {error.reason} at character {error.start}.") from error
    except RecursionError as error:
        raise QueryError("The query is nested too deeply to be checked. Write it as several smaller parts.") from error
    nodes = list(_nodes(tree))
    kinds = {str(node["type"]) for node in nodes}
    if writing := sorted(kind for kind in kinds if kind.endswith("_NODE") and kind not in _READING):
        what = ", ".join(kind.removesuffix("_QUERY_NODE") for kind in writing)
        raise QueryRefused(f"{_short(query)!r} holds {what}; {_TAKEN}")
    functions = [node["function"] for node in nodes if node["type"] == "TABLE_FUNCTION"]
    called = {str(function["function_name"]).lower() for function in functions}
    if foreign := sorted(called - _MAKING - _NAMING):
        raise QueryRefused(
            f"{_short(query)!r} calls {', '.join(foreign)}. SQL sees the store's own tables and nothing else: "
            f"{', '.join(known)}."
        )
    for function in functions:
        if str(function["function_name"]).lower() == "query":
            tables_read(_said(function, query), known)
    named = {str(node["table_name"]).lower() for node in nodes if node.get("table_name")}
    # `show tables`, query_table('...') and the catalogue (information_schema.tables) name tables without naming them.
    everything = kinds & {"SHOW_REF"} or called & _NAMING or named - _made(nodes) - set(known)
    return set(known) if everything else named & set(known)


def without_semicolons(query: str) -> str:
    """One statement without the semicolons before and after it, of which DuckDB takes some and not others."""
    held = query.encode()
    ends = [at for at, _ in duckdb.tokenize(query) if held[at : at + 1] == b";"]
    words = [at for at, kind in duckdb.tokenize(query) if held[at : at + 1] != b";" and "comment" not in str(kind)]
    before = [at + 1 for at in ends if at < words[0]]
    after = [at for at in ends if at > words[-1]]
    return held[max(before, default=0) : min(after, default=len(held))].decode()


def translated(error: Exception, known: Collection[str]) -> QueryError | QueryRefused:
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
        statement = _explained(connection, statement.query)
    if statement.type.name == "MULTI":
        raise QueryRefused(
            f"{_short(query)!r} needs the values that become columns, because a PIVOT without them is several "
            "statements: pivot samples on label in (0, 1, 2) using count(*)."
        )
    if statement.type != duckdb.StatementType.SELECT:
        raise QueryRefused(f"{_short(query)!r} is of the kind {statement.type.name}; {_TAKEN}")
    answer = connection.execute("select json_serialize_sql(?::varchar)", [statement.query]).fetchone()
    tree = json.loads(answer[0]) if answer else {"error": True}
    if tree["error"]:
        raise QueryRefused(
            f"{_short(query)!r} cannot be verified to be read-only ({tree.get('error_message')}). {_TAKEN}"
        )
    return tree["statements"]


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> duckdb.Statement:
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise QueryRefused(
            f"{_short(query)!r} holds {len(statements)} statements; expected one that selects. A PIVOT counts as "
            "several unless it lists the values that become columns: pivot samples on label in (0, 1) using count(*)."
        )
    return statements[0]


def _explained(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """The statement that an EXPLAIN explains: the longest end of it that is a statement of another kind.

    Where words begin is asked of DuckDB's own tokens, so comments and options may stand anywhere. What the statement is
    cannot hide in what is left off: that is the word EXPLAIN and its options, none of which begins a statement.
    """
    held = text.encode()
    for start, _ in duckdb.tokenize(text):
        try:
            found = connection.extract_statements(held[start:].decode())
        except duckdb.Error:
            continue  # in the middle of the options
        if len(found) == 1 and found[0].type != duckdb.StatementType.EXPLAIN:
            return found[0]
    raise QueryRefused(f"{_short(text)!r}: cannot tell what it explains. {_TAKEN}")


def _said(function: dict[str, Any], query: str) -> str:
    """The text that `query('...')` is given; anything but one constant could become any statement."""
    values = [node for node in _nodes(function) if node is not function and node["type"] != "ORDER_MODIFIER"]
    if len(values) == 1 and values[0]["type"] == "VALUE_CONSTANT":
        constant: Any = values[0].get("literal") or values[0].get("value") or {}
        text = constant.get("text", constant.get("value"))
        if isinstance(text, str):
            return text
    raise QueryRefused(f"{_short(query)!r}: query(...) takes one text here, so that it can be checked. {_TAKEN}")


def _made(nodes: list[dict[str, Any]]) -> set[str]:
    """Names that the statement gives to parts of itself (`with NAME as ...`) and that are no table's."""
    maps = [node["cte_map"]["map"] for node in nodes if "cte_map" in node]
    return {str(entry["key"]).lower() for each in maps for entry in each}


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of the tree that has a type."""
    waiting = [tree]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            if isinstance(held.get("type"), str):
                yield held
            waiting.extend(held.values())
        elif isinstance(held, list):
            waiting.extend(held)


def _short(query: str) -> str:
    query = " ".join(query.split())
    return query if len(query) <= 60 else query[:57] + "..."
