"""`tamis dataset pack`: images into shards; the group with all that is added to it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.dataset import dataset
from tamis.flows.cli.datasets.relabel import relabel
from tamis.flows.cli.datasets.renew import renew
from tamis.flows.cli.datasets.showing import show_dataset
from tamis.flows.cli.detections.packing import pack_boxes
from tamis.flows.cli.lifecycle.commands import add_removal
from tamis.flows.cli.output import emit, facts, size

if TYPE_CHECKING:
    from tamis.store.shards.folders import Pictures

__all__ = ["dataset"]  # the group, with what is added to it here

dataset.add_command(relabel)
add_removal(dataset, "dataset", "datasets", "cifar10@2", " Only its last versions can go: later ones share its shards.")
dataset.add_command(renew)


@dataset.command()
@click.argument("name")
@click.argument("source")
@click.option("--out", type=click.Path(file_okay=False), help="Output folder; default: shards/NAME in the store.")
@click.option("--per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples per shard.")
@click.option("--keys", default="number", show_default=True, type=click.Choice(["number", "path"]),
              help="Make keys from class and number, or from file paths.")  # fmt: skip
@click.option("--check", is_flag=True, help="Decode each image, and refuse the folder if one fails.")
@click.option("--skip-bad", is_flag=True, help="Skip images that cannot be decoded; implies --check.")
@click.option("--dry-run", is_flag=True, help="Show what would be packed; write nothing.")
@common
def pack(
    app: App, name: str, source: str, out: str | None, per_shard: int, keys: str, check: bool, skip_bad: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Pack images into shards and index them.

    SOURCE is a folder with one subfolder of images per class, or digits (scikit-learn's; the test set is digits-test).
    A COCO folder (annotations.json and images/) or VOC folder (JPEGImages/ and Annotations/) also leaves a run that
    holds its boxes; crowd boxes and missing images are left out and listed.
    Files are packed unchanged, and formats can be mixed; hidden files and other file types are skipped and listed.
    Existing datasets and shards are never overwritten: the same images return them, others are refused.

    \b
    Examples:
      tamis dataset pack flowers pictures/
      tamis dataset pack flowers pictures/ --keys path --skip-bad
      tamis dataset pack flowers pictures/ --check --dry-run
      tamis dataset pack street coco-street/
      tamis dataset pack digits digits
      tamis dataset pack digits-test digits-test
    """
    from tamis.flows.progress import display, steps
    from tamis.store.datasets.packing import digit_samples, pack_dataset, picture_samples
    from tamis.store.detections.folders import is_annotated
    from tamis.store.keys import check_name
    from tamis.store.shards.checking import check_pictures
    from tamis.store.shards.folders import find_pictures

    store = app.open()
    check_name(name, "dataset")
    target = (Path(out) if out else _inside(store.root.path) / "shards" / name) / name
    if source in ("digits", "digits-test") and not Path(source).is_dir():
        if dry_run:
            raise click.UsageError("--dry-run applies only to folders of images.")
        test, few = source == "digits-test", min(per_shard, 300)
        show_dataset(app, pack_dataset(store.datasets, name, lambda: digit_samples(test), target, per_shard=few))
        return
    if is_annotated(source):
        pack_boxes(app, name, source, target, per_shard)
        return
    found = find_pictures(source)
    if check or skip_bad:
        with display():
            found = check_pictures(found, skip=skip_bad, progress=steps("check"))
    if dry_run:
        _show_plan(app, name, found, per_shard)
        return
    made = pack_dataset(
        store.datasets, name, lambda: picture_samples(found, keep_paths=keys == "path"), target,
        per_shard=per_shard, classes=found.classes, image=found.kind,
    )  # fmt: skip
    show_dataset(app, made, found.skipped)


def _show_plan(app: App, name: str, found: "Pictures", per_shard: int) -> None:
    answer = {
        "dataset": name,
        "dry_run": True,
        "samples": found.samples,
        "shards": -(-found.samples // per_shard),
        "bytes": found.bytes,
        "image": found.kind,
        "samples_by_class": {name: len(group) for name, group in zip(found.classes, found.files, strict=True)},
        "skipped": [one.as_json() for one in found.skipped],
    }
    told = {"bytes": size(found.bytes), "skipped": "; ".join(map(str, found.skipped)) or "none"}
    emit(answer, app.as_json, lambda: facts(answer | told))


def _inside(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("The store is not a folder: specify where the shards go (--out).")
    return path
