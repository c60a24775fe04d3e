"""A box for SQL. It reads the store's tables and nothing else, by construction (`tamis.store.sql`).

How: so many rows and so many seconds; a query whose reader goes away is ended. A query that a link of another site
brings is shown, and run when the reader says so.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import OWN, asked
from tamis.flows.web.site import Site
from tamis.store.tables.specs import TABLES

Row = dict[str, Any]
LONGEST, ROWS, SECONDS, CELL = 20_000, 200, 10.0, 2_000  # characters; rows; s; characters of a value
_PLAIN = {"boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint",
          "float", "double"}  # fmt: skip
_HIDDEN = {"attempt", "files", "process", "log_version", "round_heads"}
EXAMPLES = {
    "What did each method cost?": """select method, count(*) as selections, round(sum(seconds), 2) as seconds
from selections group by method order by seconds desc""",
    "Which samples do most selections choose?": """select dataset, sample, count(distinct selection) as selections
from selection_samples join selections using (selection)
group by all order by selections desc limit 20""",
    "How do scores spread?": "summarize select metric, value from scores",
}


def show(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """The first rows of a query's answer."""
    q, most = query.text("q", LONGEST), query.whole("rows", ROWS, 1, 1000)
    tables = {name: [c for c in spec.schema.names if c not in _HIDDEN] for name, spec in TABLES.items()}
    found: Row = {"q": q, "limit": most, "seconds": SECONDS, "tables": tables, "examples": EXAMPLES, "columns": None}
    if not q or query.foreign:
        return found | {"rows": [], "more": False, "foreign": bool(q)}
    return found | {"foreign": False} | ask(site, q, most)


def ask(site: Site, query: str, most: int) -> Row:
    """Ask a query.

    Returns:
        columns, rows (values are numbers, booleans, texts or None), more: whether there are more rows.

    Raises:
        TookTooLong, Busy, QueryRefused, QueryError: saying why there is no answer.
    """
    from tamis.store.sql.query import batches, distinct, project

    with asked(site.store, query, seconds=SECONDS, places=OWN) as one:
        names = distinct(one.relation.columns)
        columns = [
            (f"#{i}" if kind.id in _PLAIN else f"left(#{i}::varchar, {CELL})", name)
            for i, (kind, name) in enumerate(zip(one.relation.types, names, strict=True), 1)
        ]
        schema, found = batches(project(one, columns, most + 1), most + 1)
        table = pa.Table.from_batches(list(found), schema)
    values = [column.to_pylist() for column in table.slice(0, most).columns]
    numbers = [one.relation.types[i].id in _PLAIN for i in range(len(names))]
    rows = [list(row) for row in zip(*values, strict=True)]
    return {"columns": names, "numbers": numbers, "rows": rows, "more": len(table) > most}
