"""`tamis package branchpoints`: where a base model can be shared, and what that saves."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, table

if TYPE_CHECKING:
    from tamis.training.mainstream.base.surveying import Row, Survey


@click.command()
@click.argument("model")
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="State dict to start from. Costs are the same without it.",
)  # fmt: skip
@click.option(
    "--image-size", type=click.IntRange(8), default=224, show_default=True, help="Height and width in pixels."
)
@click.option("--classes", type=click.IntRange(1), default=1000, show_default=True, help="Number of classes.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@common
def branchpoints(app: App, model: str, weights: Path | None, image_size: int, classes: int, device: str) -> None:
    """List the branchpoints of a base model: where its frozen stem can end.

    Per branchpoint: what crosses there for one image (shape and activations), parameters frozen before it and
    specialised after it, the time from there to the outputs (which each application adds), and the share of the whole
    model's time that applications have in common. Times are medians on this machine.

    \b
    Examples:
      tamis package branchpoints efficientnet-lite0
      tamis package branchpoints resnet18 --weights resnet18.pth --image-size 160
      tamis package branchpoints my_package.models:make --image-size 32 --classes 10 --json
    """
    from tamis.training.mainstream.base.surveying import survey

    found = survey(model, weights=weights, image_size=image_size, classes=classes, device=device)
    emit(_answer(found), app.as_json, lambda: _show(found))


def _answer(found: "Survey") -> dict[str, Any]:
    rows = [asdict(one.point) | {"seconds": one.seconds, "share": one.share} for one in found.branchpoints]
    given = None if found.given is None else found.given.facts()
    profile = found.profile.facts()
    return {"model": found.model, "head": found.head, "branchpoints": rows, "profile": profile, "weights": given}


def _show(found: "Survey") -> None:
    table([_row(one) for one in found.branchpoints], title=f"Branchpoints of {found.model}")
    threads = f"{found.profile.threads} thread" + ("s" if found.profile.threads > 1 else "")
    say(f"{found.profile.rest(0) * 1000:.1f} ms a frame on {found.profile.device}, {threads}.")
    if found.given is not None:
        say(found.given.line)


def _row(one: "Row") -> dict[str, Any]:
    point = one.point
    return {
        "index": point.index, "name": point.name or "(images)", "shape": "x".join(map(str, point.shape)),
        "activations": point.activations, "frozen": point.frozen, "specialised": point.parameters,
        "ms to outputs": round(one.seconds * 1000, 2), "share": f"{one.share:.0%}",
    }  # fmt: skip
