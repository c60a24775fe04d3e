"""`tamis report`: what selecting has cost and saved, and which labels look wrong."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, Share, common
from tamis.flows.cli.output import emit, facts, note, say, table, text

if TYPE_CHECKING:
    from tamis.training.reports.speedup import Report, Speedup


@click.group()
def report() -> None:
    """Reports on runs and labels."""


@report.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--full", metavar="RUN", help="Full training run to compare with; default: the one with the same recipe.")
@click.option(
    "--accuracy", type=click.FloatRange(0, 1, min_open=True), help="Accuracy to compare at; default: each run's best."
)
@click.option("--dataset", help="Only training runs on this dataset: name or name@version.")
@click.option("--out", metavar="FILE", help="Plot accuracy over time to a .png or .svg file.")
@common
def speedup(
    app: App, runs: tuple[str, ...], full: str | None, accuracy: float | None, dataset: str | None, out: str | None
) -> None:
    """Show how much faster than full training each run reached its best accuracy, selection included.

    Speedup is the time in which full training (same model, data and recipe) reached that accuracy, divided by the time
    of the run. Runs that select their own samples include that time; for a replay, the cost of the selection is shown
    separately, with the number of replays after which it has paid off. RUNs are keys or prefixes of them; default: all
    with evaluations during training (--evaluate-every).

    \b
    Examples:
      tamis report speedup
      tamis report speedup --dataset cifar10 --out speedup.svg
      tamis report speedup 1f0c9a 77ab02 --full 5e77c1 --accuracy 0.9 --json
    """
    from tamis.training.reports.plots import draw_speedups
    from tamis.training.reports.speedup import speedups

    found = speedups(app.open(), runs, full=full, accuracy=accuracy, dataset=dataset)
    drawn = None if out is None else str(draw_speedups(found.rows, out))
    if found.unmeasured:
        left = f"{len(found.unmeasured)} training runs" if len(found.unmeasured) > 1 else "1 training run"
        note(f"{left} skipped: no intermediate evaluations (--evaluate-every).")
    emit(asdict(found) | {"drawn": drawn}, app.as_json, lambda: _show(found, drawn))


@report.command()
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
    emit(answer, app.as_json, lambda: _show_labels(answer))


def _show_labels(answer: dict[str, Any]) -> None:
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


def _show(found: "Report", drawn: str | None) -> None:
    table([_row(one) for one in found.rows], title="Fixed-accuracy speedup over full training")
    for one in found.rows:
        if one.note is not None:
            say(f"{one.run[:12]}: {one.note}.")
    if drawn is not None:
        say(f"Written to {drawn}")


def _row(one: "Speedup") -> dict[str, Any]:
    methods = {"full": "full", "replay": f"{one.method}, replayed", "reselect": one.method}
    pays = one.pays_after if one.saved is None or one.pays_after is not None else "never"
    return {
        "run": one.run[:12],
        "method": methods[one.way],
        "selection": one.selection,
        "dataset": one.dataset,
        "model": one.model,
        "lr": one.lr,
        "optimizer": one.optimizer,
        "best": one.best,
        "to": one.accuracy,
        "seconds": one.seconds,
        "full's": one.full_seconds,
        "selecting": one.selecting,
        "stream": one.stream,
        "speedup": one.speedup,
        "pays after": f"{pays} replay{'s' * (pays != 1)}" if isinstance(pays, int) else pays,
    }
