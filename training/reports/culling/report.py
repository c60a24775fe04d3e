"""How good detectors are that were trained on what culling kept, and what that cost.

What: for detectors that were trained on a dataset of which a selection was made, or on all of it: the share of the
samples that is kept, COCO's measures, and seconds: of training, of selecting, and of both. Runs that differ in their
seeds alone are one group, with means and standard deviations.
How: seconds of training have no evaluating in them; `tamis.training.reports.culling.chain` has those of selecting.
Training on everything is the reference; where its truth is a teacher's, the teacher has looked at everything.
Runs whose strategy chooses in the loop are left out: see `tamis report costs`.
Cost: one read of the runs and of the selections' heads; no model is loaded.
Source: the measures are those of K. Yoshioka et al., Dataset Culling, ICIP 2019, tables 1 to 3.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamis.store import Store
from tamis.store.keys import split_ref
from tamis.store.runs import Run
from tamis.store.selections import Selection
from tamis.training.errors import ReportError
from tamis.training.reports.culling.chain import Chain, Heads, Pass, heads_of, selecting
from tamis.training.reports.frontier import Spread, spread
from tamis.training.reports.runs import finished, recipe_of, settings_of, strategy_of_run
from tamis.training.tasks.coco import MEASURES
from tamis.training.tasks.detection import Detection

_FULL = "full"


@dataclass(frozen=True)
class Trained:
    """Runs on one selection, or on everything, that differ in their seeds alone.

    Attributes:
        label: the selection, or "full", and what else tells these runs from others.
        series: how it was chosen, whatever the budget: the points of one curve.
        runs: their keys.
        full: they were trained on everything.
        kept: share of the samples that they were trained on.
        measures: of COCO, by name.
        training: seconds.
        stage0, student, teacher, choosing: seconds of selecting, see `tamis.training.reports.culling.chain`.
        selecting: the sum of these.
        total: seconds of training and selecting.
    """

    label: str
    series: str
    runs: tuple[str, ...]
    full: bool
    kept: float
    measures: dict[str, Spread]
    training: Spread
    stage0: float
    student: float
    teacher: float
    choosing: float
    selecting: float
    total: Spread


@dataclass(frozen=True)
class Culling:
    """Detectors, by what they were trained on.

    Attributes:
        dataset: that they were trained on.
        judge: that they were evaluated on.
        groups: those on everything last, the others by the share that is kept.
        passes: of the detectors that selections and truth rest on.
        left_out: keys of finished runs of detectors without an evaluation, or whose strategy chooses in the loop.
    """

    dataset: str
    judge: str
    groups: tuple[Trained, ...]
    passes: tuple[Pass, ...]
    left_out: tuple[str, ...]


def culling(store: Store, dataset: str, runs: Sequence[str] = ()) -> Culling:
    """Set detectors beside each other by what was kept of a dataset.

    Args:
        store: the store.
        dataset: that they were trained on: "name" or "name@version".
        runs: keys of training runs, or their beginnings; by default all finished ones of detectors.

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        ReportError: a run that was named is no finished run of a detector on this dataset, was not evaluated, or
            chooses in the loop; runs that were evaluated on different data; nothing to report.
    """
    found = [run for run in finished(store, runs, dataset=dataset) if settings_of(run)["task"] == Detection.name]
    named = {store.runs.get(key).key for key in runs} - {run.key for run in found}
    usable = [run for run in found if "map" in run.metrics and _is_fixed(run)]
    refused = [*named, *(run.key for run in found if runs and run not in usable)]
    if refused:
        raise ReportError(
            f"Run {refused[0][:12]} cannot be reported on: expected a finished training run of a detector on {dataset} "
            "with evaluate_on, on everything or on a selection."
        )
    if not usable:
        raise ReportError(
            f"No detector was trained on {dataset} and evaluated: train with task detection and evaluate_on first, on "
            "everything or on a selection."
        )
    judges = list(dict.fromkeys(_judge(run) for run in usable))
    if len(judges) > 1:
        raise ReportError(
            f"These runs were evaluated on {' and '.join(judges)}: measures on different data cannot be compared. Name "
            "runs that were evaluated on one dataset."
        )
    groups, passes = _groups(store, usable)
    left = tuple(run.key for run in found if run not in usable)
    return Culling(usable[0].dataset, judges[0], groups, passes, left)


def _groups(store: Store, runs: Sequence[Run]) -> tuple[tuple[Trained, ...], tuple[Pass, ...]]:
    heads = heads_of(store)
    by: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by.setdefault((run.selection or "", _recipe(run)), []).append(run)
    labels = _labels([(each[0], _selection(each[0], heads)) for each in by.values()])
    chains = {run.key: _chain(store, run, heads) for run in runs}
    groups = [_group(store, label, mine, heads, chains) for label, mine in zip(labels, by.values(), strict=True)]
    passes = {one.run: one for chain in chains.values() for one in chain.passes}
    order = sorted(passes.values(), key=lambda one: (one.role, one.run))
    return tuple(sorted(groups, key=lambda one: (one.full, one.kept, one.label))), tuple(order)


def _group(
    store: Store, label: tuple[str, str], runs: Sequence[Run], heads: Heads, chains: dict[str, Chain]
) -> Trained:
    samples, chosen = store.datasets.get(runs[0].dataset).samples, _selection(runs[0], heads)
    seconds = [_training(run) for run in runs]
    cost = chains[runs[0].key].seconds  # the same selection and truth: what it rests on is the same for all seeds
    return Trained(
        label=label[0],
        series=label[1],
        runs=tuple(run.key for run in runs),
        full=strategy_of_run(runs[0]).baseline,
        kept=1.0 if chosen is None else chosen.size / samples,
        measures={name: spread([run.metrics.get(name) for run in runs]) for name in MEASURES},
        training=spread(seconds),
        **vars(cost),
        selecting=cost.total,
        total=spread([one + cost.total for one in seconds]),
    )


def _chain(store: Store, run: Run, heads: Heads) -> Chain:
    samples, chosen = store.datasets.get(run.dataset).samples, _selection(run, heads)
    learnt = [store.runs.get(ref) for ref in run.config.get("truth") or ()]
    truth = next((one for one in learnt if split_ref(one.dataset)[0] == split_ref(run.dataset)[0]), None)
    return selecting(store, chosen, truth, samples if chosen is None else chosen.size, heads)


def _selection(run: Run, heads: Heads) -> Selection | None:
    return None if run.selection is None else heads.get(run.selection)


def _training(run: Run) -> float:
    return run.seconds.get("total", 0.0) - run.seconds.get("evaluate", 0.0)


def _is_fixed(run: Run) -> bool:
    """Whether what a run is trained on is known before it begins."""
    strategy = strategy_of_run(run)
    return not strategy.chooses and strategy.Parameters is None


def _judge(run: Run) -> str:
    return split_ref(run.config.get("evaluate_on") or "none")[0]


def _recipe(run: Run) -> str:
    return json.dumps(recipe_of(run), sort_keys=True, default=str)


def _labels(found: Sequence[tuple[Run, Selection | None]]) -> list[tuple[str, str]]:
    """Of groups: the selection and how it was chosen, with the fields that tell apart those of one selection.

    The model is told where there are several.
    """
    names = [_FULL if chosen is None else chosen.ref for _, chosen in found]
    recipes = [recipe_of(run) for run, _ in found]
    labels: list[tuple[str, str]] = []
    for name, (_, chosen), recipe in zip(names, found, recipes, strict=True):
        beside = [other for one, other in zip(names, recipes, strict=True) if one == name]
        told = [field for field in recipe if any(other[field] != recipe[field] for other in beside)]
        if "model" not in told and len({other["model"] for other in recipes}) > 1:
            told.append("model")
        more = [f"{field}={_short(recipe[field])}" for field in told]
        labels.append((", ".join([name, *more]), ", ".join([_method(chosen), *more])))
    return labels


def _method(chosen: Selection | None) -> str:
    """What chose, and by which score."""
    if chosen is None:
        return _FULL
    measure = chosen.params.get("measure")
    return chosen.method if measure is None else f"{chosen.method} by {measure}"


def _short(value: Any) -> str:
    """A value in few words; of the keys of runs their beginnings."""
    if isinstance(value, list | tuple):
        return "+".join(str(one)[:6] for one in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
