"""`tamis report html`: selections as one file that a browser opens without a server."""

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="SELECTION...")
@click.option("--out", required=True, metavar="FILE", help="Output file, .html.")
@click.option("--first", type=click.IntRange(1), help="Show the first samples as kept, the others as dropped.")
@click.option("--images", default=30, show_default=True, type=click.IntRange(0, 200), help="Images per group.")
@common
def html(app: App, refs: tuple[str, ...], out: str, first: int | None, images: int) -> None:
    """Write one selection, or a comparison of several, as a self-contained HTML file.

    Shows what the page of `tamis ui` shows: kept beside dropped images in the order of selection, class balance,
    scores, cost and payback, lineage; of several selections of one dataset their differences and overlap. Images and
    styles are in the file, and no script.

    \b
    Examples:
      tamis report html cifar10-entropy --out entropy.html
      tamis report html cifar10-entropy cifar10-random --first 500 --images 60 --out compared.html
    """
    from tamis.flows.web.alone import MOST, write

    if len(refs) > MOST:
        raise click.UsageError(f"{len(refs)} selections given: a report shows up to {MOST}.")
    found = write(app.open(), refs, out, first=first, images=images)
    emit({"selections": found, "written": out}, app.as_json, lambda: say(f"Written to {out}"))
