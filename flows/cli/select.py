"""`tamis select METHOD`: one command a method, made from the dictionary of methods."""

import json
from typing import Any

import click

from tamis.curation.methods import METHODS, Method, parameters
from tamis.flows.cli.common import App, common, run_flow, runner_option, said
from tamis.flows.cli.output import emit, facts


class _Methods(click.Group):
    """Says which methods there are when asked for another."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"Unknown method {args[0]!r}; there are: {', '.join(sorted(self.commands))}.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Methods)
def select() -> None:
    """Make a selection: METHOD chooses a budget of samples, and the choice is kept."""


_SCORE_OPTIONS = (
    click.option("--scores", multiple=True, metavar="RUN", help="Scoring runs; several: an ensemble. Default: newest."),
    click.option(
        "--measure",
        default="entropy",
        show_default=True,
        help="Which score ranks: entropy, margin, confidence, loss, or an imported metric.",
    ),
)


_ROUND_OPTIONS = (
    click.option("--rounds", default=1, show_default=True, type=click.IntRange(1), help="Choose anew so many times."),
    click.option("--every", default=20, show_default=True, type=click.IntRange(1), help="Epochs between rounds."),
)


def _command(method: Method) -> click.Command:
    scored = "scores" in method.needs

    @click.option("--dataset", required=True, help="name or name@version.")
    @click.option("--budget", required=True, help="How much: 40%, 0.4, or a number of samples.")
    @click.option("--name", help="The selection's name; default: from data set and measure or method.")
    @click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
    @click.option("--force", is_flag=True, help="Choose again, and say whether the stored answer is confirmed.")
    @runner_option
    @common
    def run(app: App, **given: Any) -> None:
        _select(app, method, given)

    for option in (*(_SCORE_OPTIONS if scored else ()), *(_ROUND_OPTIONS if method.rounds else ())):
        run = option(run)
    for name, default in parameters(method).items():
        run = _parameter(name, default, _described(method, name))(run)
    example = f"tamis select {method.name} --dataset cifar10 --budget 40%"
    help_text = f"{method.summary[0].upper()}{method.summary[1:]}.\n\n\b\nExamples:\n  {example}"
    help_text += " --measure margin\n" if scored else " --seed 7\n"
    second = "--scores 1f0c9a --scores 77ab02" if scored else "--per-class --json"
    help_text += f"  {example} {second if scored or 'per_class' in parameters(method) else '--json'}\n"
    return click.command(method.name, help=help_text)(run)


def _parameter(name: str, default: Any, described: str) -> Any:
    flag = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        return click.option(flag, name, is_flag=True, default=default, help=described)
    return click.option(flag, name, default=default, show_default=True, type=type(default), help=described)


def _described(method: Method, name: str) -> str:
    """The parameter's line in the method's docstring."""
    for line in (method.function.__doc__ or "").splitlines():
        if line.strip().startswith(f"{name}:"):
            return line.partition(":")[2].strip().capitalize()
    return ""


def _select(app: App, method: Method, given: dict[str, Any]) -> None:
    from tamis.training.selecting.by_scores import SelectConfig

    force = given.pop("force")
    own = {name: given.pop(name) for name in parameters(method)}
    fields = {k: v for k, v in given.items() if v is not None}
    config = SelectConfig(method=method.name, params=own, **fields)
    store = app.open()
    if given.get("scores"):
        config = config.model_copy(update={"scores": tuple(store.runs.get(key).key for key in given["scores"])})

    answer = run_flow("select", None, store.root.url, config, force=force)
    chosen = store.selections.get(answer["selection"])
    shown = answer | {
        "key": chosen.key,
        "dataset": chosen.dataset,
        "method": chosen.method,
        "params": chosen.params,
        "size": chosen.size,
        "excluded": chosen.stats.get("excluded", 0),
        "seconds": chosen.seconds,
    }
    form = {**shown, "params": json.dumps(chosen.params), "answer": said(answer["created"], answer["confirmed"])}
    form = {k: v for k, v in form.items() if k not in ("created", "confirmed")}
    emit(shown, app.as_json, lambda: facts(form))


for _method in METHODS.values():
    select.add_command(_command(_method))
