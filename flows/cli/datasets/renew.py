"""`tamis dataset renew`: index and score what is new of a growing dataset, and make its selections again."""

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tamis.flows.cli.common import App, common, limit_options, resources, run_flow
from tamis.flows.cli.output import emit, facts, note, say, table

if TYPE_CHECKING:
    from tamis.flows.renewal.config import RenewConfig, RenewResult

_RECIPE = ("epochs", "batch_size", "lr", "augment")
_RESOURCES = ("name", "config", "device", "workers", "score_batch", "store", "as_json", "verbose")
_SHOWN = 3  # vanished shards that are named


@click.command()
@click.argument("name", required=False)
@click.option("--config", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
              help="Everything below and more from a TOML or JSON file.")  # fmt: skip
@click.option("--shards", multiple=True, metavar="PATTERN",
              help="Where shards arrive: a path, URL, quoted pattern, folder or s3:// prefix; repeatable.")  # fmt: skip
@click.option("--proxy", metavar="MODEL", help="Proxy model: preact20, resnet18, module:function, ...")
@click.option("--epochs", default=10, show_default=True, type=click.IntRange(1), help="Training epochs of the proxy.")
@click.option("--ensemble", default=1, show_default=True, type=click.IntRange(1),
              help="Number of proxies, with seeds SEED, SEED+1, ...")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the (first) proxy.")
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(1), help="Training batch size.")
@click.option("--lr", default=0.1, show_default=True, type=float, help="Learning rate of the proxy.")
@click.option("--augment", default="crop-flip", show_default=True, type=click.Choice(["none", "crop-flip"]))
@click.option("--retrain-growth", metavar="SHARE", help="Retrain the proxy once the dataset grew by more: 20%.")
@click.option("--retrain-age", metavar="AGE", help="Retrain the proxy on a grown dataset once it is older: 30d, 12h.")
@click.option("--budget", help="Renew a selection of 40%, 0.4, or a number of samples.")
@click.option("--method", default="uncertainty", show_default=True, help="Its method; see `tamis select`.")
@click.option("--measure", help="Score to rank by; default: the method's usual one.")
@click.option("--as", "selection", metavar="NAME", help="Its name; default: DATASET-MEASURE or DATASET-METHOD.")
@limit_options
@common
def renew(
    app: App, name: str | None, config: str | None, device: str, workers: int, score_batch: int, **given: Any
) -> None:
    """Bring a growing dataset up to date: new shards, their scores, and selections (a flow, for schedules).

    NAME is a dataset in the store. Shards that it does not have are appended in sorted order; changed shards are
    refused, missing ones are reported. The newest finished training run of the proxy's recipe scores them, whatever
    version it was trained on; with --retrain-growth or --retrain-age it is trained again, and then scores every shard
    again. Selections are published as new versions if their inputs changed. If nothing is new, nothing is done, in
    seconds and without loading a model. A killed renewal resumes.

    Methods that use scores, features or nothing are renewed from what is stored, gradmatch by a pass of the proxies;
    selections made in a training loop cannot be renewed.

    --config takes several proxies and selections, parameters of methods, and scorers. Its fields are those of
    `tamis.flows.renewal.config.RenewConfig`, and of the config of the flow renew for `tamis serve`.

    \b
    Examples:
      tamis dataset renew cifar10 --shards 'data/train-*.tar' --proxy preact20 --epochs 2 --budget 40%
      tamis dataset renew cifar10 --shards s3://bucket/cifar10/ --proxy preact20 --epochs 2 --retrain-growth 20% \\
        --retrain-age 30d --measure margin --budget 40% --as cifar10-nightly
      tamis dataset renew --config nightly.toml --json
    """
    asked = _from_options(name, given) if config is None else _from_file(name, Path(config))
    store = app.open()
    made = run_flow("renew", resources(device, workers, score_batch), store.root.url, asked)
    emit(made.model_dump(mode="json"), app.as_json, lambda: _show(made))
    if made.vanished:
        more = len(made.vanished) - _SHOWN
        named = ", ".join(made.vanished[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        note(f"{_count(len(made.vanished), 'shard')} of {made.dataset} missing: {named}. Restore or relocate them "
             "(tamis dataset relocate): scores stay, training on them fails.")  # fmt: skip
    for skipped in made.skipped:
        note(f"Skipped: {skipped}")


def _from_options(name: str | None, given: dict[str, Any]) -> "RenewConfig":
    from tamis.flows.renewal.config import RenewConfig

    if name is None:
        raise click.UsageError("Specify what to renew: NAME with options, or --config FILE.")
    seeds = range(given["seed"], given["seed"] + given["ensemble"]) if given["proxy"] else ()
    recipe = {field: given[field] for field in _RECIPE}
    asked: dict[str, Any] = {"dataset": name, "shards": given["shards"]}
    asked["proxies"] = tuple({"model": given["proxy"], "seed": seed, **recipe} for seed in seeds)
    asked["retrain"] = {"growth": given["retrain_growth"], "age": given["retrain_age"]}
    return RenewConfig.model_validate(asked | _selection(given))


def _selection(given: dict[str, Any]) -> dict[str, Any]:
    """The selection that options describe."""
    context = click.get_current_context()
    told = [o for o in ("method", "measure", "selection") if context.get_parameter_source(o) != ParameterSource.DEFAULT]
    if given["budget"] is None:
        if told:
            raise click.UsageError("Specify how much to select: --budget 40%, 0.4, or a number of samples.")
        return {}
    if given["method"] == "gradmatch":
        return {"matches": ({"reselect": {"budget": given["budget"], "name": given["selection"]}},)}
    names = {"method": "method", "measure": "measure", "budget": "budget", "name": "selection"}
    return {"selections": ({field: given[option] for field, option in names.items()},)}


def _from_file(name: str | None, path: Path) -> "RenewConfig":
    """The config of a file, which says everything."""
    from tamis.flows.renewal.config import RenewConfig

    context = click.get_current_context()
    sources = {o.name: context.get_parameter_source(o.name or "") for o in context.command.params}
    more = [o for o, source in sources.items() if o not in _RESOURCES and source == ParameterSource.COMMANDLINE]
    if more:
        flags = ", ".join(f"--{option}".replace("_", "-") for option in more if option)
        raise click.UsageError(f"--config says everything: leave out {flags}, or put them into {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        asked = tomllib.loads(text) if path.suffix.lower() != ".json" else json.loads(text)
    except ValueError as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise click.UsageError(f"{path} cannot be read as {kind}: {error}.") from error
    if not isinstance(asked, dict):
        raise click.UsageError(f"{path} holds no table of fields: expected dataset, shards, proxies, selections.")
    config = RenewConfig.model_validate(asked if name is None else {"dataset": name, **asked})
    if name not in (None, config.dataset):
        raise click.UsageError(f"{path} is about {config.dataset}, not {name}: leave the name out.")
    return config


def _show(made: "RenewResult") -> None:
    if made.nothing_new:
        say(f"Nothing new: {made.dataset}, its scores and {_count(len(made.selections), 'selection')} are up to date.")
    else:
        facts({"dataset": made.dataset, "before": made.before, "new shards": made.fresh, "moved shards": made.moved})
    if made.proxies:
        table([p.model_dump() | {"run": p.run[:12]} for p in made.proxies], title="Proxies")
    if made.nothing_new:
        return
    if made.passes:
        table([_pass(result.model_dump()) for result in made.passes], title="Scores")
    if made.selections:
        rows = [{"selection": s["selection"], "answer": "new" if s["created"] else "cached"} for s in made.selections]
        table(rows, title="Selections")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _pass(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": result["run"][:12],
        "model": result["model"],
        "shards scored": f"{result['parts_computed']} of {result['parts']}",
        "answer": "cached" if result["cached"] else "new",
    }
