"""`tamis sql`: ask the store."""

import re
from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import chosen_form, grid, note, write_answer


class _TakesComments(click.Command):
    """A query may begin with a comment (`-- why`), which looks like an option and has blanks where no option has."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        texts = [a for a in args if a.startswith("--") and a.split("=")[0] not in options and re.search(r"\s", a)]
        if texts and "--" not in args:
            args = [a for a in args if a not in texts] + ["--", *texts]
        return super().parse_args(ctx, args)


def _memory(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    from tamis.store.errors import QueryError
    from tamis.store.sql.files import parse_memory

    try:
        return None if value is None else parse_memory(value)
    except QueryError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=_TakesComments)
@click.argument("query")
@click.option("--at", help="Query an earlier state: a time (2026-11-20T10:00) or table versions (scores=3,runs=7).")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "parquet"]), help="Default: table.")
@click.option(
    "--out", type=click.Path(dir_okay=False), help="Output file; default: stdout. Its suffix sets the format."
)
@click.option("--limit", default=200, show_default=True, type=click.IntRange(1, 10**6), help="Rows shown in a table.")
@click.option("--memory", callback=_memory, help="Memory limit, such as 8GB; default: half of the machine's.")
@common
def sql(app: App, query: str, at: str | None, form: str | None, out: str | None, limit: int, memory: Any) -> None:
    """Run read-only SQL (DuckDB) on the store's tables.

    Tables: datasets, shards, samples, frames, runs, scores, features, boxes, detections, losses, selections,
    selection_rounds, selection_samples, priorities, dataset_changes, dataset_origins, packages, candidates, bases,
    profiles. Views of losses: losses_newest, loss_stats.

    \b
    Examples:
      tamis sql "select name, version, method, size from selections"
      tamis sql "select * from scores where metric = 'entropy' order by value desc limit 10"
      tamis sql "select count(*) from runs" --at 2026-11-20T10:00 --format json
      tamis sql "from losses" --out losses.parquet
      tamis sql "describe losses"
    """
    from tamis.store.sql.answers import rows_of_text
    from tamis.store.sql.query import parse_at

    form = chosen_form(form, app.as_json, out)
    asked = app.open().ask(query, at=parse_at(at) if at else None, memory=memory)
    if out is not None or form not in (None, "table"):
        write_answer(asked, form or "csv", out)
        return
    names, rows, more = rows_of_text(asked, limit)
    grid(names, rows)
    if more:
        note(f"Showing the first {limit:,} rows: use --limit for more, --format csv for all.")
