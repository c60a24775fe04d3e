"""`tamis score culling`: score frames by a student's boxes, and a teacher's."""

import click

from tamis.flows.cli.common import App, common, said
from tamis.flows.cli.detections.counting import counting, counting_options
from tamis.flows.cli.detections.scoring import score
from tamis.flows.cli.output import emit, facts, note

__all__ = ["score"]  # the group, with what is added to it here


@score.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--student", required=True, metavar="RUN", help="Run of tamis score boxes by the student.")
@click.option("--teacher", metavar="RUN", help="Run with the teacher's boxes, or annotations; adds precision_loss.")
@counting_options
@click.option("--q", default=4.0, show_default=True, type=click.FloatRange(0), help="Q of the confidence loss.")
@click.option("--iou", default=0.5, show_default=True, type=click.FloatRange(0, 1, min_open=True),
              help="Least intersection over union of a match.")  # fmt: skip
@click.option("--standardize/--no-standardize", default=True, show_default=True, help="z-scores by class.")
@common
def culling(
    app: App, dataset: str, student: str, teacher: str | None, preset: str, classes: tuple[str, ...],
    pairs: tuple[str, ...], q: float, iou: float, standardize: bool,
) -> None:  # fmt: skip
    """Score frames for Dataset Culling, from stored boxes; no model runs.

    Metrics: confidence_loss and entropy of the student's boxes (higher is harder), and with a teacher precision_loss
    (higher is harder), precision and recall (lower is harder). Frames that a detector did not look at have no score and
    are left out of selections.

    \b
    Examples:
      tamis score culling --dataset street --student 1f0c9a
      tamis select culling --dataset street --budget 1024 --name to-look-at
      tamis score culling --dataset street --student 1f0c9a --teacher 77ab02 --class car --class person
      tamis select culling --dataset street --measure precision_loss --budget 256
    """
    from tamis.training.signals.culling import CullingConfig, score_culling

    store = app.open()
    found = store.datasets.get(dataset)
    config = CullingConfig.model_validate(
        counting(preset, classes, pairs) | {"q": q, "iou": iou, "standardize": standardize}
    )
    keys = [None if run is None else store.runs.get(run).key for run in (student, teacher)]
    assert keys[0] is not None
    run, cached = score_culling(store, found, keys[0], keys[1], config)
    answer = {"run": run.key, "dataset": run.dataset, "model": run.model, "metrics": run.config["metrics"]}
    answer |= {"samples": run.metrics["samples"], "cached": cached}
    told = {name: value for name, value in answer.items() if name != "cached"} | {"answer": said(not cached, None)}
    emit(answer, app.as_json, lambda: facts(told))
    for who in ("student", "teacher"):
        if count := run.metrics.get(f"unlooked_{who}"):
            note(f"The {who} has not looked at {count} samples; selections by its scores leave them out.")
