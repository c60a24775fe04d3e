"""`tamis select stages`: Dataset Culling for classification, a student first and a teacher on what is left."""

from typing import Any

import click

from tamis.flows.cli.common import App, common, said
from tamis.flows.cli.output import emit, facts
from tamis.flows.cli.selections.gradmatch import select

__all__ = ["select"]  # the group, with what is added to it here


@select.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--student", required=True, metavar="RUN", help="Finished training run of the small classifier.")
@click.option("--teacher", required=True, metavar="RUN", help="Finished training run of the large classifier.")
@click.option("--look", required=True, help="What the teacher looks at: 10%, 0.1, or a number of samples.")
@click.option("--budget", "keep", required=True, help="What is kept, of the dataset: 1%, 0.01, or a number of samples.")
@click.option("--q", default=4.0, show_default=True, type=click.FloatRange(0), help="Q of the confidence loss.")
@click.option("--name", help="The selection's name; default: DATASET-stages.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--score-batch", default=256, show_default=True, type=click.IntRange(1), help="Batch size for scoring.")
@click.option("--force", is_flag=True, help="Select again, and report whether the stored result matches.")
@common
def stages(
    app: App, device: str, score_batch: int, force: bool, name: str | None, student: str, teacher: str, **given: Any
) -> None:
    """Cull a dataset for a small classifier: it chooses what a large one looks at, and both what is kept.

    The student runs on everything, and the samples with the highest confidence loss go to the teacher. Kept are those
    on which the student's probabilities have the highest cross-entropy against the teacher's. Labels are not used.

    \b
    Examples:
      tamis select stages --dataset cifar10 --student 1f0c9a --teacher 77ab02 --look 20% --budget 5%
    """
    from tamis.training.selecting.by_stages import StagesConfig, cull_classes

    store = app.open()
    keys = {"student": store.runs.get(student).key, "teacher": store.runs.get(teacher).key}
    made = cull_classes(
        store, StagesConfig(name=name, **keys, **given), device=device, batch_size=score_batch, force=force
    )
    chosen = made.selection
    shown = {
        "selection": chosen.ref, "key": chosen.key, "dataset": chosen.dataset, "size": chosen.size,
        "looked_at_by_student": chosen.stats["looked_at_by_student"],
        "looked_at_by_teacher": chosen.stats["looked_at_by_teacher"], "excluded": chosen.stats["excluded"],
        "seconds": chosen.seconds,
    }  # fmt: skip
    answer = {"answer": said(made.created, made.confirmed)}
    emit(shown | {"created": made.created, "confirmed": made.confirmed}, app.as_json, lambda: facts(shown | answer))
