"""`tamis report culling`: detectors by what was kept of a dataset."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table
from tamis.flows.cli.reports.frontier import spread_text

if TYPE_CHECKING:
    from tamis.training.reports.culling.report import Culling, Trained


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--dataset", required=True, help="Dataset that was trained on: name or name@version.")
@click.option("--plot", metavar="FILE", help="Plot mAP over kept share and over seconds to a .png or .svg file.")
@common
def culling(app: App, runs: tuple[str, ...], dataset: str, plot: str | None) -> None:
    """Compare detectors trained on selections of a dataset, and on all of it: precision and cost.

    Kept: samples of the selection over those of the dataset. map, map50, small, medium, large: mean average precision
    as COCO defines it. Seconds: training, without evaluations; selecting, with all passes that the selection rests on;
    and both together. Selecting is stage 0 (before the student looks), the student's pass, the teacher's, and choosing.
    Runs that differ in their seeds only are one row, with the standard deviation.

    A second table has the milliseconds per frame of student and teacher. RUNs are keys or prefixes of them; default:
    all finished training runs of detectors on the dataset.

    \b
    Examples:
      tamis report culling --dataset street
      tamis report culling --dataset street --plot culling.svg
      tamis report culling 1f0c9a 77ab02 5e77c1 --dataset street@2 --json
    """
    from tamis.training.reports.culling.report import culling

    found = culling(app.open(), dataset, runs)
    if plot is not None:
        from tamis.training.reports.drawing.cullings import draw_culling

        draw_culling(found, plot)
    if found.left_out:
        many = "1 training run" if len(found.left_out) == 1 else f"{len(found.left_out)} training runs"
        note(f"{many} skipped: not evaluated (--evaluate-on), or selecting in the loop (see tamis report costs).")
    emit(asdict(found) | {"drawn": plot}, app.as_json, lambda: _show(found, plot))


def _show(found: "Culling", plot: str | None) -> None:
    table([_row(one) for one in found.groups], title=f"Detectors on {found.dataset}, evaluated on {found.judge}")
    parts = ("stage0", "student", "teacher", "choosing")
    costs = [{"trained on": one.label} | {part: getattr(one, part) for part in parts} for one in found.groups]
    table(costs, title="Seconds of selecting")
    looked = [{"role": one.role, "run": one.run[:12], "model": one.model, "frames": one.frames} for one in found.passes]
    table([row | {"ms": one.ms} for row, one in zip(looked, found.passes, strict=True)], title="Milliseconds a frame")
    if plot is not None:
        say(f"Drawn in {plot}")


def _row(one: "Trained") -> dict[str, Any]:
    measures = {name.replace("map_", ""): spread_text(value) for name, value in one.measures.items()}
    return {
        "trained on": one.label, "runs": len(one.runs), "kept": f"{one.kept:.2%}", **measures,
        "training": spread_text(one.training), "selecting": one.selecting, "total": spread_text(one.total),
    }  # fmt: skip
