"""`tamis score boxes`: have a detector look at frames."""

from typing import Any

import click

from tamis.flows.cli.common import App, common, limit_options, resources, run_flow, said
from tamis.flows.cli.output import emit, facts, note
from tamis.flows.cli.score import score

__all__ = ["score"]  # the group, with what is added to it here
_BATCH = 8  # frames that a detector is given at once, where nothing is said


@score.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--model", required=True, metavar="MODULE:FUNCTION|RUN", help="Your own detector, or a training run.")
@click.option("--weights", type=click.Path(exists=True, dir_okay=False), help="Weights file for your own detector.")
@click.option("--classes", type=click.Path(exists=True, dir_okay=False),
              help="A file with one class name per line; default: the detector's own.")  # fmt: skip
@click.option("--selection", help="Look only at the samples of this selection.")
@click.option("--epoch", default=0, show_default=True, type=click.IntRange(0), help="The selection's round to use.")
@limit_options
@common
def boxes(
    app: App, dataset: str, model: str, weights: str | None, classes: str | None, selection: str | None, epoch: int,
    device: str, workers: int, score_batch: int,
) -> None:  # fmt: skip
    """Find boxes in frames with a detector (tables boxes and detections).

    A detector of your own is a function that takes the weights file and returns a torch.nn.Module under torchvision's
    contract: a list of images in, a list of dicts of boxes, labels and scores out. Label 0 is the background unless
    the module declares `background = False`. Frames that the detector has seen are never looked at again: a killed pass
    resumes, and a larger selection costs only what is new. A frame on which the detector fails is recorded as failed,
    with its error. --score-batch is 8 unless given, and 64 at most.

    \b
    Examples:
      tamis score boxes --dataset street --model nanodet:detector --weights nanodet.pt
      tamis score boxes --dataset street --model nanodet:detector --weights nanodet.pt --selection street-diverse
      tamis sql "select class, count(*) from boxes where score > .5 group by class"
    """
    from tamis.flows.configs import DetectConfig
    from tamis.store.datasets.classes import read_classes

    names = tuple(read_classes(classes)) if classes else ()
    store = app.open()
    config = DetectConfig(
        dataset=dataset, model=model, weights=weights, classes=names, selection=selection, epoch=epoch
    )
    limits = resources(device, workers, some_frames(score_batch))
    _show(app, run_flow("detect", limits, store.root.url, config))


def some_frames(score_batch: int) -> int:
    """Frames that a detector is given at once: what --score-batch says, or what suits detectors."""
    source = click.get_current_context().get_parameter_source("score_batch")
    return _BATCH if source is click.core.ParameterSource.DEFAULT else score_batch


def _show(app: App, made: dict[str, Any]) -> None:
    metrics = made["metrics"]
    told = {name: made[name] for name in ("run", "dataset", "model")}
    told |= {"frames": metrics["frames"], "seen before": metrics["cached"], "ms a frame": metrics["ms"]}
    told |= {name: metrics[name] for name in ("boxes", "empty", "failed")}
    emit(made, app.as_json, lambda: facts(told | {"answer": said(not made["cached"], None)}))
    if metrics["failed"]:
        note(
            f"The detector failed on {metrics['failed']} frames: select sample, error from detections where run = "
            f"'{made['run']}' and status = 'failed'."
        )
    left = {"nonfinite": "with numbers that are not finite", "outside": "without an area inside the image",
            "unknown": "of unknown classes"}  # fmt: skip
    for name, words in left.items():
        if metrics[name]:
            note(f"Left out: {metrics[name]} boxes {words}.")
