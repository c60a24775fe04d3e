"""`tamis selection`: look at what was chosen, and write it out."""

import json
import re
import time
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli_common import App, common
from tamis.flows.output import emit, facts, size, table, write_table
from tamis.store.selections import Selection

if TYPE_CHECKING:
    from tamis.store.datasets import Dataset
    from tamis.training.curated import Curated

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def _bytes(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """64MiB, 200MB, or a number of bytes."""
    from tamis.training.materialize import LARGEST

    given = re.fullmatch(r"([0-9]+) *(|[kmg]i?)b?", value.lower())
    count = int(given[1]) * _UNITS[given[2]] if given else 0
    if not 1 <= count <= LARGEST:
        raise click.BadParameter(f"{value!r}: expected 1 byte to 4GiB, such as 64MiB, 200MB or 1000000.")
    return count


@click.group()
def selection() -> None:
    """Selections: list, show, compare, export, write as shards."""


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
    classes = dataset.labels()[samples] if dataset.label else None
    best = [
        {"rank": i, "sample": int(samples[i]), "key": keys[i], "weight": float(weights[i])}
        | ({"label": int(classes[i])} if classes is not None else {})
        for i in range(min(top, len(samples)))
    ]
    answer = _head(found) | {"rounds": [vars(r) for r in found.rounds], "stats": found.stats, "best": best}
    if classes is not None:
        answer["samples_by_class"] = _by_class(classes.tolist(), dataset.classes)

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
@click.option("--format", "form", default="csv", show_default=True, type=click.Choice(["csv", "json", "parquet"]))
@click.option("--out", type=click.Path(dir_okay=False), help="A file; default: print.")
@common
def export(app: App, ref: str, form: str, out: str | None) -> None:
    """Write a selection's samples (round, rank, sample, key, shard, label, weight) for other programs.

    \b
    Examples:
      tamis selection export cifar10-entropy --out chosen.csv
      tamis selection export cifar10-entropy --format parquet --out chosen.parquet
    """
    store = app.open()
    found = store.selections.get(ref)
    name, version = found.dataset.split("@")
    rows = store.query(
        """select c.round, r.first_epoch, c.rank, c.sample, s.key, h.uri as shard, s.label, c.weight
           from selection_samples c join selection_rounds r using (selection, round)
           join samples s on s.dataset = $dataset and s.sample = c.sample
           join shards h on h.dataset = s.dataset and h.shard = s.shard
           where c.selection = $key and h.version <= $version order by c.round, c.rank""",
        {"dataset": name, "key": found.key, "version": int(version)},
    )
    write_table(rows, "json" if app.as_json else form, out)


@selection.command()
@click.argument("ref")
@click.argument("destination", required=False)
@click.option("--epoch", type=click.IntRange(0), help="The round in force in this epoch; default: the first round.")
@click.option("--shard-size", default="64MiB", show_default=True, callback=_bytes, help="About how large a shard is.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Shards made at once.")
@click.option(
    "--check",
    default="stamp",
    show_default=True,
    type=click.Choice(["stamp", "headers", "digest"]),
    help="Trust sources of unchanged size and time, compare tar headers too, or hash all sources first.",
)
@common
def materialize(
    app: App, ref: str, destination: str | None, epoch: int | None, shard_size: int, workers: int, check: Any
) -> None:
    """Write a selection as WebDataset shards, weights included, for programs that know nothing of tamis.

    DESTINATION is a folder or a URL (s3://...); by default a folder of the store. A sample's weight is in its member
    tamis.json. What is there already is not made again; what was killed goes on where it was.

    \b
    Examples:
      tamis selection materialize cifar10-entropy
      tamis selection materialize cifar10-entropy@1 /data/curated --shard-size 200MB --workers 4
      tamis selection materialize cifar10-entropy s3://bucket/curated --json
    """
    from tamis.flows.progress import display, steps
    from tamis.training.materialize import materialize as write

    store, started = app.open(), time.perf_counter()
    found = store.selections.get(ref)
    with display():
        made = write(
            store,
            found,
            destination,
            epoch=epoch,
            shard_size=shard_size,
            workers=workers,
            check=check,
            progress=steps("copy"),
        )
    seconds = time.perf_counter() - started
    answer = vars(made) | {
        "shards": [vars(shard) for shard in made.shards],
        "pattern": made.pattern,
        "fraction": made.bytes / made.dataset_bytes,
        "seconds": seconds,
    }
    emit(answer, app.as_json, lambda: _curated(made, store.datasets.get(made.dataset), len(found.rounds), seconds))


def _curated(made: "Curated", dataset: "Dataset", rounds: int, seconds: float) -> None:
    """Where a curated set is, and how stock webdataset reads it."""
    said = "was there already" if made.cached else "new" + (f"; {made.kept} shards were there" if made.kept else "")
    pairs = {
        "selection": made.selection,
        "round": f"{made.round}, in force from epoch {made.first_epoch} ({rounds} in all)",
        "where": made.url,
        "shards": len(made.shards),
        "samples": made.samples,
        "bytes": f"{size(made.bytes)}, {made.bytes / made.dataset_bytes:.1%} of {made.dataset}",
        "seconds": seconds,
        "answer": said,
    }
    if made.left_out:
        left = ", ".join(f"{n} .{suffix}" for suffix, n in made.left_out.items())
        pairs["left out"] = f"{left} (pickles, or weights of another selection)"
    facts(pairs)
    # Stock webdataset opens no s3:// by itself.
    url = f"pipe:aws s3 cp {made.pattern} -" if made.url.startswith("s3://") else made.pattern
    members = ", ".join(f'"{m}"' for m in (dataset.image, dataset.label, "tamis.json") if m is not None)
    click.echo(
        "\nRead it with stock webdataset; it shares out whole shards to ranks and workers:\n"
        f'  wds.WebDataset("{url}", shardshuffle={len(made.shards)}).shuffle(1000)'
        f'.decode("torchrgb8").to_tuple({members})'
    )


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


def _by_class(labels: list[int], classes: tuple[str, ...]) -> dict[str, int]:
    import numpy as np

    counts = np.bincount(np.asarray(labels, np.int64), minlength=len(classes)).tolist()
    return {(classes[i] if i < len(classes) else str(i)): n for i, n in enumerate(counts)}
