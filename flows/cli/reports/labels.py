"""`tamis report labels`: which labels look wrong."""

from typing import Any

import click

from tamis.flows.cli.common import App, Share, common
from tamis.flows.cli.output import emit, facts, say, table, text


@click.command()
@click.argument("ref", metavar="DATASET")
@click.option("--features", metavar="RUN", help="Run of tamis score features. Default: newest of this dataset.")
@click.option(
    "--losses",
    metavar="RUN",
    help="Scoring run with losses, or training run that recorded them. Default: newest scoring by the features' model.",
)
@click.option(
    "--high-loss", "high", type=Share(), default="10%", show_default=True, help="Share of the samples to look at."
)
@click.option("--near", type=Share(), default="95%", show_default=True, help="Share of the samples near some class.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(0), help="Samples to list of each kind.")
@click.option("--out", metavar="FILE", help="Draw the listed samples to a .png file.")
@common
def labels(
    app: App, ref: str, features: str | None, losses: str | None, high: float, near: float, top: int, out: str | None
) -> None:
    """Tell mislabelled from under-represented samples.

    Among the samples with the highest losses, those whose activations are near another class are listed as mislabelled,
    with that class as a suggestion; those far from every class are listed as under-represented. Needs features and
    losses of the dataset by one model. For a dataset made by tamis dataset flip, precision and recall at finding the
    flipped labels are shown, next to those of the highest losses alone.

    \b
    Examples:
      tamis score features --dataset cifar10 --model-run 1f0c9a
      tamis score uncertainty --dataset cifar10 --run 1f0c9a
      tamis report labels cifar10 --out suspects.png
      tamis report labels cifar10-flipped --high-loss 20% --top 0 --json
    """
    from tamis.training.reports import labels as reports

    store = app.open()
    found = reports.report(store, ref, features=features, losses=losses, high=high, near=near)
    answer = reports.summary(found, top)
    if out is not None:
        answer["drawn"] = reports.draw(store, found, out, top)
    emit(answer, app.as_json, lambda: _show(answer))


def _show(answer: dict[str, Any]) -> None:
    names = ("features", "losses", "loss_from", "left_out", "hard")
    facts({"dataset": answer["dataset"]} | {name: answer[name] for name in names})
    for kind, title in (("mislabelled", "Mislabelled"), ("under_represented", "Under-represented")):
        listed, count = answer[kind], answer[f"{kind}_count"]
        heading = f"{title}: {count}" + (f", the first {len(listed)}" if 0 < len(listed) < count else "")
        table(listed, title=heading) if listed else say(heading)
    if answer["checked"] is not None:
        _show_checked(answer["checked"])
    if "drawn" in answer:
        say(f"Written to {answer['drawn']}")


def _show_checked(checked: dict[str, Any]) -> None:
    rows = [
        {
            "first": one["first"],
            "by": by.replace("_", " "),
            "precision": one[by]["precision"],
            "recall": one[by]["recall"],
        }
        for one in checked["compared"]
        for by in ("mislabelled", "highest_loss")
    ]
    table(rows, title=f"Finding {checked['flips']} flipped labels")
    apart, right = checked["under_represented"], checked["suggested_right"]
    say(f"Flipped among the {apart['named']} under-represented: {text(apart['precision']) or 'none'}")
    say(f"Flipped labels found whose suggested class is the original: {text(right) or 'none'}")
