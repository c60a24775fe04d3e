"""`tamis evaluate`: how good a trained model is on a dataset."""

from dataclasses import asdict

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, table


@click.command()
@click.argument("run")
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1), help="Batch size.")
@common
def evaluate(app: App, run: str, dataset: str, device: str, batch_size: int) -> None:
    """Evaluate the model of a finished training run. RUN is its key or a prefix of it.

    Shows accuracy and loss, overall and per class (for regression, the squared and absolute error). Nothing is stored.

    \b
    Examples:
      tamis evaluate 1f0c9a --dataset cifar10-test
      tamis evaluate 1f0c9a --dataset cifar10@2 --json
    """
    from tamis.flows.progress import display, steps
    from tamis.training.reports.evaluation import evaluate_run

    store = app.open()
    with display():
        bar = steps("evaluate")
        found = evaluate_run(store, run, dataset, device=device, batch_size=batch_size, progress=bar)

    def people() -> None:
        told = {name: value for name, value in asdict(found).items() if name not in ("metrics", "classes")}
        facts(told | found.metrics)
        rows = [{"class": one.label, "name": one.name, "samples": one.samples, **one.metrics} for one in found.classes]
        if rows:
            table(rows)

    emit(asdict(found), app.as_json, people)
