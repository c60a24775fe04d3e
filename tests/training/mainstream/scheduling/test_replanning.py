"""Plans anew: who comes and goes keeps the others' names, and claims fall to what disagreement allows."""

import math

import numpy as np
import pytest
from runkit import keep_base, package, parts

from tamis.store import Store
from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.monitoring import Agreement
from tamis.training.mainstream.scheduling.packaged import workload_of
from tamis.training.mainstream.scheduling.plan import Plan, plan
from tamis.training.mainstream.scheduling.replanning import replan

RATES = (1, 2, 5, 10)


def counted(branches: tuple[int, ...], frames: int, differ: list[list[int]]) -> Agreement:
    return Agreement(branches, frames, np.array(differ))


@pytest.fixture
def running(store: Store) -> Plan:
    """Two applications of one package whose candidates claim .95, .9 and .7, on a profiled base."""
    package(store, "a", [0, 1, 3], claims={0: 0.95, 1: 0.9, 3: 0.7})
    package(store, "b", [2, 3], claims={2: 0.9, 3: 0.8})
    store.packages.profiles.put(keep_base(store).key, [0.02] * parts().segments, device="cpu", threads=1, rest=0.001)
    workload, profiles = workload_of(store.packages, ["a", "a"], rates=RATES)
    return plan(workload, 0.9, profiles=profiles)


def test_frames_are_counted_and_added_up() -> None:
    one = Agreement((0, 4))
    for hits in ({0: True, 4: True}, {0: True, 4: False}, {4: False, 0: False}, {0: False, 4: True}):
        one.add(hits)
    assert (one.frames, one.differ_OO.tolist()) == (4, [[0, 2], [2, 0]])
    both = one.plus(counted((0, 4), 6, [[0, 1], [1, 0]]))
    assert (both.frames, both.discordance().tolist()) == (10, [[0, 0.3], [0.3, 0]])
    other = counted((0, 3), 1, [[0, 1], [1, 0]])
    assert one.plus(other) is other
    assert both.slack() == pytest.approx(math.sqrt(math.log(20) / 20))


def test_the_slack_holds_ninety_five_times_of_a_hundred() -> None:
    """The share that is counted lies further below the true one in at most a twentieth of all cases."""
    draw = np.random.default_rng(0)
    for share, frames in ((0.5, 20), (0.1, 50), (0.9, 200)):
        spare = Agreement((0, 1), frames).slack()
        assert (draw.binomial(frames, share, 20_000) / frames < share - spare).mean() <= 0.05


def test_who_comes_and_goes_leaves_the_others_names(store: Store, running: Plan) -> None:
    assert [one.name for one in running.applications] == ["a", "a-2"]
    made = replan(store.packages, running, added=["b", "a"], removed=["a"], rates=RATES)
    assert [one.name for one in made.plan.applications] == ["a-2", "b", "a-3"]
    why = {one.application: one.why for one in made.changes}
    assert (why["a"], why["b"], why["a-3"]) == ("it goes", "it came", "it came")
    assert made.plan.budget == running.budget
    assert made.plan.profiles == running.profiles
    same = replan(store.packages, running, rates=RATES)
    assert same.plan == running
    assert same.changes == []
    with pytest.raises(WorkloadError, match="No application b; there are: a, a-2"):
        replan(store.packages, running, removed=["b"])
    with pytest.raises(WorkloadError, match="No application b; there are: a, a-2"):
        replan(store.packages, running, added=["b"], removed=["b"])


def test_claims_fall_to_what_disagreement_allows(store: Store, running: Plan) -> None:
    """.95 and .7 differ on 4 % of frames: .74. But .9 differs on 1 % from .7: .71, and .95 on 1 % from that: .72."""
    differ = [[0, 10, 40], [10, 0, 10], [40, 10, 0]]
    seen = {"a@1": counted((0, 1, 3), 1000, differ), "c@1": Agreement((0,))}
    made = replan(store.packages, running, monitored=seen, slack=0.0, rates=RATES)
    told = [(one.branch, one.claimed, round(one.lowered, 6)) for one in made.lowered if one.application == "a"]
    assert told == [(0, 0.95, 0.72), (1, 0.9, 0.71)]
    assert {one.application for one in made.lowered} == {"a", "a-2"}
    assert made.unused == ["c@1"]
    assert all("disagree less" in one.why for one in made.changes)
    assert made.plan.f1 < running.f1
    honest = replan(
        store.packages, running, monitored={"a@1": counted((0, 1, 3), 10, [[0, 9, 9], [9, 0, 9], [9, 9, 0]])}
    )
    assert honest.lowered == []


def test_checks_of_other_candidates_are_refused(store: Store, running: Plan) -> None:
    with pytest.raises(WorkloadError, match="not at 1"):
        replan(store.packages, running, monitored={"a@1": Agreement((0, 3))})
