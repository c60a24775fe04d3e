"""A plan: the schedule of a workload as a document that is reviewed, kept and run.

What: `plan` schedules a workload in one of the `MODES` and says what each application does, why, and what sharing
nothing or as much as possible would reach. `read_plan` and `write_plan` keep it as JSON, version 1
(docs/reference/formats.md).
How: a plan is checked whole when it is read: every field, no others, applications once each, bases that are there.
Cost: that of the mode, and of the two baselines, which are solved exactly.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tamis.training.mainstream.scheduling.baselines import max_sharing, no_sharing, unshared
from tamis.training.mainstream.scheduling.costs import cost
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall, PlanError, WorkloadError
from tamis.training.mainstream.scheduling.fairness import fair
from tamis.training.mainstream.scheduling.greedy import Move, greedy
from tamis.training.mainstream.scheduling.optimum import optimum
from tamis.training.mainstream.scheduling.table import Schedule, Table
from tamis.training.mainstream.scheduling.workload import Workload, tabulate

VERSION = 1
Mode = Literal["mainstream", "optimum", "fair", "no-sharing", "max-sharing"]
MODES: tuple[str, ...] = get_args(Mode)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Planned(_Part):
    """One application: what it runs as and what to expect.

    Attributes:
        name: of the application.
        package: name@version of its M-Package; empty where it has none.
        base: key of its base model.
        branch: how many segments of the base it has in common with others.
        branchpoint: name of the last of them; empty for none.
        fps: frames a second it looks at.
        votes: consecutive hits that report an event.
        f1: expected F1 of events.
        recall: expected recall.
        precision: expected precision.
    """

    name: Annotated[str, Field(min_length=1)]
    package: str
    base: str
    branch: Annotated[int, Field(ge=0)]
    branchpoint: str
    fps: Positive
    votes: Annotated[int, Field(ge=1)]
    f1: Share
    recall: Share
    precision: Share


class Step(_Part):
    """A move of the scheduler.

    Attributes:
        application: that moved.
        branch: its branch from then on.
        fps: its rate from then on.
        gain: in its F1.
        added: cost that it added.
        why: the reason, as a sentence.
    """

    application: str
    branch: Annotated[int, Field(ge=0)]
    fps: Positive
    gain: Finite
    added: Finite
    why: str


class Baseline(_Part):
    """What another way to run the same applications reaches within the budget.

    Attributes:
        f1: mean F1; None where it does not fit even at the lowest rate.
        cost: of its best schedule; None where there is none.
        needed: the budget that would do at the lowest rate; None where this one does.
    """

    f1: Share | None
    cost: Finite | None
    needed: Finite | None


class Plan(_Part):
    """A schedule with what it is made of.

    Attributes:
        version: of the format, 1.
        mode: of the scheduler.
        shared: whether stems are shared; without, each application runs its whole model by itself.
        budget: compute that may be used; 1 is one device in full use where latencies are seconds.
        cost: compute that is used.
        f1: mean of the applications' F1; 0 without applications.
        applications: in the order of the workload.
        moves: in the order in which they were made.
        baselines: `no-sharing` and `max-sharing`.
        bases: seconds a frame of each base's segments, by key.
        profiles: where the latencies are from: key of the stored profile by base; bases whose latencies were given have
            none.
    """

    version: Literal[1]
    mode: Mode
    shared: bool
    budget: Positive
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    f1: Share
    applications: tuple[Planned, ...]
    moves: tuple[Step, ...]
    baselines: dict[Literal["no-sharing", "max-sharing"], Baseline]
    bases: dict[str, tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]]
    profiles: dict[str, str]

    @model_validator(mode="after")
    def _consistent(self) -> "Plan":
        names = [a.name for a in self.applications]
        if len(set(names)) < len(names):
            raise ValueError("an application is there twice")
        for a in self.applications:
            if a.base not in self.bases:
                raise ValueError(f"application {a.name} is of base {a.base}, which the plan does not have")
            if a.branch > len(self.bases[a.base]):
                raise ValueError(f"application {a.name} branches at {a.branch}, beyond its base")
        if unknown := {m.application for m in self.moves} - set(names):
            raise ValueError(f"a move is of {min(unknown)}, which is no application of the plan")
        return self


def _exact(table: Table, budget: float) -> tuple[Schedule, list[Move]]:
    return optimum(table, budget), []


def _alone(table: Table, budget: float) -> tuple[Schedule, list[Move]]:
    return no_sharing(table, budget), []


def _max(table: Table, budget: float) -> tuple[Schedule, list[Move]]:
    return max_sharing(table, budget), []


_SCHEDULERS: dict[str, Callable[[Table, float], tuple[Schedule, list[Move]]]] = {
    "mainstream": greedy,
    "optimum": _exact,
    "fair": fair,
    "no-sharing": _alone,
    "max-sharing": _max,
}


def plan(
    workload: Workload, budget: float, mode: Mode = "mainstream", *, profiles: Mapping[str, str] | None = None
) -> Plan:
    """Schedule a workload.

    Args:
        workload: applications of any number of bases, or none.
        budget: seconds of compute a second that may be used.
        mode: `mainstream` (greedy), `optimum`, `fair` (max-min), `no-sharing` or `max-sharing`.
        profiles: keys of the profiles that the latencies are of, by base.

    Raises:
        WorkloadError: an unknown mode, or a budget that is no number above 0.
        BudgetTooSmall: nothing fits; it says what is needed.
    """
    if mode not in MODES:
        raise WorkloadError(f"Unknown mode {mode!r}; expected one of: {', '.join(MODES)}.")
    if not 0 < budget < np.inf:
        raise WorkloadError(f"The budget is {budget}; expected seconds of compute a second, above 0.")
    table = tabulate(workload)
    schedule, moves = _SCHEDULERS[mode](table, budget)
    shared = mode != "no-sharing"
    f1_N = table.f1(schedule)
    return Plan(
        version=VERSION, mode=mode, shared=shared, budget=float(budget),
        cost=cost(table if shared else unshared(table), schedule),
        f1=float(f1_N.mean()) if len(table) else 0.0,
        applications=tuple(_planned(workload, table, schedule, n) for n in range(len(table))),
        moves=tuple(_step(workload, m) for m in moves),
        baselines={"no-sharing": _baseline(table, budget, False), "max-sharing": _baseline(table, budget, True)},
        bases={key: tuple(map(float, segments)) for key, segments in workload.bases.items()},
        profiles=dict(profiles or {}),
    )  # fmt: skip


def _planned(workload: Workload, table: Table, schedule: Schedule, n: int) -> Planned:
    application, at = workload.applications[n], (n, int(schedule.option_N[n]), int(schedule.rate_N[n]))
    option = application.options[at[1]]
    return Planned(
        name=application.name, package=application.package, base=application.base, branch=option.branch,
        branchpoint=option.name, fps=float(table.rates_R[at[2]]), votes=int(table.votes_NOR[at]),
        f1=float(table.f1_NOR[at]), recall=float(table.recall_NOR[at]), precision=float(table.precision_NOR[at]),
    )  # fmt: skip


_WHY = {
    "start": "all applications at the highest common rate that fits",
    "free": "gains and adds no cost",
    "ratio": "gains most for what it adds",
}


def _step(workload: Workload, move: Move) -> Step:
    application = workload.applications[move.application]
    skipped = f", beside {move.skipped} that do not fit" if move.skipped else ""
    return Step(
        application=application.name, branch=application.options[move.option].branch,
        fps=float(workload.rates[move.rate]), gain=move.gain, added=move.added, why=_WHY[move.why] + skipped,
    )  # fmt: skip


def _baseline(table: Table, budget: float, shared: bool) -> Baseline:
    try:
        schedule = max_sharing(table, budget) if shared else no_sharing(table, budget)
    except BudgetTooSmall as error:
        return Baseline(f1=None, cost=None, needed=error.needed)
    takes = cost(table if shared else unshared(table), schedule)
    return Baseline(f1=float(table.f1(schedule).mean()) if len(table) else 0.0, cost=takes, needed=None)


def write_plan(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write a plan; readers see the old one or the new one."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.write_text(json.dumps(plan.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    part.replace(target)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan.

    Raises:
        PlanError: no such file, no plan, a damaged one, or one of another version.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"There is no plan {path}; `tamis package plan --out {path}` writes one.") from None
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read as a plan: {error}; expected a JSON document.") from None
    return checked(document, str(path))


def checked(document: Mapping[str, Any] | object, where: str = "the plan") -> Plan:
    """A plan from its document.

    Raises:
        PlanError: the first thing that is wrong, and where.
    """
    version = document.get("version") if isinstance(document, Mapping) else None
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise PlanError(
            f"{where} is of version {version}; this tamis reads version {VERSION}: update tamis, or plan anew."
        )
    try:
        return Plan.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "document"
        raise PlanError(f"{where} is no valid plan: {at}: {first['msg']}; plan anew.") from None
