"""`tamis dataset`: index shards, pack images, look."""

from typing import Any

import click

from tamis.flows.cli.common import App, Share, common, run_flow, runner_option
from tamis.flows.cli.datasets.showing import show_dataset
from tamis.flows.cli.datasets.video import add_frames, are_videos, refuse_options, video_options
from tamis.flows.cli.output import emit, facts, say, size, table


@click.group()
def dataset() -> None:
    """Add, pack, renew, split, relabel, flip, list, show and verify datasets."""


@dataset.command()
@click.argument("name")
@click.argument("shards", nargs=-1, required=True)
@click.option("--image", default="auto", show_default=True, help="The input member (png, jpg, ...).")
@click.option(
    "--label", default="auto", show_default=True, help="The label: a member (cls), json:label.id, number:txt, or none."
)
@click.option("--classes", type=click.Path(exists=True, dir_okay=False), help="A file with one class name per line.")
@click.option("--append", is_flag=True, help="Create the next version of an existing dataset.")
@click.option("--digests/--no-digests", default=True, show_default=True, help="Hash every shard to detect changes.")
@video_options
@runner_option
@common
def add(
    app: App,
    name: str,
    shards: tuple[str, ...],
    image: str,
    label: str,
    classes: str | None,
    append: bool,
    digests: bool,
    **videos: Any,
) -> None:
    """Index WebDataset shards in place, or pack frames of videos.

    SHARDS are tar files, s3:// URLs, or quoted patterns of either; a classes.txt next to the first local shard is
    used. Adding the same shards at a new location, or with new class names, updates the dataset; its key, scores and
    selections stay. Members that belong to no sample are skipped and listed. Nothing is copied or rewritten.

    Videos (mp4, m4v, mov, mkv, webm, avi, ts, mpg, mpeg, h264; local files) are decoded into shards of frames. A
    dataset may have many cameras: each video is of the camera that CAMERA=PATH or --camera names, else its file. The
    table frames has camera, video and seconds of every sample. Repeating the command returns the existing dataset, and
    resumes packing that was interrupted. Damaged parts are skipped and listed. Needs pip install 'tamis[video]'.

    \b
    Examples:
      tamis dataset add cifar10 data/train-*.tar
      tamis dataset add cifar10 data/more-000010.tar --append
      tamis dataset add photos 'photos/*.tar' --image jpg --label none
      tamis dataset add cifar10 's3://bucket/cifar10/train-*.tar'
      tamis dataset add lobby lobby.mp4 --fps 1
      tamis dataset add site north=a.mp4 south=b.mp4 --fps 0.5
      tamis dataset add site north=later.mp4 --fps 0.5 --append --start after
    """
    from tamis.flows.configs import IndexConfig
    from tamis.store.shards.shards import expand

    paths = expand(shards)
    if are_videos(paths):
        refuse_options("videos", "image", "label", "classes", "digests")
        add_frames(app, name, paths, append, **videos)
        return
    refuse_options("shards", *videos)
    names = _classes(classes, paths, append)
    config = IndexConfig(
        name=name,
        shards=tuple(paths),
        image=image,
        label=None if label == "none" else label,
        classes=tuple(names),
        digests=digests,
        append=append,
    )
    store = app.open()
    made = run_flow("index", None, store.root.url, config)
    show_dataset(app, store.datasets.get(made.dataset), made.skipped, moved=made.moved, renamed=made.renamed)


def _shares(_context: click.Context, _option: click.Parameter, text: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in text.split(",")]
    try:
        shares = {name.strip(): float(share) for name, _, share in pairs}
    except ValueError:
        shares = {}
    if len(shares) < len(pairs) or "" in shares:
        raise click.BadParameter(f"{text!r}: expected names and shares, such as train=.8,validation=.2.")
    return shares


@dataset.command()
@click.argument("ref", metavar="NAME")
@click.option("--into", required=True, callback=_shares, help="Parts and shares, such as train=.8,validation=.2.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the split.")
@click.option("--stratify", is_flag=True, help="Split each class by the same shares.")
@click.option("--by", default="chance", show_default=True, type=click.Choice(["chance", "time"]),
              help="Draw samples, or cut each camera's time line, the earliest frames first.")  # fmt: skip
@common
def split(app: App, ref: str, into: dict[str, float], seed: int, stratify: bool, by: str) -> None:
    """Split a dataset into datasets named NAME-PART. No shard is copied or rewritten.

    Shares are exact to within one sample, or one per class with --stratify. If they add up to less than 1, the rest is
    in no part. Repeating a split returns the existing parts.

    \b
    Examples:
      tamis dataset split cifar10 --into train=.8,validation=.2 --seed 1
      tamis dataset split cifar10@1 --into train=.8,validation=.1,test=.1 --stratify
      tamis train --dataset cifar10-train --evaluate-on cifar10-validation --model preact20
      tamis dataset split lobby --into train=.8,validation=.2 --by time
    """
    from tamis.store import summaries

    made = app.open().datasets.split(ref, into, seed=seed, stratify=stratify, by_time=by == "time")
    parts = [summaries.dataset(part) for part in made]
    emit(parts, app.as_json, lambda: table(parts, ("dataset", "samples", "shards", "key")))


@dataset.command()
@click.argument("ref", metavar="NAME")
@click.option("--share", required=True, type=Share(), help="Share of the labels to flip, such as 10% or 0.1.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the flips.")
@click.option("--as", "name", metavar="NAME", help="Name of the new dataset. Default: NAME-flipped.")
@common
def flip(app: App, ref: str, share: float, seed: int, name: str | None) -> None:
    """Derive a dataset with label noise. No shard is copied or rewritten.

    Exactly this share of the samples gets the label of another class, drawn uniformly from the other classes
    (UniformFlip). Training, scores and SQL see the new labels; the source keeps its own. Repeating a flip returns the
    existing dataset. The table dataset_origins records source, share and seed.

    \b
    Examples:
      tamis dataset flip cifar10 --share 10%
      tamis dataset flip cifar10@1 --share 20% --seed 1 --as cifar10-noisy
      tamis report labels cifar10-flipped
    """
    from tamis.store import summaries

    datasets = app.open().datasets
    made = datasets.flip(ref, share, seed=seed, name=name)
    flips = datasets.flipped(made.ref)
    answer = {"dataset": made.ref, "key": made.key, "source": flips.source, "samples": made.samples}
    answer |= {"flipped": len(flips.samples), "share": flips.share, "seed": flips.seed}
    answer |= {"samples_by_class": summaries.dataset(made)["samples_by_class"]}
    emit(answer, app.as_json, lambda: facts(answer))


@dataset.command()
@click.argument("name")
@click.argument("shards", nargs=-1, required=True)
@common
def relocate(app: App, name: str, shards: tuple[str, ...]) -> None:
    """Update the location of a dataset's shards.

    SHARDS are some or all of its tar files at their new location; they are matched by digest, not by name. The
    dataset's key, scores and selections stay.

    \b
    Examples:
      tamis dataset relocate cifar10 /new/place/*.tar
      tamis dataset relocate cifar10 's3://bucket/cifar10/train-*.tar'
    """
    from tamis.flows.progress import display, steps
    from tamis.store.shards.shards import expand

    with display():
        found, moved = app.open().datasets.relocate(name, expand(shards), steps("relocate"))
    answer = {"dataset": found.ref, "key": found.key, "moved": moved, "first_shard": found.shards[0].uri}
    emit(answer, app.as_json, lambda: facts(answer))


@dataset.command()
@click.argument("name")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@common
def classes(app: App, name: str, file: str | None) -> None:
    """Show or correct the class names of a dataset.

    FILE has one class name per line, in the order of the class numbers. The dataset's key, scores and selections stay;
    the table dataset_changes keeps earlier names.

    \b
    Examples:
      tamis dataset classes cifar10
      tamis dataset classes cifar10 classes.txt
    """
    from tamis.store.datasets.classes import read_classes

    datasets = app.open().datasets
    found = datasets.rename_classes(name, read_classes(file)) if file else datasets.get(name)
    answer = {"dataset": found.ref, "classes": list(found.classes)}
    emit(answer, app.as_json, lambda: table([{"class": i, "name": n} for i, n in enumerate(found.classes)]))


@dataset.command()
@common
def ls(app: App) -> None:
    """List every version of every dataset.

    \b
    Examples:
      tamis dataset ls
      tamis dataset ls --json
    """
    from tamis.store import summaries

    rows = summaries.datasets(app.open())
    shown = ("dataset", "version", "samples", "shards", "bytes", "image", "label", "created")
    emit(rows, app.as_json, lambda: table([r | {"bytes": size(int(str(r["bytes"])))} for r in rows], shown))


@dataset.command()
@click.argument("ref")
@common
def show(app: App, ref: str) -> None:
    """Show one dataset: REF is a name or name@version.

    \b
    Examples:
      tamis dataset show cifar10
      tamis dataset show cifar10@1 --json
    """
    show_dataset(app, app.open().datasets.get(ref))


@dataset.command()
@click.argument("ref")
@common
def verify(app: App, ref: str) -> None:
    """Hash every shard and list those that changed or are missing (exit code 1).

    \b
    Example:
      tamis dataset verify cifar10
    """
    from tamis.flows.progress import display, steps

    found = app.open().datasets.get(ref)
    with display():
        problems = found.verify(steps("verify"))
    answer = {"dataset": found.ref, "shards": len(found.shards), "problems": problems}
    emit(
        answer,
        app.as_json,
        lambda: say("\n".join(problems) or f"{found.ref}: {len(found.shards)} shards are as indexed"),
    )
    if problems:
        raise SystemExit(1)


def _classes(given: str | None, paths: list[str], append: bool) -> list[str]:
    from tamis.store.datasets.classes import classes_beside, read_classes

    if given:
        return read_classes(given)
    return [] if append else classes_beside(paths[0])
