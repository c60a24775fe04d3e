"""`tamis selection`: look at what was chosen. How it is read stands in `tamis.flows.cli.selections.reading`."""

import json
from collections.abc import Mapping
from typing import Any

import click

from tamis.flows.cli.common import App, common, said
from tamis.flows.cli.output import chosen_form, emit, facts, table, write_answer, write_text


@click.group()
def selection() -> None:
    """List, show, compare, import, export and materialize selections."""


@selection.command()
@common
def ls(app: App) -> None:
    """List every version of every selection.

    \b
    Examples:
      tamis selection ls
      tamis selection ls --json
    """
    from tamis.store import summaries

    rows = summaries.selections(app.open())
    shown = ("selection", "dataset", "method", "params", "size", "seconds")
    emit(rows, app.as_json, lambda: table([r | {"params": _brief(r["params"])} for r in rows], shown))


def _brief(params: Mapping[str, Any]) -> str:
    """Parameters for a table: without those that are none, and without the recipe of a training run."""
    return json.dumps({name: value for name, value in params.items() if value is not None and name != "training"})


@selection.command()
@click.argument("ref")
@click.option(
    "--epoch", default=0, show_default=True, type=click.IntRange(0), help="Use the round in effect in this epoch."
)
@click.option("--top", default=5, show_default=True, type=click.IntRange(0), help="Number of samples to list.")
@common
def show(app: App, ref: str, epoch: int, top: int) -> None:
    """Show a selection. REF is a name, name@version, or key.

    \b
    Examples:
      tamis selection show cifar10-entropy
      tamis selection show cifar10-entropy@1 --top 20 --json
    """
    from tamis.store import summaries

    answer = summaries.selection(app.open(), ref, epoch=epoch, top=top)

    def people() -> None:
        best, rounds = answer["best"], answer["rounds"]
        facts({k: v for k, v in answer.items() if k not in ("best", "rounds")} | {"rounds": len(rounds)})
        if best:
            table(best, title=f"The {len(best)} ranked first")

    emit(answer, app.as_json, people)


@selection.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--name", required=True, help="The selection's name.")
@click.option("--by", type=click.Choice(["key", "sample"]), help="What the lines are; default: detected.")
@common
def import_(app: App, file: str, dataset: str, name: str, by: Any) -> None:
    """Import a list of samples as a selection.

    FILE has one key or sample number per line, best first; or is CSV or Parquet with a column `key` or `sample` and
    optionally `weight`. Importing the same list again returns the existing selection.

    \b
    Examples:
      tamis selection import hardest.txt --dataset cifar10 --name hardest
      tamis selection import weighted.csv --dataset cifar10@1 --name coreset
      tamis selection import numbers.txt --dataset cifar10 --name numbers --by sample
    """
    from tamis.store.importing import import_selection

    made = import_selection(app.open(), file, dataset, name=name, by=by)
    chosen = made.selection
    answer = {"selection": chosen.ref, "key": chosen.key, "dataset": chosen.dataset, "size": chosen.size}
    told = answer | {"answer": said(made.created, None)}
    emit(answer | {"created": made.created}, app.as_json, lambda: facts(told))


@selection.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--epoch", default=0, show_default=True, type=click.IntRange(0), help="Use the round in effect in this epoch."
)
@common
def diff(app: App, first: str, second: str, epoch: int) -> None:
    """Compare two selections of one dataset.

    \b
    Examples:
      tamis selection diff cifar10-entropy cifar10-margin
      tamis selection diff cifar10-entropy@1 cifar10-entropy@2 --json
    """
    from tamis.store import summaries

    answer = summaries.difference(app.open(), first, second, epoch=epoch)
    emit(answer, app.as_json, lambda: facts(answer))


@selection.command()
@click.argument("ref")
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet", "coco", "fiftyone"]),
              help="Default: csv.")  # fmt: skip
@click.option(
    "--out", type=click.Path(dir_okay=False), help="Output file; default: stdout. Its suffix sets the format."
)
@click.option("--boxes", metavar="RUN", help="The run whose boxes go into coco or fiftyone.")
@common
def export(app: App, ref: str, form: str | None, out: str | None, boxes: str | None) -> None:
    """Export a selection's samples (round, rank, sample, key, shard, label, weight).

    coco is COCO's detection JSON and fiftyone the labels.json of a FiftyOneImageDetectionDataset, of the first round,
    with the boxes of the run named by --boxes.

    \b
    Examples:
      tamis selection export cifar10-entropy --out chosen.csv
      tamis selection export cifar10-entropy --format parquet --out chosen.parquet
      tamis selection export street-diverse --format coco --boxes 1f0c9a --out chosen.json
    """
    from tamis.store import summaries
    from tamis.store.detections.exporting import FORMATS, exported

    if (form in FORMATS) != (boxes is not None):
        raise click.UsageError("--format coco and fiftyone need --boxes RUN, and only they take it.")
    if form in FORMATS and boxes is not None:
        text = json.dumps(exported(app.open(), ref, boxes, form))
        write_text(text, out)
        return
    form = chosen_form(form, app.as_json, out)
    write_answer(summaries.selection_samples(app.open(), ref), form or "csv", out)
