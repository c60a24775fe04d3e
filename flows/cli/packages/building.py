"""`tamis package build`: train the candidates of an application, and publish them as a package."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common, limit_options, resources, run_flow
from tamis.flows.cli.fields import FieldsCommand
from tamis.flows.cli.lifecycle.commands import add_removal, add_rename
from tamis.flows.cli.output import emit, note, say
from tamis.flows.cli.packages.package import package
from tamis.flows.cli.packages.showing import package_answer, show_package

if TYPE_CHECKING:
    from tamis.training.mainstream.trainer.config import PackageConfig

__all__ = ["package"]  # the group, with what is added to it here

add_removal(package, "package", "packages", "trains@1", " Its candidates stay, for later builds.")
add_rename(package, "package", "packages")


def _config() -> "type[PackageConfig]":
    from tamis.training.mainstream.trainer.config import PackageConfig

    return PackageConfig


@package.command(cls=FieldsCommand, fields=_config, without=("name",))
@click.argument("name")
@limit_options
@common
def build(app: App, name: str, device: str, workers: int, score_batch: int, **fields: Any) -> None:
    """Train models that share more or less of a base model's stem, and publish them as package NAME.

    A candidate branches off at each branchpoint: the layers before it stay frozen, those behind it are fine-tuned, with
    a new head. The features of frozen layers are computed once for all candidates. Accuracy, true and false positive
    rate are measured on held-out data; the length and frequency of events and the correlation of misses on the
    dataset's time line, if they are not given.

    Candidates are stored as they are finished: a killed build resumes, and another build of the same data, base and
    recipe begins with them. --workers trains several at once.

    \b
    Examples:
      tamis package build people --dataset site --base efficientnet-lite0 --weights lite0.pth --event person
      tamis package build people --dataset site --base efficientnet-lite0 --weights lite0.pth --event person \\
          --image-size 128 --branchpoints 8 --evaluate-on site-later --smooth 1
      tamis package build cats --dataset photos --base resnet18-cifar --base-run 1f0c9a --event cat \\
          --selection photos-entropy --evaluate-on photos-test --average 4 --minimum 1 --frequency 0.1
      tamis package build people --dataset site --base mobilenet_v2 --weights mobilenet.pth --event person \\
          --branchpoints 0,8,16 --workers 2 --json
    """
    from tamis.training.models.registry import check_model  # loads torch

    config = _config()(name=name, **{k: v for k, v in fields.items() if v is not None})
    check_model(config.base)
    store = app.open()
    answer = run_flow("package_build", resources(device, workers, score_batch), store.root.url, config)
    made = store.packages.get(answer["package"])
    shown = package_answer(made, store.packages.bases.get(made.base)) | answer
    emit(shown, app.as_json, lambda: _show(shown))


def _show(shown: dict[str, Any]) -> None:
    show_package(shown, None)
    said = f"{shown['trained']} candidates trained, {shown['found']} found"
    say(f"{'Cached' if shown['cached'] else 'New'}: {said}")
    for one in shown["candidates"]:
        for doubt in one["metrics"]["doubts"]:
            note(f"Candidate at branchpoint {one['branch']}: {doubt}.")
