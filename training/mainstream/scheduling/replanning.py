"""A plan anew: applications come and go, and claims that running candidates contradict are lowered.

What: `replan` takes a plan's applications, takes some away, adds others, lowers claims, and schedules what there is now
with the plan's budget and mode, unless told otherwise. `Replanned` has the new plan, what changed, and why.
How: applications keep their names, so a run that reloads the plan keeps their place in time and their open events.
Claims are those of the packages each time: give what was monitored again where it is to count again.
Cost: that of planning.
Source: Jiang, thesis, sections 5.3.3 and 5.3.4.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tamis.store.packages import Packages
from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.monitoring import Agreement, corrected, find, remove, suspicions
from tamis.training.mainstream.scheduling.packaged import workload_of
from tamis.training.mainstream.scheduling.plan import Mode, Plan, Planned, plan
from tamis.training.mainstream.scheduling.workload import Application, Workload


class Lowered(NamedTuple):
    """A candidate whose claim the monitored disagreement contradicts.

    Attributes:
        application, branch: which.
        claimed: accuracy.
        lowered: to what.
        against: branch of the candidate that it claims too much above.
        discordance: share of frames on which the two disagreed.
        frames: that were checked.
    """

    application: str
    branch: int
    claimed: float
    lowered: float
    against: int
    discordance: float
    frames: int


class Change(NamedTuple):
    """One application before and after; what is not there is None.

    Attributes:
        application: its name.
        before, after: branch, frames a second and votes, as text.
        f1: expected after.
        why: the reason.
    """

    application: str
    before: str | None
    after: str | None
    f1: float | None
    why: str


class Replanned(NamedTuple):
    """A new plan, and what led to it.

    Attributes:
        plan: the new one.
        changes: of applications that are no more as they were.
        lowered: claims.
        unused: packages that were monitored, and are none of the plan's.
    """

    plan: Plan
    changes: list[Change]
    lowered: list[Lowered]
    unused: list[str]


def replan(
    packages: Packages,
    old: Plan,
    *,
    added: Sequence[str] = (),
    removed: Sequence[str] = (),
    monitored: Mapping[str, Agreement] | None = None,
    slack: float | None = None,
    budget: float | None = None,
    mode: Mode | None = None,
    rates: Sequence[float] = (),
    votes: Sequence[int] = (),
    device: str | None = None,
    threads: int | None = None,
) -> Replanned:
    """Schedule again.

    Args:
        packages: of a store.
        old: the plan that runs.
        added: packages of new applications, name or name@version.
        removed: names of applications that go.
        monitored: how candidates agreed, by package.
        slack: what a claim may be above what the disagreement allows; None: what chance makes of the frames checked.
        budget, mode: None: the old plan's.
        rates, votes: to choose from; none: those of the old plan.
        device, threads: of the latency profiles; None: those of the old plan.

    Raises:
        WorkloadError: no such application, or nothing is known of one.
        PackageNotFound: no such package.
        BudgetTooSmall: what there is now does not fit.
    """
    if orphan := next((one for one in old.applications if not one.package), None):
        raise WorkloadError(
            f"Application {orphan.name} has no package in the plan: plan it from packages of the store."
        )
    names = [one.name for one in old.applications]
    workload, profiles = workload_of(
        packages, [*(one.package for one in old.applications), *added],
        rates=rates or [one.fps for one in old.applications],
        votes=votes or [one.votes for one in old.applications] or (1,),
        device=device, threads=threads, names=names, known=old.profiles,
    )  # fmt: skip
    for name in removed:
        if name not in names:
            find(Workload(workload.applications[: len(names)], workload.bases, workload.rates), name)
        workload = remove(workload, name)
    seen = dict(monitored or {})
    workload, lowered = _lowered(workload, seen, slack)
    used = {one.base for one in workload.applications}
    kept = {base: segments for base, segments in workload.bases.items() if base in used}
    made = plan(
        Workload(workload.applications, kept, workload.rates, workload.votes), old.budget if budget is None else budget,
        old.mode if mode is None else mode, profiles={base: key for base, key in profiles.items() if base in used},
    )  # fmt: skip
    unused = sorted(seen.keys() - {one.package for one in workload.applications})
    return Replanned(made, _changes(old, made, lowered), lowered, unused)


def _lowered(
    workload: Workload, monitored: Mapping[str, Agreement], slack: float | None
) -> tuple[Workload, list[Lowered]]:
    """The workload with claims lowered, and which."""
    found = list[Lowered]()
    for application in workload.applications:
        counted = monitored.get(application.package)
        if counted is None:
            continue
        apart, spare = _in_order(application, counted), counted.slack() if slack is None else slack
        after = corrected(workload, application.name, apart, slack=spare)
        now = find(after, application.name).options
        for one in suspicions(application, apart, slack=spare):
            option, against = application.options[one.option], application.options[one.against]
            found.append(
                Lowered(
                    application.name, option.branch, option.accuracy, now[one.option].accuracy, against.branch,
                    one.allowed, counted.frames,
                )
            )  # fmt: skip
        workload = after
    return workload, found


def _in_order(application: Application, counted: Agreement) -> list[list[float]]:
    """The discordance of the options of an application."""
    places = {branch: at for at, branch in enumerate(counted.branches)}
    if missing := [one.branch for one in application.options if one.branch not in places]:
        raise WorkloadError(
            f"Candidates of {application.package} were checked at branches {', '.join(map(str, places))}, and not at "
            f"{missing[0]}: check this version of the package."
        )
    apart, order = counted.discordance(), [places[one.branch] for one in application.options]
    return [[float(apart[a, b]) for b in order] for a in order]


def _changes(old: Plan, new: Plan, lowered: Sequence[Lowered]) -> list[Change]:
    before, after = ({one.name: one for one in each.applications} for each in (old, new))
    suspected = {one.application for one in lowered}
    found = list[Change]()
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if was is None or now is None or _does(was) != _does(now) or name in suspected:
            said = (None if was is None else _does(was), None if now is None else _does(now))
            why = _why(was, now, name in suspected, old, new)
            found.append(Change(name, *said, None if now is None else now.f1, why))
    return found


def _why(was: Planned | None, now: Planned | None, suspected: bool, old: Plan, new: Plan) -> str:
    if was is None or now is None:
        return "it came" if was is None else "it goes"
    if suspected:
        return "its candidates disagree less than its claims differ" + (
            "; it stays" if _does(was) == _does(now) else ""
        )
    came = {one.name for one in new.applications} - {one.name for one in old.applications}
    left = {one.name for one in old.applications} - {one.name for one in new.applications}
    reasons = [f"{', '.join(sorted(came))} came"] if came else []
    reasons += [f"{', '.join(sorted(left))} went"] if left else []
    reasons += ["the budget is another"] if old.budget != new.budget else []
    reasons += ["the mode is another"] if old.mode != new.mode else []
    return "; ".join(reasons) or "rates, claims or latencies are others"


def _does(one: Planned) -> str:
    votes = f", {one.votes} votes" if one.votes > 1 else ""
    return f"{one.package}, branch {one.branch}, {one.fps:g} fps{votes}"
