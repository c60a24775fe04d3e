"""`tamis dataset relabel`: a dataset with other labels, from a file or told by SQL."""

import json

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts


@click.command()
@click.argument("ref", metavar="NAME")
@click.option("--labels", "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="CSV or Parquet with key or sample, and label.")  # fmt: skip
@click.option("--sql", metavar="QUERY", help="A query that returns key or sample, and label.")
@click.option("--as", "name", metavar="NAME", help="Name of the new dataset. Default: NAME-relabelled.")
@click.option("--classes", metavar="A,B,...", help="Class names by number.")
@click.option("--drop-missing", is_flag=True, help="Leave out samples without a label.")
@common
def relabel(
    app: App, ref: str, file: str | None, sql: str | None, name: str | None, classes: str | None, drop_missing: bool
) -> None:
    """Derive a dataset with other labels. No shard is copied or rewritten.

    Labels are class numbers, truth values (0 and 1) or class names; names are numbered as in --classes, or in
    alphabetical order. A query may use every table of `tamis sql`, so boxes can become classes. Samples without a label
    are refused unless --drop-missing. Repeating it returns the existing dataset. The table dataset_origins records
    the source and the query, or the file's sha256.

    \b
    Examples:
      tamis dataset relabel cifar10 --labels corrected.csv --as cifar10-clean
      tamis dataset relabel street --as street-zone --classes no,yes --sql "select sample, exists (
        select 1 from boxes b where b.run = '1f0c9a...' and b.sample = f.sample and b.y2 > 400) as label
        from frames f where dataset = 'street'"
    """
    from tamis.store import summaries
    from tamis.store.relabelling import relabel as derive

    if (file is None) == (sql is None):
        raise click.UsageError("Specify the labels: --labels FILE or --sql QUERY.")
    names = [part.strip() for part in classes.split(",")] if classes is not None else []
    made = derive(app.open(), ref, file=file, sql=sql, name=name, classes=names, drop_missing=drop_missing)
    origin = made.origin()
    told = {} if origin is None else json.loads(origin["params"])
    answer = {
        "dataset": made.ref,
        "key": made.key,
        "source": None if origin is None else origin["source"],
        "samples": made.samples,
        "dropped": told.get("dropped"),
        "changed": told.get("changed"),
        "samples_by_class": summaries.dataset(made)["samples_by_class"],
    }
    emit(answer, app.as_json, lambda: facts(answer))
