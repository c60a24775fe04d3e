"""`tamis sql`: ask the store."""

import click

from tamis.flows.cli_common import App, common
from tamis.flows.output import note, table, write_table


@click.command()
@click.argument("query")
@click.option("--at", help="The store as it was: a time (2026-11-20T10:00), or table versions (scores=3,runs=7).")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), help="Default: table.")
@click.option("--out", type=click.Path(dir_okay=False), help="A file; default: print.")
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1), help="Rows shown in a table.")
@common
def sql(app: App, query: str, at: str | None, form: str | None, out: str | None, limit: int) -> None:
    """Run read-only SQL (DuckDB's) over the store's tables.

    Tables: datasets, shards, samples, runs, scores, losses, selections, selection_rounds, selection_samples.

    \b
    Examples:
      tamis sql "select name, version, method, size from selections"
      tamis sql "select * from scores where metric = 'entropy' order by value desc limit 10"
      tamis sql "select count(*) from runs" --at 2026-11-20T10:00 --format json
      tamis sql "describe losses"
    """
    from tamis.store.sql import parse_at

    answer = app.open().query(query, at=parse_at(at) if at else None)
    if app.as_json or form not in (None, "table") or out:
        write_table(answer, "json" if app.as_json else (form if form not in (None, "table") else "csv"), out)
        return
    table(answer.slice(0, limit).to_pylist(), answer.column_names)
    if len(answer) > limit:
        note(f"{len(answer):,} rows, of which {limit} are shown: --limit, or --format csv for all.")
