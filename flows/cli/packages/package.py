"""`tamis package`: the group, and looking at what there is; what builds, plans and runs is in modules of its own."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, size, table
from tamis.flows.cli.packages.branchpoints import branchpoints
from tamis.flows.cli.packages.planning import plan
from tamis.flows.cli.packages.profiling import profile
from tamis.flows.cli.packages.replanning import replan
from tamis.flows.cli.packages.running import run

if TYPE_CHECKING:
    from tamis.store.packages import Package

_LISTED = ("package", "base", "candidates", "accuracy", "dataset", "event", "created")


@click.group()
def package() -> None:
    """M-Packages: fine-tuned models of one application that share the stem of a base model."""


@package.command()
@common
def ls(app: App) -> None:
    """List every version of every package.

    \b
    Examples:
      tamis package ls
      tamis package ls --json
    """
    packages = app.open().packages
    models = {base.key: base.model for base in packages.bases.all()}
    rows = [_row(one, models) for one in packages.all()]
    emit(rows, app.as_json, lambda: table(rows, _LISTED))


@package.command()
@click.argument("ref", metavar="NAME")
@click.option("--plot", metavar="FILE", help="Plot accuracy against frozen layers to a .png or .svg file.")
@common
def show(app: App, ref: str, plot: str | None) -> None:
    """Show a package: its candidates, event figures and lineage. NAME is a name or name@version.

    A candidate's branch is the number of base-model segments that it shares, frozen the number of layers in them;
    parameters counts its specialised layers. tpr and fpr are its true and false positive rates per frame.

    \b
    Examples:
      tamis package show trains
      tamis package show trains@2 --plot trains.svg
      tamis package show trains --json
    """
    from tamis.flows.cli.packages.showing import package_answer, show_package

    packages = app.open().packages
    found = packages.get(ref)
    drawn = None
    if plot is not None:
        from tamis.training.reports.drawing.packages import draw_package

        drawn = str(draw_package(found, plot))
    answer = package_answer(found, packages.bases.get(found.base)) | {"drawn": drawn}
    emit(answer, app.as_json, lambda: show_package(answer, drawn))


@package.command()
@click.argument("ref", metavar="NAME")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--without-base", is_flag=True, help="Leave out the base model, for stores that have it.")
@common
def export(app: App, ref: str, folder: str, without_base: bool) -> None:
    """Export a package to a new folder: manifest.json and safetensors files.

    \b
    Examples:
      tamis package export trains trains/
      tamis package export trains@1 trains-1/ --without-base
    """
    made = app.open().packages.export(ref, folder, with_base=not without_base)
    answer = {"package": made.package, "folder": made.folder, "files": made.files, "bytes": made.bytes}
    emit(answer, app.as_json, lambda: facts(answer | {"bytes": size(made.bytes)}))


@package.command(name="import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--as", "name", metavar="NAME", help="Name of the package. Default: the one in the manifest.")
@common
def import_(app: App, folder: str, name: str | None) -> None:
    """Import a package from a folder written by `tamis package export`.

    Every file is verified by its digest; if one is altered, truncated or missing, nothing is imported. The package
    becomes the next version of its name; importing it again returns the existing version.

    \b
    Examples:
      tamis package import trains/
      tamis package import trains/ --as trains-from-site-b
    """
    made = app.open().packages.import_(folder, name=name)
    answer = {"package": made.package.ref, "key": made.package.key, "candidates": len(made.package.candidates)}
    told = answer | {"answer": "new" if made.created else "cached"}
    emit(answer | {"created": made.created}, app.as_json, lambda: facts(told))


def _row(one: "Package", models: dict[str, str]) -> dict[str, Any]:
    return {
        "package": one.ref,
        "key": one.key,
        "base": models.get(one.base, one.base[:12]),
        "candidates": len(one.candidates),
        "accuracy": max(c.accuracy for c in one.candidates),
        "dataset": one.dataset,
        "event": one.event_class,
        "created": one.created,
    }


package.add_command(branchpoints)
package.add_command(plan)
package.add_command(profile)
package.add_command(replan)
package.add_command(run)
