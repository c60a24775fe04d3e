"""`tamis report similarity`: gradients of parts of batches beside those of the batches."""

from dataclasses import asdict

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say, table
from tamis.flows.cli.reports.lists import numbers


@click.command()
@click.argument("run")
@click.option("--dataset", required=True, help="Dataset whose batches are used: name or name@version.")
@click.option(
    "--selectivity", "shares", callback=numbers, default="0.1,0.33,0.5", show_default=True, metavar="SHARE,...",
    help="Shares of the batch to compare with the whole.",
)  # fmt: skip
@click.option("--batch", "batch_size", default=128, show_default=True, type=click.IntRange(1), help="Batch size.")
@click.option("--batches", default=20, show_default=True, type=click.IntRange(1), help="Number of batches.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of batches and random parts.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--plot", metavar="FILE", help="Plot both over selectivity to a .png or .svg file.")
@common
def similarity(
    app: App,
    run: str,
    dataset: str,
    shares: tuple[float, ...],
    batch_size: int,
    batches: int,
    seed: int,
    device: str,
    plot: str | None,
) -> None:
    """Compare the gradient of the high-loss part of a batch, and of a random part, with that of the whole batch.

    Shows the cosine similarity and the share of parameters whose gradients have the same sign: means over batches with
    standard errors. Gradients are those of the model of RUN, a finished training run's key or a prefix of it, in
    evaluation mode. Nothing is stored.

    \b
    Examples:
      tamis report similarity 1f0c9a --dataset cifar10
      tamis report similarity 1f0c9a --dataset cifar10 --selectivity 0.05,0.1,0.25 --plot similarity.svg
      tamis report similarity 1f0c9a --dataset cifar10@2 --batch 256 --batches 50 --seed 1 --json
    """
    from tamis.flows.progress import display, steps
    from tamis.training.reports.similarity import similarity

    store = app.open()
    with display():
        bar = steps("similarity")
        found = similarity(
            store, run, dataset, selectivities=shares, batch_size=batch_size, batches=batches, seed=seed,
            device=device, progress=bar,
        )  # fmt: skip
    if plot is not None:
        from tamis.training.reports.drawing.drawings import draw_similarity

        draw_similarity(found, plot)
    if found.vanished:
        note(f"{found.vanished} of {batches} batches left out: a gradient is 0 or not finite.")

    def people() -> None:
        title = f"Gradients of {found.run[:12]} on {found.batches} batches of {found.batch_size} from {found.dataset}"
        table([asdict(row) for row in found.rows], title=title)
        if plot is not None:
            say(f"Drawn in {plot}")

    emit(asdict(found) | {"drawn": plot}, app.as_json, people)
