"""Error against what it cost: Pareto points of runs, each strategy's share of them, times to an error.

What: from training runs that were evaluated as they went (`evaluate_every`), with e the error (1 - accuracy, or the
loss of tasks that know no accuracy) and c what it had cost by then, in seconds or in backprops:

    Pareto points   of all evaluations of all runs, those (c, e) that no other one beats: none has c' <= c and e' <= e,
                    and one of them smaller. Equal points stand together.
    share           of a group: its Pareto points over all Pareto points
    speedup(f)    = C_b(f e_b) / C_r(f e_b)      b full training, e_b its last error, f a factor such as 1.2

C_x(e) is the first cost at which x has an error of e or less, on the straight line between evaluations, and up to the
first one that one's. Each run is held against the full training of its own recipe and, where there is such, its seed;
a group has the mean over its runs, with the standard deviation (n - 1), and how many of them reached the error.
Seconds are those of training and selecting; evaluating is left out.
When: to compare strategies, or the selectivities of one, over a whole range of errors.
Cost: one read of the runs, and a sort of the evaluations; no model is loaded.
Departs: table 3.1 has one run for each strategy, and does not say how times between evaluations are taken.
Source: A. Jiang, thesis, 2021, table 3.1, figures 3.7, 3.8, 3.14 and 3.15.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import mean, stdev

from tamis.store import Store
from tamis.store.keys import split_ref
from tamis.store.runs import Run
from tamis.training.errors import ReportError
from tamis.training.reports.runs import finished, label_runs, recipe_of, settings_of, strategy_of_run
from tamis.training.reports.traces import AXES, Axis, Trace, mark, trace

FACTORS = (1.1, 1.2, 1.4)  # of table 3.1
_LAST_BITS = 1e-9  # 1 - .88 is a little more than 1.2 times 1 - .9


@dataclass(frozen=True)
class Spread:
    """A mean over runs.

    Attributes:
        mean: None where no run has a value.
        deviation: the standard deviation (n - 1); None of fewer than two.
        runs: those that have a value, and all.
    """

    mean: float | None
    deviation: float | None
    runs: tuple[int, int]


@dataclass(frozen=True)
class Group:
    """The runs of one label.

    Attributes:
        label: see `tamis.training.reports.runs.label_runs`.
        runs: their keys.
        final: their last errors.
        speedup: by axis, one for each factor.
        points: by axis, Pareto points.
        share: by axis, their share of all Pareto points.
    """

    label: str
    runs: tuple[str, ...]
    final: Spread
    speedup: dict[Axis, tuple[Spread, ...]]
    points: dict[Axis, int]
    share: dict[Axis, float]


@dataclass(frozen=True)
class Frontier:
    """Runs, by error and cost.

    Attributes:
        dataset: that they were trained on.
        judge: that they were evaluated on.
        measure: what the error is: "1 - accuracy" or "loss".
        factors: of the final error of full training.
        groups: in the order of their first runs.
        traces: in the order of the runs.
        unmeasured: keys of finished training runs that were not evaluated during training, and are left out.
        unpriced: keys of runs that lack backprops in their history, and are left out of that axis.
    """

    dataset: str
    judge: str
    measure: str
    factors: tuple[float, ...]
    groups: tuple[Group, ...]
    traces: tuple[Trace, ...]
    unmeasured: tuple[str, ...]
    unpriced: tuple[str, ...]


def frontier(
    store: Store,
    runs: Sequence[str] = (),
    *,
    by: str = "strategy",
    full: Sequence[str] = (),
    factors: Sequence[float] = FACTORS,
    dataset: str | None = None,
) -> Frontier:
    """Set runs beside each other by error and cost.

    Args:
        store: the store.
        runs: keys of training runs, or their beginnings; by default every finished one that was evaluated as it went.
        by: what groups them, see `tamis.training.reports.runs.label_runs`.
        full: keys of full trainings to hold them against; by default those with the same recipe, of these runs or else
            of the store.
        factors: of the final error of full training, 1 or more.
        dataset: only runs on this, "name" or "name@version".

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        ReportError: a run that was named is not finished or has no evaluations during training; runs of several
            datasets; nothing to report; `full` was trained on a selection; a factor below 1.
    """
    wrong = [factor for factor in factors if not 1 <= factor < inf]
    if wrong:
        raise ReportError(f"A factor is {wrong[0]}: expected 1 or more, such as 1.2, of full training's final error.")
    found = finished(store, runs, dataset=dataset)
    measured = [run for run in found if run.metrics.get("history")]
    baselines = _given(store, full)
    _check(found, measured, baselines, named=bool(runs))
    measure = _measure([*measured, *baselines])
    listed = _Fulls(measured)
    stored = _Fulls(finished(store))

    def beside(run: Run) -> Run | None:
        return _closest(run, baselines) or listed.find(run) or stored.find(run)

    fulls = [beside(run) for run in measured]
    labels = label_runs(measured, by)
    traces = [trace(*one, measure) for one in zip(measured, labels, fulls, strict=True)]
    held = {full.key: trace(full, "full", full, measure) for full in fulls if full is not None}
    traces = mark(traces)
    return Frontier(
        dataset=measured[0].dataset,
        judge=_judge(measured[0]),
        measure=measure,
        factors=tuple(factors),
        groups=tuple(_grouped(traces, held, factors)),
        traces=tuple(traces),
        unmeasured=tuple(run.key for run in found if not run.metrics.get("history")),
        unpriced=tuple(one.run for one in traces if one.backprops is None),
    )


class _Fulls:
    """Full trainings that were evaluated as they went, to hold runs against.

    Args:
        among: finished training runs.
    """

    def __init__(self, among: Sequence[Run]) -> None:
        fulls = [run for run in among if run.metrics.get("history") and _is_full(run)]
        self._fulls = [(recipe_of(run), run) for run in fulls]

    def find(self, run: Run) -> Run | None:
        """The one of the same recipe and, where there is such, seed; or None."""
        recipe = recipe_of(run)
        return _closest(run, [one for other, one in self._fulls if other == recipe])


def _closest(run: Run, among: Sequence[Run]) -> Run | None:
    """Itself, one of its seed, or the one that was evaluated most often."""

    def rank(one: Run) -> tuple[bool, bool, int]:
        same = settings_of(one)["seed"] == settings_of(run)["seed"]
        return one.key == run.key, same, len(one.metrics["history"])

    return max(among, key=rank, default=None)


def _grouped(traces: Sequence[Trace], held: dict[str, Trace], factors: Sequence[float]) -> list[Group]:
    whole: dict[Axis, int] = {axis: _points(traces, axis) for axis in AXES}

    def group(label: str, mine: Sequence[Trace]) -> Group:
        points: dict[Axis, int] = {axis: _points(mine, axis) for axis in AXES}
        return Group(
            label=label,
            runs=tuple(one.run for one in mine),
            final=spread([one.error[-1] for one in mine]),
            speedup={a: tuple(spread([_speedup(one, held, f, a) for one in mine]) for f in factors) for a in AXES},
            points=points,
            share={axis: points[axis] / max(whole[axis], 1) for axis in AXES},
        )

    labels = dict.fromkeys(one.label for one in traces)
    return [group(label, [one for one in traces if one.label == label]) for label in labels]


def _points(traces: Sequence[Trace], axis: Axis) -> int:
    return sum(sum(one.optimal.get(axis, ())) for one in traces)


def _speedup(one: Trace, held: dict[str, Trace], factor: float, axis: Axis) -> float | None:
    full = None if one.full is None else held[one.full]
    if full is None:
        return None
    error = factor * full.error[-1] * (1 + _LAST_BITS)
    theirs, mine = (each.reach(error, axis) for each in (full, one))
    return None if theirs is None or not mine else theirs / mine


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and deviation of the values that there are."""
    known = [value for value in values if value is not None]
    deviation = stdev(known) if len(known) > 1 else None
    return Spread(mean(known) if known else None, deviation, (len(known), len(values)))


def _given(store: Store, keys: Sequence[str]) -> list[Run]:
    found = finished(store, keys) if keys else []
    for run in found:
        if not _is_full(run):
            raise ReportError(f"Run {run.key[:12]} was trained on a selection: name a training run on everything.")
    return found


def _check(found: Sequence[Run], measured: Sequence[Run], baselines: Sequence[Run], *, named: bool) -> None:
    """Refuse runs whose errors cannot stand beside each other."""
    without = [run for run in (*(found if named else ()), *baselines) if not run.metrics.get("history")]
    if without:
        raise ReportError(
            f"Run {without[0].key[:12]} was not evaluated during training: train with evaluate_on and evaluate_every "
            "to know what its error was when."
        )
    if not measured:
        raise ReportError("No training run to report on: train with evaluate_on and evaluate_every first.")
    for what, of in (("trained", _trained_on), ("evaluated", _judge)):
        names = list(dict.fromkeys(of(run) for run in (*measured, *baselines)))
        if len(names) > 1:
            raise ReportError(
                f"These runs were {what} on {' and '.join(names)}: errors on different data cannot be compared. Name "
                "runs of one dataset, or give --dataset."
            )


def _measure(runs: Sequence[Run]) -> str:
    known = {"accuracy" in one for run in runs for one in run.metrics["history"]}
    if len(known) > 1:
        raise ReportError("Some of these runs have an accuracy and others do not: name runs of one task.")
    return "1 - accuracy" if known == {True} else "loss"


def _is_full(run: Run) -> bool:
    return strategy_of_run(run).baseline


def _trained_on(run: Run) -> str:
    return run.dataset


def _judge(run: Run) -> str:
    return split_ref(run.config.get("evaluate_on") or "none")[0]
