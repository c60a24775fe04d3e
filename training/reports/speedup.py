"""What selecting has cost and what it has saved: fixed-accuracy speedup over full training.

What: from training runs that were evaluated as they went (`evaluate_every`), with r a run and f full training, which
has the same model, dataset and recipe but for the selection:

    a           the best accuracy that r reached, or one that is given
    T_x(a)      the first time at which training x has accuracy a or more
    speedup   = T_f(a) / T_r(a)
    saved     = T_f(a) - T_r(a)           seconds that each replay saves
    pays after  ceil(C / saved) replays   C the seconds that the selection has cost; never, where nothing is saved

T counts what training took, its batches and its own selecting included and measuring left out. Between two measurements
it is taken from the straight line through them; up to the first it is the first's, and a note says where that makes the
speedup a bound. Of a run that chose as it went (Grad-Match) T holds the choosing, which a replay (Cached-Grad-Match)
does not pay: a replay's speedup is without it, and `speedup_once` adds all of C to its time, as if there were no other
training to share it. A run that chose as it went stands for its own replay (T_r less the choosing) and is the first to
save: it pays after max(ceil(C / saved) - 1, 0) replays.
When: after training runs, to say whether a selection was worth making.
Cost: one read of runs and selections; no model is loaded.
Departs: the paper has the tables and no formula. The line between measurements is for full training, whose epochs are
long: taking the end of the epoch would credit a subset with up to one of them.
Source: Cai, Duan and Ananth, "Faster Training by Automatically Selecting the Best Training Data", 2022, tables 1 to 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tamis.store import Store
from tamis.store.keys import split_ref
from tamis.store.runs import FINISHED, Run
from tamis.store.selections import Selection
from tamis.training.config import TrainConfig
from tamis.training.errors import ReportError
from tamis.training.strategies import strategy_of

_DEFAULTS = {name: field.default for name, field in TrainConfig.model_fields.items() if not field.is_required()}
_NO_RECIPE = ("dataset", "selection", "reselect", "evaluate_every", "record_losses", "seed", "keep_model", "select_on",
               "stop_after")  # fmt: skip

Way = Literal["full", "reselect", "replay"]


@dataclass(frozen=True)
class Curve:
    """M evaluations during a training run.

    Attributes:
        seconds: [M] what it had cost by then, measuring left out, rising.
        selecting: [M] of these, what it spent choosing.
        accuracy: [M] between 0 and 1.
    """

    seconds: tuple[float, ...]
    selecting: tuple[float, ...]
    accuracy: tuple[float, ...]

    @classmethod
    def of(cls, run: Run) -> "Curve | None":
        """A run's measurements; None where it has none."""
        history: list[dict[str, float]] = run.metrics.get("history") or []
        if history and "accuracy" not in history[0]:  # it learnt something else than classes
            return None
        columns = ([one[name] for one in history] for name in ("seconds", "selecting", "accuracy"))
        return cls(*map(tuple, columns)) if history else None

    def reach(self, accuracy: float) -> tuple[float, float] | None:
        """When an accuracy was first reached: (seconds, of these selecting); None if it never was."""
        at = next((i for i, one in enumerate(self.accuracy) if one >= accuracy), None)
        if at is None:
            return None
        if at == 0:
            return self.seconds[0], self.selecting[0]
        below, above = self.accuracy[at - 1], self.accuracy[at]
        share = (accuracy - below) / (above - below)
        return _between(self.seconds, at, share), _between(self.selecting, at, share)


@dataclass(frozen=True)
class Speedup:
    """One training run beside full training. Seconds throughout.

    Attributes:
        run: its key.
        way: what its strategy says of itself: "full" is a baseline, "reselect" chose as it trained, "replay" trained on
            a selection that was there.
        method, selection: how that was chosen, and its name@version; None for everything.
        dataset, model, optimizer, lr, epochs, seed: what was trained, and how.
        best: the highest accuracy measured.
        accuracy: a, at which times are compared.
        seconds: T_r(a); None where the run never reached a.
        full: key of the run that it is compared with; None where there is none.
        full_seconds: T_f(a); None where it never reached a.
        selecting: C, the run's own choosing or what its selection has cost.
        stream: waiting for batches, over the whole run; None for runs whose books lack it.
        total: the whole run, measuring included.
        speedup: T_f(a) / T_r(a).
        speedup_once: the same with all of C in a replay's time.
        saved: what one replay saves; 0 or less: nothing.
        pays_after: replays after which C is saved; None where nothing is, or there is nothing to compare with.
        note: why there is no speedup, or that it is only a bound.
        curve: the measurements.
    """

    run: str
    way: Way
    method: str | None
    selection: str | None
    dataset: str
    model: str | None
    optimizer: str
    lr: float
    epochs: int
    seed: int
    best: float
    accuracy: float
    seconds: float | None
    full: str | None
    full_seconds: float | None
    selecting: float
    stream: float | None
    total: float
    speedup: float | None
    speedup_once: float | None
    saved: float | None
    pays_after: int | None
    note: str | None
    curve: Curve


@dataclass(frozen=True)
class Report:
    """Training runs beside full training.

    Attributes:
        rows: one a training run, the oldest first.
        unmeasured: keys of finished training runs that were not evaluated during training, and are left out.
    """

    rows: tuple[Speedup, ...]
    unmeasured: tuple[str, ...]


def speedups(
    store: Store,
    runs: Sequence[str] = (),
    *,
    full: str | None = None,
    accuracy: float | None = None,
    dataset: str | None = None,
) -> Report:
    """Set training runs beside full training.

    Args:
        store: the store.
        runs: keys of training runs, or their beginnings; by default every finished one that was evaluated as it went.
        full: key of the full training; by default, for each run, the one with the same dataset, recipe and (where
            there is such) seed that was measured most often.
        accuracy: a; by default each run's best.
        dataset: only runs on this, "name" or "name@version".

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        ReportError: a run that was asked for is not finished, has no evaluations during training, or was measured on
            other data than `full`; `full` was trained on a selection; `accuracy` is no share.
    """
    if accuracy is not None and not 0 < accuracy <= 1:
        raise ReportError(f"accuracy is {accuracy}: expected a share above 0 and at most 1, such as 0.93.")
    if dataset is not None:
        store.datasets.get(dataset)  # a name that is not there would leave an empty report
    every = [r for r in store.runs.all() if (r.kind, r.status) == ("train", FINISHED)]
    unmeasured = tuple(r.key for r in every if Curve.of(r) is None and _is_of(r, dataset)) if not runs else ()
    asked = [_measured(store.runs.get(key)) for key in runs] or [r for r in every if Curve.of(r) is not None]
    given = None if full is None else _full(store.runs.get(full))
    selections = {s.key: s for s in reversed(store.selections.all())}
    rows: list[Speedup] = []
    for run in asked:
        if _is_of(run, dataset):
            beside = find_full(run, every) if given is None else _same_judge(run, given)
            selection = None if run.selection is None else selections.get(run.selection)
            rows.append(speedup(run, beside, selection, accuracy))
    return Report(tuple(rows), unmeasured)


def speedup(run: Run, full: Run | None, selection: Selection | None = None, accuracy: float | None = None) -> Speedup:
    """Set one training run beside full training; see the module for what is computed.

    Args:
        run: evaluated during training.
        full: evaluated during training; None where there is none.
        selection: that the run was trained on, or left.
        accuracy: a; by default the run's best.
    """
    curve, other = Curve.of(run), None if full is None else Curve.of(full)
    assert curve is not None
    way, a = _way(run), max(curve.accuracy) if accuracy is None else accuracy
    mine, theirs = curve.reach(a), None if other is None else other.reach(a)
    cost = run.seconds.get("select", 0.0) if way == "reselect" else selection.seconds if selection is not None else 0.0
    config = _DEFAULTS | run.config
    return Speedup(
        run=run.key,
        way=way,
        method=None if selection is None else selection.method,
        selection=selection.ref if selection is not None else run.selection,
        dataset=run.dataset,
        model=run.model,
        **{name: config[name] for name in ("optimizer", "lr", "epochs", "seed")},
        best=max(curve.accuracy),
        accuracy=a,
        seconds=None if mine is None else mine[0],
        full=None if full is None else full.key,
        full_seconds=None if theirs is None else theirs[0],
        selecting=cost,
        stream=run.seconds.get("stream"),
        total=run.seconds.get("total", curve.seconds[-1]),
        **_compared(way, mine, theirs, cost),
        note=_note(way, full, mine, theirs, a),
        curve=curve,
    )


def find_full(run: Run, among: Sequence[Run]) -> Run | None:
    """The full training to compare a run with, or None.

    Args:
        run: the run; a full training is its own.
        among: finished training runs.
    """
    if _way(run) == "full":
        return run
    fitting = [r for r in among if _way(r) == "full" and Curve.of(r) is not None and _recipe(r) == _recipe(run)]

    def rank(one: Run) -> tuple[bool, int]:
        curve = Curve.of(one)
        return _seed(one) == _seed(run), 0 if curve is None else len(curve.seconds)

    return max(fitting, key=rank, default=None)


def _compared(
    way: Way, mine: tuple[float, float] | None, theirs: tuple[float, float] | None, cost: float
) -> dict[str, Any]:
    if mine is None or theirs is None:
        return dict.fromkeys(("speedup", "speedup_once", "saved", "pays_after"))
    faster = theirs[0] / mine[0]
    if way == "full":
        return {"speedup": faster, "speedup_once": faster, "saved": None, "pays_after": None}
    replay = mine[0] - mine[1] if way == "reselect" else mine[0]
    saved = theirs[0] - replay
    once = faster if way == "reselect" else theirs[0] / (mine[0] + cost)
    replays = math.ceil(cost / saved) if saved > 0 else None
    if replays is not None and way == "reselect":
        replays = max(replays - 1, 0)
    return {"speedup": faster, "speedup_once": once, "saved": saved, "pays_after": replays}


def _note(
    way: Way, full: Run | None, mine: tuple[float, float] | None, theirs: tuple[float, float] | None, accuracy: float
) -> str | None:
    if mine is None:
        return f"never reached {accuracy:.4g}"
    if full is None:
        return "no full training of the same model, data and recipe was evaluated during training"
    if theirs is None:
        return f"full training never reached {accuracy:.4g}"
    curve = Curve.of(full)
    if way != "full" and curve is not None and accuracy < curve.accuracy[0]:
        return f"full training was past {accuracy:.4g} when it was first measured: the speedup is at most that"
    return None


def _way(run: Run) -> Way:
    strategy = strategy_of({"selection": run.selection} | run.config)
    if strategy.baseline:
        return "full"
    return "reselect" if strategy.chooses else "replay"


def _recipe(run: Run) -> dict[str, Any]:
    """What two training runs must share to differ in the selection alone."""
    config = _DEFAULTS | run.config
    return {k: v for k, v in config.items() if k not in _NO_RECIPE} | {"dataset": run.dataset}


def _seed(run: Run) -> int:
    return (_DEFAULTS | run.config)["seed"]


def _is_of(run: Run, dataset: str | None) -> bool:
    return dataset is None or dataset in (run.dataset, split_ref(run.dataset)[0])


def _measured(run: Run) -> Run:
    if (run.kind, run.status) != ("train", FINISHED):
        raise ReportError(f"Run {run.key[:12]} ({run.kind}, {run.status}) is not a finished training run.")
    if Curve.of(run) is None:
        raise ReportError(
            f"Run {run.key[:12]} was not evaluated during training: train with evaluate_on and evaluate_every to know "
            "when it reached which accuracy."
        )
    return run


def _full(run: Run) -> Run:
    if _way(_measured(run)) != "full":
        raise ReportError(f"Run {run.key[:12]} was trained on a selection: name a training run on everything.")
    return run


def _same_judge(run: Run, full: Run) -> Run:
    judges = [split_ref(one.config.get("evaluate_on") or "none")[0] for one in (run, full)]
    if judges[0] != judges[1]:
        raise ReportError(
            f"Run {run.key[:12]} was measured on {judges[0]}, full training {full.key[:12]} on {judges[1]}: accuracies "
            "on different data cannot be compared. Name another full training, or leave these runs out."
        )
    return full


def _between(values: Sequence[float], at: int, share: float) -> float:
    return values[at - 1] + share * (values[at] - values[at - 1])
