"""`tamis selection plan` and `materialize`: how a selection is best read, and writing it as shards of its own."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, say, size, table
from tamis.flows.cli.selections.selection import selection
from tamis.store.sql.sizes import parse_size

if TYPE_CHECKING:
    from tamis.store.datasets import Dataset
    from tamis.training.export.manifest import Curated
    from tamis.training.streaming.advice import ReadingPlan

__all__ = ["selection"]  # the group, with what is added to it here


def _count(value: str, option: str) -> int:
    """64MiB, 200MB, or a number of bytes."""
    count = parse_size(value)
    if count is None:
        raise click.BadParameter(f"{value!r}: expected bytes, such as 64MiB, 200MB or 1000000.", param_hint=option)
    return count


def _shard_size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    from tamis.training.export.materialize import LARGEST

    count = _count(value, "--shard-size")
    if not 1 <= count <= LARGEST:
        raise click.BadParameter(f"{value!r}: expected 1 byte to 4GiB, such as 64MiB, 200MB or 1000000.")
    return count


@selection.command()
@click.argument("ref")
@click.option("--epochs", default=1, show_default=True, type=click.IntRange(1), help="Epochs of the training run.")
@click.option("--latency", type=click.FloatRange(0), help="Milliseconds per request; default: measured.")
@click.option("--bandwidth", type=click.FloatRange(0, min_open=True), help="MB per second; default: measured.")
@click.option("--cache", default="64GiB", show_default=True, help="Disk space for whole shards on this machine.")
@common
def plan(app: App, ref: str, epochs: int, latency: float | None, bandwidth: float | None, cache: str) -> None:
    """Recommend how to read a selection: byte ranges, whole shards, or materialized shards.

    Measures latency and bandwidth by reading a few MB, unless both are given. A stream with `reading="auto"` decides
    in the same way, for one epoch; `reading="ranges"` or `"shards"` overrides it.

    \b
    Examples:
      tamis selection plan cifar10-entropy --epochs 30
      tamis selection plan cifar10-entropy --epochs 30 --latency 20 --bandwidth 100
      tamis selection plan cifar10-entropy@1 --json
    """
    from tamis.training.streaming.advice import measure
    from tamis.training.streaming.advice import plan as make

    store = app.open()
    found = store.selections.get(ref)
    costs = measure(
        store,
        store.datasets.get(found.dataset),
        latency=None if latency is None else latency / 1e3,
        bandwidth=None if bandwidth is None else bandwidth * 1e6,
    )
    made = make(store, found, epochs=epochs, costs=costs, cache_limit=_count(cache, "--cache"))
    emit(asdict(made) | {"selection": found.ref}, app.as_json, lambda: _plan(made))


def _plan(made: "ReadingPlan") -> None:
    rows = [
        {
            "way": f"* {way.name}" if way.name == made.best else f"  {way.name}",
            "requests": way.requests,
            "first epoch": f"{size(way.bytes_first)}, {way.seconds_first:.3g} s",
            "later epochs": f"{size(way.bytes_later)}, {way.seconds_later:.3g} s",
            f"{made.epochs} epochs, s": way.seconds(made.epochs),
            "disk": size(way.disk),
        }
        for way in made.ways
    ]
    table(rows, title=f"Waiting for the medium ({'an object store' if made.remote else 'files of this machine'})")
    said = ", ".join(made.costs.measured) + " measured" if made.costs.measured else "as told"
    say(f"{made.costs.latency * 1e3:.3g} ms a request, {made.costs.bandwidth / 1e6:,.0f} MB/s ({said}).")
    say(made.why)


@selection.command()
@click.argument("ref")
@click.argument("destination", required=False)
@click.option(
    "--epoch", type=click.IntRange(0), help="Use the round in effect in this epoch; default: the first round."
)
@click.option(
    "--shard-size", default="64MiB", show_default=True, callback=_shard_size, help="Approximate size of a shard."
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Shards written at once.")
@click.option(
    "--check",
    default="stamp",
    show_default=True,
    type=click.Choice(["stamp", "headers", "digest"]),
    help="Check source shards by size and time, also by tar headers, or by digest.",
)
@common
def materialize(
    app: App, ref: str, destination: str | None, epoch: int | None, shard_size: int, workers: int, check: Any
) -> None:
    """Write a selection as WebDataset shards, with weights, for programs that do not use tamis.

    DESTINATION is a folder or a URL (s3://...); default: a folder in the store. A sample's weight is in its member
    tamis.json. Existing shards are reused, and a killed command resumes.

    \b
    Examples:
      tamis selection materialize cifar10-entropy
      tamis selection materialize cifar10-entropy@1 /data/curated --shard-size 200MB --workers 4
      tamis selection materialize cifar10-entropy s3://bucket/curated --json
    """
    from tamis.flows.progress import display, steps
    from tamis.training.export.materialize import materialize as write

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
    from tamis.training.export.manifest import stock_reader

    said = "cached" if made.cached else "new" + (f"; {made.kept} shards were there" if made.kept else "")
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
    say(
        "\nRead it with webdataset, which distributes whole shards to ranks and workers:\n  "
        + stock_reader(made, dataset)
    )
