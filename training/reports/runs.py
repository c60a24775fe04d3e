"""Which training runs a report is of, and what they are called in it.

What: `finished` finds training runs, `recipe_of` is what two of them share if they differ in what is selected alone,
`label_runs` names each by its strategy, its selectivity or any field of its configuration.
How: a label has the parameters that tell apart the runs of one strategy in this very report, and always those that say
how many samples are chosen. So runs of one label differ in their seeds alone.
Cost: one read of the runs; no model is loaded.
"""

from collections.abc import Sequence
from typing import Any

from tamis.store import Store
from tamis.store.keys import split_ref
from tamis.store.runs import FINISHED, Run
from tamis.training.config import TrainConfig
from tamis.training.errors import ReportError
from tamis.training.strategies import strategy_of
from tamis.training.strategies.contract import Strategy

_DEFAULTS = {name: field.default for name, field in TrainConfig.model_fields.items() if not field.is_required()}
_APART = (
    "dataset", "selection", "reselect", "strategy", "rate_by", "evaluate_every", "record_losses", "seed", "keep_model",
    "select_on", "stop_after",
)  # fmt: skip
_CHOOSING = ("selectivity", "beta", "keep", "share", "ratio", "chosen", "budget")  # say how many are chosen
_BETA = 2.0  # of Selective-Backprop where nothing is said


def finished(store: Store, keys: Sequence[str] = (), *, dataset: str | None = None) -> list[Run]:
    """Finished training runs, those that are named in their order, or else all of them, the oldest first.

    Args:
        store: the store.
        keys: of runs, or their beginnings; the same one twice counts once.
        dataset: only runs on this, "name" or "name@version".

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        ReportError: a run that was named is no training run, or not finished.
    """
    if dataset is not None:
        store.datasets.get(dataset)  # a name that is not there would leave an empty report
    found = [store.runs.get(key) for key in keys] or [
        run for run in store.runs.all() if (run.kind, run.status) == ("train", FINISHED)
    ]
    for run in found:
        if (run.kind, run.status) != ("train", FINISHED):
            raise ReportError(f"Run {run.key[:12]} ({run.kind}, {run.status}) is not a finished training run.")
    once = {run.key: run for run in found}
    return [run for run in once.values() if dataset is None or dataset in (run.dataset, split_ref(run.dataset)[0])]


def settings_of(run: Run) -> dict[str, Any]:
    """A run's configuration, with the defaults of fields that came after it."""
    return _DEFAULTS | run.config


def strategy_of_run(run: Run) -> type[Strategy]:
    """The strategy that a run followed.

    Raises:
        StrategyError: there is none of that name.
    """
    return strategy_of({"selection": run.selection} | run.config)


def recipe_of(run: Run) -> dict[str, Any]:
    """What two training runs must share to differ in the selection alone.

    What the schedule counts is left out: training on everything makes as many backprops as its epochs have samples.
    """
    return {k: v for k, v in _recipe_fields(run).items() if k != "rate_by"} | {"dataset": run.dataset}


def label_runs(runs: Sequence[Run], by: str = "strategy") -> list[str]:
    """What each run is called.

    Args:
        runs: finished training runs.
        by: "strategy" (with the parameters that tell its runs apart), "name" (the strategy's name alone),
            "selectivity", or a field of the configuration or of the strategy's parameters, such as "lr" or "every".

    Returns:
        As many labels, in their order. Runs of one label belong together.

    Raises:
        ReportError: no run has such a field.
    """
    names = [strategy_of_run(run).name for run in runs]
    if by == "name":
        return names
    if by == "strategy":
        return _by_strategy(runs, names)
    values = [_selectivity(run) if by == "selectivity" else _value(run, by) for run in runs]
    if runs and all(value is None for value in values):
        raise ReportError(
            f"No run has a {by!r} to group by: expected strategy, name, selectivity, or a field of the configuration "
            "or of the strategy's parameters (tamis run show RUN lists them)."
        )
    return [
        name if value is None else f"{by}={_text(value)}" for name, value in zip(names, values, strict=True)
    ]  # a run without such a field goes by its strategy


def _by_strategy(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    facts = [_parameters(run) | _recipe_fields(run) for run in runs]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for name, fact in zip(names, facts, strict=True):
        by_name.setdefault(name, []).append(fact)
    differing = {name: _differing(mine) for name, mine in by_name.items()}
    labels: list[str] = []
    for name, mine in zip(names, facts, strict=True):
        told = [k for k, v in mine.items() if v is not None and (k in _CHOOSING or k in differing[name])]
        labels.append(", ".join([name, *(f"{k}={_text(mine[k])}" for k in told)]))
    return labels


def _parameters(run: Run) -> dict[str, Any]:
    """Those of the strategy, with the selection that a replay reads."""
    config = run.config
    if config.get("strategy") is not None:
        return {k: v for k, v in config["strategy"].items() if k not in ("name", "leaves")}
    if config.get("reselect") is not None:
        return {k: v for k, v in config["reselect"].items() if k != "name"}
    chosen = config.get("selection") or run.selection
    return {} if chosen is None else {"selection": chosen}


def _recipe_fields(run: Run) -> dict[str, Any]:
    return {name: value for name, value in settings_of(run).items() if name not in _APART}


def _differing(facts: Sequence[dict[str, Any]]) -> set[str]:
    """The names that do not have one value in all of them."""
    return {name for fact in facts for name in fact | facts[0] if fact.get(name) != facts[0].get(name)}


def _selectivity(run: Run) -> float | None:
    """About the share of the samples that gets a backward pass: s, or 1/(beta + 1); 1 for training on everything."""
    parameters = _parameters(run)
    if strategy_of_run(run).baseline:
        return 1.0
    if parameters.get("selectivity") is not None:
        return parameters["selectivity"]
    if "beta" not in parameters or parameters.get("priority") is not None:
        return next((parameters[name] for name in ("keep", "share", "chosen") if name in parameters), None)
    beta = parameters["beta"]
    return 1 / ((_BETA if beta is None else beta) + 1)


def _value(run: Run, name: str) -> Any:
    return _parameters(run).get(name, settings_of(run).get(name))


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
