"""`tamis score resolution`: the smallest frames that will do for a student."""

from typing import Any

import click

from tamis.flows.cli.common import App, common, limit_options, resources, run_flow
from tamis.flows.cli.detections.counting import counting, counting_options
from tamis.flows.cli.detections.culling import score
from tamis.flows.cli.detections.scoring import some_frames
from tamis.flows.cli.output import emit, facts, note, table

__all__ = ["score"]  # the group, with what is added to it here


@score.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--model", required=True, metavar="MODULE:FUNCTION|RUN", help="The student: a training run, or your own.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False), help="Weights file for your own detector.")
@click.option("--teacher", required=True, metavar="RUN", help="Run with the teacher's boxes of these frames.")
@click.option("--selection", help="Look only at the samples of this selection.")
@click.option("--scales", default="1,0.75,0.5,0.35,0.25", show_default=True, help="What both sides are multiplied by.")
@click.option("--bound", default=0.1, show_default=True, type=click.FloatRange(0),
              help="How much more than at full size the mean precision loss may be.")  # fmt: skip
@counting_options
@limit_options
@common
def resolution(
    app: App, dataset: str, model: str, weights: str | None, teacher: str, selection: str | None, scales: str,
    bound: float, preset: str, classes: tuple[str, ...], pairs: tuple[str, ...], device: str, workers: int,
    score_batch: int,
) -> None:  # fmt: skip
    """Find the smallest frames on which a student still agrees with its teacher (Dataset Culling).

    The student looks at the frames at full size, then smaller and smaller, until its mean precision loss exceeds that
    at full size by more than --bound. Passes are kept: a killed search resumes. A detector that scales frames to a side
    of its own sees less detail but costs the same; train it again with a side that many times smaller.

    \b
    Examples:
      tamis score resolution --dataset street --model 1f0c9a --teacher 77ab02
      tamis score resolution --dataset street --model 1f0c9a --teacher 77ab02 --selection street-culled --scales 1,.5
    """
    from tamis.flows.configs import DetectConfig
    from tamis.flows.detections.resolution import ResolutionConfig, smallest_frames

    store = app.open()
    student = DetectConfig(dataset=dataset, model=model, weights=weights, selection=selection)
    culling = counting(preset, classes, pairs)
    asked = {"student": student, "teacher": teacher, "scales": _scales(scales), "bound": bound, "culling": culling}
    limits = resources(device, workers, some_frames(score_batch))
    made = smallest_frames(
        store,
        ResolutionConfig.model_validate(asked),
        lambda config: run_flow("detect", limits, store.root.url, config),
    )
    _show(app, made)


def _scales(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < one <= 1 for one in found):
        raise click.UsageError(f"--scales {text}: expected numbers above 0, up to 1, such as 1,0.5,0.25.")
    return found


def _show(app: App, made: dict[str, Any]) -> None:
    def shown() -> None:
        rows = [
            {name: round(value, 4) if isinstance(value, float) else value for name, value in one.items()}
            for one in made["tried"]
        ]
        table([one | {"run": str(one["run"])[:12]} for one in rows], title="Scales")
        facts({"smallest scale that will do": made["scale"], "frames that count": made["frames"]})

    emit(made, app.as_json, shown)
    if made["scale"] == min(one["scale"] for one in made["tried"]):
        note("The smallest scale that was tried will do: try smaller ones with --scales.")
