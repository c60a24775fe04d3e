"""`tamis dataset`: index shards, pack images, look."""

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common, run_light
from tamis.flows.cli.output import emit, facts, say, size, table
from tamis.flows.counting import by_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tamis.store.datasets import Dataset
    from tamis.store.shards.skipped import Skipped


@click.group()
def dataset() -> None:
    """Datasets: add, pack, list, show, verify."""


@dataset.command()
@click.argument("name")
@click.argument("shards", nargs=-1, required=True)
@click.option("--image", default="auto", show_default=True, help="The member that is the input (png, jpg, ...).")
@click.option(
    "--label", default="auto", show_default=True, help="The label: a member (cls), json:label.id, number:txt, or none."
)
@click.option("--classes", type=click.Path(exists=True, dir_okay=False), help="A file with one class name a line.")
@click.option("--append", is_flag=True, help="Make the next version of a dataset that exists.")
@click.option("--digests/--no-digests", default=True, show_default=True, help="Hash every shard, to notice changes.")
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
) -> None:
    """Index WebDataset shards in place. Nothing is copied or rewritten.

    SHARDS are tar files, s3:// URLs, or patterns of either in quotes; classes.txt beside the first local shard is
    taken where there is one. Adding the same shards again at another place, or with other class names, changes where
    they lie and what the classes are called; the dataset's key, scores and selections stay. What of a shard belongs to
    no sample is skipped and named.

    \b
    Examples:
      tamis dataset add cifar10 data/train-*.tar
      tamis dataset add cifar10 data/more-000010.tar --append
      tamis dataset add photos 'photos/*.tar' --image jpg --label none
      tamis dataset add cifar10 's3://bucket/cifar10/train-*.tar'
    """
    from tamis.flows.configs import IndexConfig
    from tamis.flows.work import index_shards

    paths = _expand(shards)
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
    made = run_light("index", lambda: index_shards(store, config), store.root.url, config)
    _show(app, store.datasets.get(made.dataset), made.skipped, moved=made.moved, renamed=made.renamed)


@dataset.command()
@click.argument("name")
@click.argument("source")
@click.option("--out", type=click.Path(file_okay=False), help="Where the shards go; default: shards/NAME in the store.")
@click.option("--per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples a shard.")
@common
def pack(app: App, name: str, source: str, out: str | None, per_shard: int) -> None:
    """Pack images into shards and index them.

    SOURCE is a folder with one sub-folder of images for each class, or digits (scikit-learn's, with test digits as
    digits-test). Files are packed byte for byte; hidden files and what is no image are skipped and named. An existing
    dataset, or shard, is never written over: the same images give what exists, others are refused.

    \b
    Examples:
      tamis dataset pack flowers pictures/
      tamis dataset pack digits digits
      tamis dataset pack digits-test digits-test
    """
    from tamis.store.datasets.packing import digit_samples, pack_dataset, picture_samples
    from tamis.store.keys import check_name
    from tamis.store.shards.folders import find_pictures

    store = app.open()
    check_name(name, "dataset")
    target = (Path(out) if out else _inside(store.root.path) / "shards" / name) / name
    if source in ("digits", "digits-test") and not Path(source).is_dir():
        test = source == "digits-test"
        made = pack_dataset(store.datasets, name, lambda: digit_samples(test), target, per_shard=min(per_shard, 300))
        _show(app, made)
        return
    found = find_pictures(source)
    made = pack_dataset(
        store.datasets, name, lambda: picture_samples(found), target, per_shard=per_shard, classes=found.classes
    )
    _show(app, made, found.skipped)


@dataset.command()
@click.argument("name")
@click.argument("shards", nargs=-1, required=True)
@common
def relocate(app: App, name: str, shards: tuple[str, ...]) -> None:
    """Say where the shards of a dataset lie now.

    SHARDS are some or all of its tar files, at their new place; they are told by their digests, whatever they are
    called. The dataset's key, scores and selections stay.

    \b
    Examples:
      tamis dataset relocate cifar10 /new/place/*.tar
      tamis dataset relocate cifar10 's3://bucket/cifar10/train-*.tar'
    """
    from tamis.flows.progress import display, steps

    with display():
        found, moved = app.open().datasets.relocate(name, _expand(shards), steps("relocate"))
    answer = {"dataset": found.ref, "key": found.key, "moved": moved, "first_shard": found.shards[0].uri}
    emit(answer, app.as_json, lambda: facts(answer))


@dataset.command()
@click.argument("name")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@common
def classes(app: App, name: str, file: str | None) -> None:
    """Show what the classes of a dataset are called, or correct it.

    FILE has one class name a line, in the order of the class numbers. The dataset's key, scores and selections stay;
    earlier names stay in the table dataset_changes.

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
    rows = app.open().datasets.all()
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
    _show(app, app.open().datasets.get(ref))


@dataset.command()
@click.argument("ref")
@common
def verify(app: App, ref: str) -> None:
    """Hash every shard again and name those that changed or are missing (exit code 1).

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


def _show(app: App, found: "Dataset", skipped: "Sequence[Skipped]" = (), **also: object) -> None:
    counts, more = by_class(found.labels(), found.classes) if found.has_classes else ({}, 0)
    answer: dict[str, Any] = {
        "dataset": found.ref,
        "key": found.key,
        "samples": found.samples,
        "shards": len(found.shards),
        "bytes": found.bytes,
        "image": found.image,
        "label": found.label,
        "samples_by_class": counts,
        "first_shard": found.shards[0].uri,
    }
    answer |= {name: value for name, value in also.items() if value}
    if more:
        answer["classes_not_shown"] = more
    if skipped:
        answer["skipped"] = [one.as_json() for one in skipped]
    told = {"skipped": "; ".join(map(str, skipped))} if skipped else {}
    emit(answer, app.as_json, lambda: facts(answer | {"bytes": size(found.bytes)} | told))


def _expand(patterns: tuple[str, ...]) -> list[str]:
    paths: list[str] = []
    for pattern in patterns:
        found = _matching(pattern) if any(c in pattern for c in "*?[") else [pattern]
        if not found:
            raise click.UsageError(f"{pattern!r} matches no file.")
        paths += found
    return paths


def _matching(pattern: str) -> list[str]:
    from tamis.store.roots.urls import is_remote
    from tamis.store.shards.shards import matching

    return matching(pattern) if is_remote(pattern) else sorted(glob.glob(pattern))


def _classes(given: str | None, paths: list[str], append: bool) -> list[str]:
    from tamis.store.datasets.classes import read_classes

    beside = Path(paths[0]).parent / "classes.txt"
    file = Path(given) if given else beside if beside.is_file() and not append else None
    return read_classes(file) if file else []


def _inside(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("The store is no folder: say where the shards go (--out).")
    return path
