"""Plans: what they say, that they are kept whole, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workloads import workload

from tamis.training.mainstream.scheduling.costs import cost
from tamis.training.mainstream.scheduling.errors import BudgetTooSmall, PlanError, WorkloadError
from tamis.training.mainstream.scheduling.monitoring import add, remove
from tamis.training.mainstream.scheduling.plan import MODES, Mode, Plan, checked, plan, read_plan, write_plan
from tamis.training.mainstream.scheduling.table import Schedule
from tamis.training.mainstream.scheduling.workload import Workload, tabulate


def schedule_of(given: Workload, made: Plan) -> Schedule:
    """The indices of what a plan says; each branch is there once."""
    options = [
        next(o for o, option in enumerate(a.options) if option.branch == p.branch)
        for a, p in zip(given.applications, made.applications, strict=True)
    ]
    return Schedule(np.array(options), np.array([given.rates.index(p.fps) for p in made.applications]))


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_says_what_its_schedule_is_worth_and_costs(mode: Mode) -> None:
    given = workload(3, votes=(1, 2))
    made, table = plan(given, 0.5, mode, profiles={"base0": "p"}), tabulate(given)
    schedule = schedule_of(given, made)
    assert [p.f1 for p in made.applications] == table.f1(schedule).tolist()
    assert made.f1 == pytest.approx(table.f1(schedule).mean())
    assert made.cost <= 0.5
    assert made.shared == (mode != "no-sharing")
    if made.shared:
        assert made.cost == pytest.approx(cost(table, schedule))
    else:
        assert made.cost == pytest.approx(sum(0.07 * p.fps for p in made.applications))
    for p in made.applications:
        assert p.f1 == pytest.approx(2 * p.recall * p.precision / (p.recall + p.precision))
        assert p.package == f"{p.name}@1"
        assert p.branchpoint == (f"block{p.branch}" if p.branch else "")


def test_modes_in_their_order() -> None:
    given = workload(6)
    made = {mode: plan(given, 0.45, mode) for mode in MODES}
    best, worst = made["optimum"], {mode: min(p.f1 for p in one.applications) for mode, one in made.items()}
    assert all(one.f1 <= best.f1 + 1e-9 for one in made.values())
    assert worst["fair"] == max(worst.values())
    assert made["mainstream"].f1 > made["max-sharing"].f1
    for one in made.values():
        assert one.baselines["no-sharing"].f1 == made["no-sharing"].f1
        assert one.baselines["max-sharing"].cost == made["max-sharing"].cost


def test_moves_lead_from_max_sharing_to_the_schedule() -> None:
    made = plan(workload(4), 0.4)
    low = plan(workload(4), 0.07)
    assert low.moves == ()
    assert {(p.branch, p.fps) for p in low.applications} == {(3, 1.0)}
    assert sum(m.gain for m in made.moves) == pytest.approx(sum(p.f1 for p in made.applications) - 4 * low.f1)
    assert sum(m.added for m in made.moves) == pytest.approx(made.cost - low.cost)
    assert all(m.why for m in made.moves)
    last = {m.application: (m.branch, m.fps) for m in made.moves}
    assert all(last.get(p.name, (3, 1.0)) == (p.branch, p.fps) for p in made.applications)


def test_a_baseline_that_does_not_fit_says_what_it_needs() -> None:
    made = plan(workload(4), 0.1)
    starved = made.baselines["no-sharing"]
    assert starved.f1 is None
    assert starved.needed == pytest.approx(0.28)
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.28"):
        plan(workload(4), 0.1, "no-sharing")
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.07"):
        plan(workload(4), 0.06)


def test_bases_are_separate_trees() -> None:
    """Two bases take two stems, even at the least, and leave less for the rates."""
    assert plan(workload(2), 0.2, "max-sharing").f1 > plan(workload(2, bases=2), 0.2, "max-sharing").f1
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.14"):
        plan(workload(2, bases=2), 0.1)


@pytest.mark.parametrize("mode", MODES)
def test_without_applications_a_plan_is_empty(mode: Mode) -> None:
    made = plan(workload(0), 1.0, mode)
    assert made.applications == made.moves == ()
    assert made.cost == made.f1 == 0
    assert checked(json.loads(made.model_dump_json())) == made


def test_coming_and_going_is_planned_anew() -> None:
    given = workload(3)
    fewer = remove(given, "app1")
    assert plan(fewer, 0.3, "optimum").f1 * 2 + 1e-9 >= sum(
        p.f1 for p in plan(given, 0.3, "optimum").applications if p.name != "app1"
    )
    assert len(plan(add(fewer, given.applications[1]), 0.3).applications) == 3


@pytest.mark.parametrize(("budget", "mode"), [(0.0, "mainstream"), (float("nan"), "mainstream"), (1.0, "best")])
def test_what_is_no_budget_or_mode(budget: float, mode: Any) -> None:
    with pytest.raises(WorkloadError, match=r"budget is|Unknown mode 'best'; expected one of: mainstream, optimum"):
        plan(workload(1), budget, mode)


def test_written_and_read(tmp_path: Path) -> None:
    made = plan(workload(3, votes=(1, 3)), 0.4, profiles={"base0": "abc"})
    write_plan(tmp_path / "plan.json", made)
    assert read_plan(tmp_path / "plan.json") == made
    write_plan(tmp_path / "plan.json", replace_mode(made))
    assert read_plan(tmp_path / "plan.json").mode == "fair"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def replace_mode(made: Plan) -> Plan:
    return made.model_copy(update={"mode": "fair"})


def test_a_plan_of_the_first_version_opens(tmp_path: Path) -> None:
    """Written out: what version 1 is."""
    document = {
        "version": 1, "mode": "mainstream", "shared": True, "budget": 0.5, "cost": 0.09, "f1": 0.8,
        "applications": [
            {
                "name": "door", "package": "door@2", "base": "b0", "branch": 1, "branchpoint": "blocks.0", "fps": 2.0,
                "votes": 1, "f1": 0.8, "recall": 0.8, "precision": 0.8,
            }
        ],
        "moves": [
            {"application": "door", "branch": 1, "fps": 2.0, "gain": 0.1, "added": 0.02, "why": "gains and adds none"}
        ],
        "baselines": {
            "no-sharing": {"f1": None, "cost": None, "needed": 0.6},
            "max-sharing": {"f1": 0.7, "cost": 0.08, "needed": None},
        },
        "bases": {"b0": [0.03, 0.01]}, "profiles": {"b0": "p0"},
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(document))
    read = read_plan(tmp_path / "plan.json")
    assert read.applications[0].package == "door@2"
    assert json.loads(read.model_dump_json()) == document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is of version 2; this tamis reads version 1"),
        ({"version": "1"}, "version"),
        ({"budget": None}, "budget"),
        ({"more": 1}, "more"),
        ({"mode": "other"}, "mode"),
        ({"f1": 1.5}, "f1"),
        ({"bases": {}}, "is of base base0, which the plan does not have"),
        ({"bases": {"base0": [0.1]}}, "beyond its base"),
        ({"applications": []}, "a move is of app0"),
    ],
)
def test_a_plan_is_checked_whole(change: dict[str, Any], message: str) -> None:
    document = {**json.loads(plan(workload(1), 0.5, "mainstream").model_dump_json()), **change}
    document["applications"] = [{**a, "branch": 2} for a in document["applications"]]
    with pytest.raises(PlanError, match=message) as error:
        checked(document)
    assert "\n" not in str(error.value)


def test_every_field_is_needed() -> None:
    document = json.loads(plan(workload(1), 0.5).model_dump_json())
    for field in document:
        with pytest.raises(PlanError, match=field):
            checked({k: v for k, v in document.items() if k != field})


def test_an_application_is_there_once() -> None:
    document = json.loads(plan(workload(1), 0.5).model_dump_json())
    with pytest.raises(PlanError, match="there twice"):
        checked({**document, "applications": document["applications"] * 2})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}', "\x00"])
def test_what_is_no_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanError):
        read_plan(tmp_path / "plan.json")
    with pytest.raises(PlanError, match="no plan"):
        read_plan(tmp_path / "other.json")


def test_a_package_twice_is_two_applications() -> None:
    """Under two names; they share the stem, and what they do is the same."""
    given = workload(1)
    twin = replace(given.applications[0], name="again")
    made = plan(add(given, twin), 10.0, "optimum")
    assert [p.package for p in made.applications] == ["app0@1", "app0@1"]
    assert made.applications[0].f1 == made.applications[1].f1
