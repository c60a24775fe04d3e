"""`tamis selection stats`, `images` and `overlap`: how often what was chosen, and how alike choices are."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.lifecycle.commands import add_removal, add_rename
from tamis.flows.cli.output import emit, say, table
from tamis.flows.cli.selections.reading import selection

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.store.selections import Selection
    from tamis.training.reports.drawing.contact_sheet import Sheet
    from tamis.training.reports.priority import Overlap

__all__ = ["selection"]  # the group, with what is added to it here

add_removal(selection, "selection", "selections", "cifar10-entropy@1")
add_rename(selection, "selection", "selections")


@selection.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--weighted", is_flag=True, help="Histogram of summed weights instead of counts.")
@click.option("--bins", default=20, show_default=True, type=click.IntRange(1, 1000), help="Bins, excluding zero.")
@click.option("--out", metavar="FILE", help="Plot to a .png or .svg file.")
@common
def stats(app: App, refs: tuple[str, ...], weighted: bool, bins: int, out: str | None) -> None:
    """Show how often samples were selected over all rounds, as a histogram.

    Each round counts once; full rounds (of a warm start) are left out.

    \b
    Examples:
      tamis selection stats cifar10-gradmatch
      tamis selection stats cifar10-gradmatch cifar10-random --out histogram.png
      tamis selection stats cifar10-gradmatch --weighted --json
    """
    from tamis.training.reports.drawing.plots import draw_histogram
    from tamis.training.reports.priority import counts

    store = app.open()
    found = [store.selections.get(ref) for ref in refs]
    drawn = {one.ref: counts(one, _samples(store)(one), weighted=weighted, bins=bins) for one in found}
    answer = {ref: asdict(one) for ref, one in drawn.items()}
    if out is not None:
        draw_histogram({ref: one.histogram for ref, one in drawn.items()}, out, weighted=weighted)

    def people() -> None:
        for ref, one in answer.items():
            many = "1 round" if one["rounds"] == 1 else f"{one['rounds']} rounds"
            say(f"{ref}: {many}, {one['samples']} samples, {one['never']} never chosen")
            rows = [
                {"sum of weights" if weighted else "times chosen": each.text, "samples": each.samples}
                | {"share": f"{each.samples / one['samples']:.2%}"}
                for each in drawn[ref].histogram
            ]
            table(rows)
        if out is not None:
            say(f"Written to {out}")

    emit({"selections": answer, "weighted": weighted, "drawn": out}, app.as_json, people)


@selection.command()
@click.argument("ref")
@click.option("--most", default=64, show_default=True, type=click.IntRange(0), help="Most often selected images.")
@click.option("--least", default=64, show_default=True, type=click.IntRange(0), help="Least often selected images.")
@click.option("--out", metavar="FILE", required=True, help="Output file, .png.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Draws among images never selected.")
@click.option("--tile", default=72, show_default=True, type=click.IntRange(8, 1024), help="Pixels per image.")
@click.option("--columns", default=16, show_default=True, type=click.IntRange(1, 100), help="Images per row.")
@click.option("--left-out", is_flag=True, help="Instead of the least often selected: images never selected.")
@click.option(
    "--boxes", multiple=True, metavar="RUN", help="Draw the boxes of a run; twice: student (orange), teacher (blue)."
)
@click.option(
    "--min-score", default=0.5, show_default=True, type=click.FloatRange(0, 1),
    help="Draw boxes with this score or more.",
)  # fmt: skip
@common
def images(
    app: App, ref: str, most: int, least: int, out: str, seed: int, tile: int, columns: int, left_out: bool,
    boxes: tuple[str, ...], min_score: float,
) -> None:  # fmt: skip
    """Draw the images selected most and least often on a contact sheet, with number, count and label.

    Most: by count, sum of weights, best rank. Least: by count and sum of weights; of those never selected, a random
    draw. Only the images shown are read. Frames of videos have camera and time below, and with --boxes the number of
    boxes by run; "-" where it did not look.

    \b
    Examples:
      tamis selection images cifar10-gradmatch --most 64 --least 64 --out sheet.png
      tamis selection images cifar10-entropy --most 100 --least 0 --columns 10 --out hardest.png --json
      tamis selection images street-hard --left-out --boxes 1f0c9a --boxes 77ab02 --tile 320 --columns 4 --out sheet.png
    """
    from tamis.training.reports.drawing.contact_sheet import contact_sheet

    store = app.open()
    found = store.selections.get(ref)
    sheet = contact_sheet(
        store, found, most_often=most, least_often=least, seed=seed, tile=tile, columns=columns, left_out=left_out,
        boxes=boxes, least_score=min_score,
    )  # fmt: skip
    sheet.save(out)
    answer = {"selection": found.ref, "rounds": sheet.rounds, "never": sheet.never}
    answer |= {"most": [vars(one) for one in sheet.most], "least": [vars(one) for one in sheet.least], "drawn": out}
    emit(answer, app.as_json, lambda: _sheet(sheet, out))


def _sheet(sheet: "Sheet", out: str) -> None:
    for name, shown in (("most", sheet.most), ("least", sheet.least)):
        if shown:
            times = " to ".join(map(str, sorted({shown[0].times, shown[-1].times})))
            say(f"{len(shown)} chosen {name} often: in {times} of {sheet.rounds} rounds")
    say(f"{sheet.never} samples were never chosen\nWritten to {out}")


@selection.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option(
    "--epoch", type=click.IntRange(0), help="Compare the rounds in effect in this epoch; default: all rounds."
)
@common
def overlap(app: App, refs: tuple[str, ...], epoch: int | None) -> None:
    """Compare selections of one dataset pairwise, or the rounds of a single selection.

    Jaccard: samples in both over samples in either. Weight correlation: Pearson, over samples in both, of the weights
    in an epoch or of their sums over all rounds; empty if all weights are equal.

    \b
    Examples:
      tamis selection overlap cifar10-gradmatch cifar10-entropy cifar10-random
      tamis selection overlap cifar10-gradmatch cifar10-gradmatch@1 --epoch 40
      tamis selection overlap cifar10-gradmatch --json
    """
    from tamis.training.reports.priority import overlap as compare

    store = app.open()
    found = compare([store.selections.get(ref) for ref in refs], _samples(store), epoch=epoch)
    emit(asdict(found) | {"epoch": epoch}, app.as_json, lambda: _overlap(found))


def _overlap(found: "Overlap") -> None:
    def matrix(title: str, rows: Sequence[Sequence[float | None]]) -> None:
        pairs = zip(found.names, found.sizes, rows, strict=True)
        shown = [
            {"": f"{i} {name}", "samples": size} | {str(j): value for j, value in enumerate(row)}
            for i, (name, size, row) in enumerate(pairs)
        ]
        table(shown, title=title)

    matrix("Jaccard", found.jaccard)
    matrix("Weight correlation", found.weight_correlation)


def _samples(store: "Store") -> "Callable[[Selection], int]":
    """How many samples the dataset version of a selection has."""
    return lambda chosen: store.datasets.get(chosen.dataset).samples
