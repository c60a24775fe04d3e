"""`tamis selection`: look at what was chosen. How it is read stands in `tamis.flows.cli.reading`."""

import json
from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import chosen_form, emit, facts, table, write_answer
from tamis.flows.counting import by_class
from tamis.store.selections import Selection


@click.group()
def selection() -> None:
    """Selections: list, show, compare, export, plan reading, write as shards."""


@selection.command()
@common
def ls(app: App) -> None:
    """List every version of every selection.

    \b
    Examples:
      tamis selection ls
      tamis selection ls --json
    """
    rows = [_head(s) for s in app.open().selections.all()]
    shown = ("selection", "dataset", "method", "params", "size", "seconds")
    emit(rows, app.as_json, lambda: table([r | {"params": json.dumps(r["params"])} for r in rows], shown))


@selection.command()
@click.argument("ref")
@click.option("--epoch", default=0, show_default=True, type=click.IntRange(0), help="The round in force in this epoch.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(0), help="How many samples to list.")
@common
def show(app: App, ref: str, epoch: int, top: int) -> None:
    """Show one selection: REF is a name, name@version, or key.

    \b
    Examples:
      tamis selection show cifar10-entropy
      tamis selection show cifar10-entropy@1 --top 20 --json
    """
    store = app.open()
    found = store.selections.get(ref)
    dataset = store.datasets.get(found.dataset)
    samples, weights = found.round_at(epoch)
    keys = dataset.keys(samples[:top])
    classes = dataset.labels()[samples] if dataset.has_classes else None
    best = [
        {"rank": i, "sample": int(samples[i]), "key": keys[i], "weight": float(weights[i])}
        | ({"label": int(classes[i])} if classes is not None else {})
        for i in range(min(top, len(samples)))
    ]
    answer = _head(found) | {"rounds": [vars(r) for r in found.rounds], "stats": found.stats, "best": best}
    if classes is not None:
        answer["samples_by_class"] = by_class(classes, dataset.classes)[0]

    def people() -> None:
        facts({k: v for k, v in answer.items() if k not in ("best", "rounds")} | {"rounds": len(found.rounds)})
        if best:
            table(best, title=f"The {len(best)} ranked first")

    emit(answer, app.as_json, people)


@selection.command()
@click.argument("first")
@click.argument("second")
@click.option("--epoch", default=0, show_default=True, type=click.IntRange(0), help="The round in force in this epoch.")
@common
def diff(app: App, first: str, second: str, epoch: int) -> None:
    """Say what two selections of one data set have in common.

    \b
    Examples:
      tamis selection diff cifar10-entropy cifar10-margin
      tamis selection diff cifar10-entropy@1 cifar10-entropy@2 --json
    """
    store = app.open()
    a, b = store.selections.get(first), store.selections.get(second)
    found = store.selections.diff(a, b, epoch)
    answer = {
        "first": a.ref,
        "second": b.ref,
        "in_both": len(found.both),
        "only_in_first": len(found.only_first),
        "only_in_second": len(found.only_second),
        "jaccard": found.jaccard,
        "weight_correlation": found.weight_correlation,
    }
    emit(answer, app.as_json, lambda: facts(answer))


@selection.command()
@click.argument("ref")
@click.option("--format", "form", type=click.Choice(["csv", "json", "parquet"]), help="Default: csv.")
@click.option("--out", type=click.Path(dir_okay=False), help="A file; default: print. Its suffix may name the format.")
@common
def export(app: App, ref: str, form: str | None, out: str | None) -> None:
    """Write a selection's samples (round, rank, sample, key, shard, label, weight) for other programs.

    \b
    Examples:
      tamis selection export cifar10-entropy --out chosen.csv
      tamis selection export cifar10-entropy --format parquet --out chosen.parquet
    """
    form = chosen_form(form, app.as_json, out)
    store = app.open()
    found = store.selections.get(ref)
    name, version = found.dataset.split("@")
    rows = store.ask(
        """select c.round, r.first_epoch, c.rank, c.sample, s.key, h.uri as shard, s.label, c.weight
           from selection_samples c join selection_rounds r using (selection, round)
           join samples s on s.dataset = $dataset and s.sample = c.sample
           join shards h on h.dataset = s.dataset and h.shard = s.shard
           where c.selection = $key and h.version <= $version order by c.round, c.rank""",
        {"dataset": name, "key": found.key, "version": int(version)},
    )
    write_answer(rows, form or "csv", out)


def _head(found: Selection) -> dict[str, Any]:
    return {
        "selection": found.ref,
        "key": found.key,
        "dataset": found.dataset,
        "method": found.method,
        "params": found.params,
        "inputs": list(found.inputs),
        "seed": found.seed,
        "size": found.size,
        "seconds": found.seconds,
    }
