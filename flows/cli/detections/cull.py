"""`tamis cull`: keep the frames that teach a student most (Dataset Culling)."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common, limit_options, resources, run_flow
from tamis.flows.cli.detections.counting import counting, counting_options
from tamis.flows.cli.detections.scoring import some_frames
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.output import emit, facts, note, table

if TYPE_CHECKING:
    from pydantic import BaseModel

_NOT_ASKED = ("dataset", "selection", "reselect", "strategy", "span", "task", "distill")
_FILE = click.Path(exists=True, dir_okay=False)


def _fields() -> "type[BaseModel]":
    from tamis.training.config import TrainConfig

    return TrainConfig


@click.command(cls=FieldsCommand, fields=_fields, without=_NOT_ASKED)
@click.argument("dataset")
@click.option("--teacher", required=True, metavar="MODULE:FUNCTION|RUN", help="Detector whose boxes are the truth.")
@click.option("--teacher-weights", type=_FILE, help="Weights file for your own teacher.")
@click.option("--teacher-classes", type=_FILE, help="A file with one class name per line; default: the teacher's own.")
@click.option("--student", metavar="MODULE:FUNCTION|RUN", help="A trained student; default: stage 0 trains --model.")
@click.option("--student-weights", type=_FILE, help="Weights file for your own student.")
@click.option("--stage0", default="1%", show_default=True, metavar="BUDGET",
              help="Frames that stage 0 trains on, evenly over time: 1%, 1/100 or a number.")  # fmt: skip
@click.option("--first", default="1/50", show_default=True, metavar="BUDGET",
              help="Frames that stage 1 keeps for the teacher, of all.")  # fmt: skip
@click.option("--keep", default=("1/300",), show_default=True, multiple=True, metavar="BUDGET",
              help="Frames that stage 2 keeps, of all; repeat for several selections.")  # fmt: skip
@click.option("--measure", default="precision_loss", show_default=True,
              type=click.Choice(["precision_loss", "precision", "recall"]), help="What stage 2 ranks by.")  # fmt: skip
@click.option("--distinct", type=click.IntRange(0, 63),
              help="First drop frames that differ in at most so many of 64 bits from the last one kept.")  # fmt: skip
@counting_options
@click.option("--name", help="Name of the selections; default: the dataset's and culled.")
@limit_options
@common
def cull(
    app: App, dataset: str, teacher: str, teacher_weights: str | None, teacher_classes: str | None,
    student: str | None, student_weights: str | None, stage0: str, first: str, keep: tuple[str, ...], measure: str,
    distinct: int | None, preset: str, classes: tuple[str, ...], pairs: tuple[str, ...], name: str | None, device: str,
    workers: int, score_batch: int, **fields: Any,
) -> None:  # fmt: skip
    """Keep the few frames of a dataset that teach a student most, with a teacher's boxes as truth (Dataset Culling).

    Stage 1: the student looks at all frames, and those of the highest confidence loss stay. Stage 2: the teacher looks
    at these alone, and those where the student is most wrong are kept. Without --student, stage 0 first trains one on a
    small sample with the teacher's boxes; the training options are for that. Frames that a detector has seen are never
    looked at again: with another --keep the teacher is asked for nothing new, and a killed command resumes.

    \b
    Examples:
      tamis cull street --teacher nanodet:detector --teacher-weights nanodet.pt --model ssdlite-mobilenet --epochs 20
      tamis cull street --teacher nanodet:detector --teacher-weights nanodet.pt --student 1f0c9a --keep 1/300 --keep 1%
      tamis train --dataset street --selection street-culled --task detection --model ssdlite-mobilenet --truth 77ab02
    """
    from tamis.flows.detections.culling import CullConfig
    from tamis.store.datasets.classes import read_classes

    given = {key: value for key, value in fields.items() if value is not None}
    names = tuple(read_classes(teacher_classes)) if teacher_classes else ()
    asked: dict[str, Any] = {"dataset": dataset, "name": name}
    asked["teacher"] = {"model": teacher, "weights": teacher_weights, "classes": names}
    asked |= {"stage0": stage0, "first": first, "keep": keep, "measure": measure, "distinct": distinct}
    asked["culling"] = counting(preset, classes, pairs)
    if student is not None:
        asked["student"] = {"model": student, "weights": student_weights}
    else:
        asked["train"] = _training(dataset, given)
    config = CullConfig.model_validate(asked)
    limits = resources(device, workers, some_frames(score_batch))
    _show(app, run_flow("cull", limits, app.open().root.url, config))


def _training(dataset: str, given: dict[str, Any]) -> dict[str, Any]:
    """Stage 0."""
    from tamis.flows.detections.culling import TAUGHT

    if click.get_current_context().get_parameter_source("model") is click.core.ParameterSource.DEFAULT:
        raise click.UsageError("No student given: name a trained one as --student, or a --model that stage 0 trains.")
    return {"dataset": dataset, "task": "detection", "truth": (TAUGHT, *given.pop("truth", ())), **given}


def _show(app: App, made: dict[str, Any]) -> None:
    def shown() -> None:
        table([{"budget": budget, "selection": ref} for budget, ref in made["selections"].items()], title="Selections")
        told = {name: made[name] for name in ("dataset", "stage1", "distinct") if made[name]}
        told |= {f"{who} run": key for who, key in made["runs"].items()}
        told |= {"teacher looked at": f"{made['teacher_frames']} frames, {made['teacher_new']} of them now"}
        facts(told | {f"seconds, {stage}": round(seconds, 2) for stage, seconds in made["seconds"].items()})

    emit(made, app.as_json, shown)
    truth = made["runs"]["teacher"][:12]
    note(f"Train on a selection with the teacher's boxes: tamis train --task detection --truth {truth}")
