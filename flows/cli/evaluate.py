"""`tamis evaluate`: how good a trained model is on a dataset."""

from dataclasses import asdict

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, table


@click.command()
@click.argument("run")
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--truth", metavar="RUN", help="For detectors: the run with the true boxes, annotations or a teacher's.")
@click.option(
    "--truth-score", default=0.0, show_default=True, type=click.FloatRange(0, 1),
    help="Leave out boxes of truth with a lower score.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1), help="Batch size.")
@common
def evaluate(
    app: App, run: str, dataset: str, truth: str | None, truth_score: float, device: str, batch_size: int
) -> None:
    """Evaluate the model of a finished training run. RUN is its key or a prefix of it.

    Shows accuracy and loss, overall and per class (for regression, the squared and absolute error; for detectors, mean
    average precision by the boxes of --truth). RUN may also be a run of tamis score boxes: its stored boxes are
    compared with those of --truth, class by class name, on the samples that both looked at. Nothing is stored.

    \b
    Examples:
      tamis evaluate 1f0c9a --dataset cifar10-test
      tamis evaluate 1f0c9a --dataset cifar10@2 --json
      tamis evaluate 77ab02 --dataset street-test --truth 5e77c1 --truth-score 0.5
    """
    from tamis.flows.progress import display, steps
    from tamis.training.reports.evaluation import evaluate_run

    store = app.open()
    with display():
        bar = steps("evaluate")
        found = evaluate_run(
            store, run, dataset, truth=truth, truth_score=truth_score, device=device, batch_size=batch_size,
            progress=bar,
        )  # fmt: skip

    def people() -> None:
        told = {name: value for name, value in asdict(found).items() if name not in ("metrics", "classes")}
        facts(told | found.metrics)
        rows = [{"class": one.label, "name": one.name, "samples": one.samples, **one.metrics} for one in found.classes]
        if rows:
            table(rows)

    emit(asdict(found), app.as_json, people)
