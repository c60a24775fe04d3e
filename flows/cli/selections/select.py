"""`tamis select METHOD`: one command a method, made from the dictionary of methods."""

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tamis.curation.contract import Method
from tamis.curation.errors import UnknownMethodError
from tamis.curation.methods import METHODS
from tamis.curation.parameters import Between, Parameter, parameters
from tamis.flows.cli.common import App, common, run_flow, runner_option, said
from tamis.flows.cli.output import emit, facts, note

if TYPE_CHECKING:
    from tamis.store.selections import Selection

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_READABLE = frozenset(
    {"labels", "scores", "correct", "features", "losses"}
)  # the signals that a generated command reads


class _Methods(click.Group):
    """Finds a method of one's own, and says which methods there are when asked for another."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if ":" not in cmd_name:
            return super().get_command(ctx, cmd_name)
        from tamis.training.selecting.own import find_method

        return _command(find_method(cmd_name)[0])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands and ":" not in args[0]:
            unknown = str(UnknownMethodError(args[0], sorted(self.commands)))
            ctx.fail(f"{unknown[0].upper()}{unknown[1:]}.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Methods)
def select() -> None:
    """Make a selection: METHOD selects a budget of samples, and the result is stored.

    METHOD may be your own: module:function, in the current folder or installed. Its parameters become options.

    \b
    Examples:
      tamis select random --dataset cifar10 --budget 10%
      tamis select mymethods:farthest --dataset cifar10 --budget 10% --help
    """


_SCORES_OPTION = click.option(
    "--scores", multiple=True, metavar="RUN", help="Scoring run; repeat for an ensemble. Default: newest."
)


def _measure_option(method: Method) -> Decorator:
    known = "entropy, margin, confidence, loss" if method.usual == "entropy" else method.usual
    words = f"Score to rank by: {known}, or {'an imported' if method.usual == 'entropy' else 'another'} metric."
    return click.option("--measure", default=method.usual, show_default=True, help=words)


_FEATURE_OPTION = click.option("--features", metavar="RUN", help="Run of tamis score features. Default: newest.")

_LOSSES_OPTION = click.option("--run", metavar="RUN", help="Run with losses. Default: newest of this version.")

_ROUND_OPTIONS = (
    click.option("--rounds", default=1, show_default=True, type=click.IntRange(1), help="Number of rounds."),
    click.option("--every", default=20, show_default=True, type=click.IntRange(1), help="Epochs between rounds."),
)

beside_random = click.option(
    "--beside-random", is_flag=True, help="Also make a random selection of the same size, NAME-random, for comparison."
)


def own_options(method: Method, without: tuple[str, ...] = ()) -> Decorator:
    """An option for each of a method's parameters, but for some."""
    return _all([_option(one) for name, one in parameters(method).items() if name not in without])


def _all(options: Sequence[Decorator]) -> Decorator:
    """Several options, in the order in which the help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _option(one: Parameter) -> Decorator:
    flag = "--" + one.name.replace("_", "-")
    if one.type is bool:
        both = f"{flag}/--no-{flag[2:]}" if one.default else flag
        return click.option(both, one.name, is_flag=True, default=one.default, help=one.help)
    kind = click.Choice(one.choices) if one.choices else _kind(one)
    shown = one.default is not None
    return click.option(flag, one.name, default=one.default, show_default=shown, type=kind, help=one.help)


def _kind(one: Parameter) -> Any:
    if one.within == Between() or one.type is str:
        return one.type
    low, high = max(one.within.least, one.within.above), min(one.within.most, one.within.below)
    ends: dict[str, Any] = {"min_open": one.within.above >= low, "max_open": one.within.below <= high}
    limits: dict[str, Any] = {"min": low, "max": high}
    limits = {name: one.type(end) for name, end in limits.items() if math.isfinite(end)}
    limits |= {f"{name}_open": ends[f"{name}_open"] for name in list(limits)}
    return (click.IntRange if one.type is int else click.FloatRange)(**limits)


def _command(method: Method) -> click.Command:
    scored, compared = "scores" in method.needs, not method.name.startswith("random")
    options = [
        click.option("--dataset", required=True, help="name or name@version."),
        click.option("--budget", required=True, help="40%, 0.4, or a number of samples."),
        *((_SCORES_OPTION,) if scored else ()),
        *((_measure_option(method),) if scored and method.measure is None else ()),
        *((_FEATURE_OPTION,) if "features" in method.needs else ()),
        *((_LOSSES_OPTION,) if "losses" in method.needs else ()),
        own_options(method),
        *(_ROUND_OPTIONS if method.rounds else ()),
        click.option("--name", help="The selection's name; default: DATASET-MEASURE or DATASET-METHOD."),
        click.option("--seed", default=0, show_default=True, type=click.IntRange(0)),
        *((beside_random,) if compared else ()),
        click.option("--force", is_flag=True, help="Select again, and report whether the stored result matches."),
        runner_option,
    ]

    @_all(options)
    @common
    def run(app: App, **given: Any) -> None:
        _select(app, method, given)

    return click.command(method.name, help=_help(method))(run)


def _help(method: Method) -> str:
    scored = "scores" in method.needs
    example = f"tamis select {method.name} --dataset cifar10 --budget {'50%' if method.caution else '40%'}"
    text = f"{method.summary[0].upper()}{method.summary[1:]}.\n\n\b\nExamples:\n  {example}"
    other = "margin" if method.usual == "entropy" else "precision_loss"
    text += f" --measure {other}\n" if scored and method.measure is None else " --seed 7\n"
    more = "--per-class --json" if "per_class" in parameters(method) else "--json"
    more = "--features 1f0c9a" if "features" in method.needs else more
    more = "--by forgetting --run 1f0c9a" if method.name == "losses" else more
    return text + f"  {example} {'--scores 1f0c9a --scores 77ab02' if scored else more}\n"


def _select(app: App, method: Method, given: dict[str, Any]) -> None:
    from tamis.training.selecting.by_scores import SelectConfig

    force, beside = given.pop("force"), given.pop("beside_random", False)
    own = {name: given.pop(name) for name in parameters(method)}
    fields = {k: v for k, v in given.items() if v is not None}
    config = SelectConfig(method=method.name, params=own, **fields)
    store = app.open()
    if given.get("scores"):
        config = config.model_copy(update={"scores": tuple(store.runs.get(key).key for key in given["scores"])})
    if given.get("features"):
        config = config.model_copy(update={"features": store.runs.get(given["features"]).key})
    if given.get("run"):
        config = config.model_copy(update={"run": store.runs.get(given["run"]).key})
    answer = run_flow("select", None, store.root.url, config, force=force)
    chosen = store.selections.get(answer["selection"])
    advice = method.advice(chosen.size, store.datasets.get(chosen.dataset).samples)
    shown = answer | {
        "key": chosen.key,
        "dataset": chosen.dataset,
        "method": chosen.method,
        "params": chosen.params,
        "size": chosen.size,
        "excluded": chosen.stats.get("excluded", 0),
        "seconds": chosen.seconds,
        "advice": advice,
    }
    if beside:
        shown["beside"] = make_beside(app, chosen, per_class=own.get("per_class", False), force=force)
    form = {**shown, "params": json.dumps(chosen.params), "answer": said(answer["created"], answer["confirmed"])}
    form = {k: v for k, v in form.items() if k not in ("created", "confirmed", "advice")}
    emit(shown, app.as_json, lambda: facts(form))
    if advice and not app.as_json:
        note(f"{advice}{'' if beside else ' (--beside-random makes one)'}.")


def make_beside(app: App, chosen: "Selection", *, per_class: bool = False, force: bool = False) -> str:
    """The random selection of the same size, as name@version; made where it is not there."""
    from tamis.training.selecting.beside import random_beside

    answer = run_flow("select", None, app.open().root.url, random_beside(chosen, per_class=per_class), force=force)
    return answer["selection"]


for _method in METHODS.values():
    if _method.needs <= _READABLE:
        select.add_command(_command(_method))
