"""`tamis report timeline`: kept frames on the time lines of cameras."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say, table

if TYPE_CHECKING:
    from tamis.training.reports.culling.timeline import Line


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="SELECTION...")
@click.option("--scores", metavar="RUN", help="Plot the scores of this run as a curve.")
@click.option("--measure", default="confidence_loss", show_default=True, help="Which of its scores.")
@click.option("--plot", metavar="FILE", help="Plot kept frames by camera to a .png or .svg file.")
@common
def timeline(app: App, refs: tuple[str, ...], scores: str | None, measure: str, plot: str | None) -> None:
    """Show which frames of each camera selections keep, on the time line of the videos.

    Per camera: frames, frames kept by any round, the time of the first and last of them, and the longest time without
    one, in seconds. SELECTIONs are of one dataset that was added from videos.

    \b
    Examples:
      tamis report timeline site-hard
      tamis report timeline site-hard site-random --plot timeline.svg
      tamis report timeline site-hard --scores 1f0c9a --measure precision_loss --plot timeline.png --json
    """
    from tamis.training.reports.culling.timeline import timeline

    found = timeline(app.open(), refs, scores=scores, measure=measure)
    if plot is not None:
        from tamis.training.reports.drawing.timelines import draw_timeline

        draw_timeline(found, plot)

    def people() -> None:
        table([_row(line) for line in found.lines], title=f"Kept frames of {found.dataset}")
        if plot is not None:
            say(f"Drawn in {plot}")

    lines = [asdict(line) for line in found.lines]
    emit({"dataset": found.dataset, "lines": lines, "drawn": plot}, app.as_json, people)


def _row(line: "Line") -> dict[str, Any]:
    from tamis.training.reports.culling.clock import clock

    first, last = (None if at is None else clock(at) for at in (line.first, line.last))
    return {
        "selection": line.selection, "camera": line.camera, "frames": line.frames, "kept": line.kept, "first": first,
        "last": last, "longest gap": line.longest_gap,
    }  # fmt: skip
