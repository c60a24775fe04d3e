"""A schedule executed: segments run as often as their fastest sharer looks, and give what the whole model gives."""

import copy
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import safetensors.torch
import torch
from runkit import BRIGHT, DARK, SIDE, App, network, package, plan
from torch import nn
from videokit import H, W

from tamis.store import Store
from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.deploying import Deployer, Schedule
from tamis.training.mainstream.runner.executing import Executor, Failure, Look
from tamis.training.mainstream.runner.pictures import Fit, Frame

CPU = torch.device("cpu")


def frame(number: int, level: int = BRIGHT, rate: int = 10) -> Frame:
    return Frame(number, Fraction(number, rate), np.full((H, W, 3), level, np.uint8), perf_counter())


def deployed(store: Store, applications: list[App], *, shared: bool = True) -> Schedule:
    return Deployer(store, CPU).deploy(plan(store, applications, shared=shared))


def calls(modules: list[nn.Module]) -> list[int]:
    """Counts, from now on, how often each runs."""
    counts = [0] * len(modules)

    def count(at: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            counts[at] += 1

        return hook

    for at, one in enumerate(modules):
        one.register_forward_hook(count(at))
    return counts


def rest(schedule: Schedule, name: str) -> nn.Module:
    return schedule.trees[schedule.applications[name].tree].module._rest[name]


def test_segments_run_at_the_highest_rate_of_their_sharers(store: Store) -> None:
    """In 4 s: segment 0 at 5 a second (b, c, d), 1 at 5 (b, d), 2 at 2 (d); a shares nothing, at 10 a second."""
    schedule = deployed(store, [("a", 0, 10, 1), ("b", 2, 5, 1), ("c", 1, 4, 1), ("d", 3, 2, 1)])
    (tree,) = schedule.trees.values()
    segments = calls(list(tree.module.segments))
    own = calls([rest(schedule, name) for name in "abcd"])
    executor = Executor(schedule)
    looks = [said for i in range(40) for said in executor.step(frame(i))]
    assert segments == [20, 20, 8]
    assert own == [40, 20, 16, 8]
    assert len(looks) == sum(own)


def test_without_sharing_each_application_runs_its_whole_model(store: Store) -> None:
    schedule = deployed(store, [("a", 1, 10, 1), ("b", 1, 5, 1)], shared=False)
    assert len(schedule.trees) == 2
    segments = calls([schedule.trees[schedule.applications["a"].tree].module.segments[0]])  # both trees' own
    executor = Executor(schedule)
    looks = [said for i in range(10) for said in executor.step(frame(i)) if isinstance(said, Look)]
    assert [sum(look.application == name for look in looks) for name in "ab"] == [10, 5]
    assert segments == [15]


@pytest.mark.parametrize("branch", [0, 1, 3])
def test_scores_are_those_of_the_whole_model(store: Store, branch: int) -> None:
    schedule = deployed(store, [("a", branch, 10, 1), ("b", 2, 10, 1)])
    found = store.packages.get("a")
    (one,) = [c for c in found.candidates if c.branch == branch]
    whole = network().network.state_dict()
    mine = safetensors.torch.load(store.packages.weights(one))
    model = copy.deepcopy(network())
    model.network.load_state_dict(whole | {name.removeprefix("network."): value for name, value in mine.items()})
    noise = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    given = Frame(0, Fraction(0), noise, perf_counter())
    looks = {said.application: said for said in Executor(schedule).step(given) if isinstance(said, Look)}
    with torch.inference_mode():
        expected = model.eval()(given.fitted(Fit(SIDE, 3, False))).softmax(1)[0]
    assert looks["a"].score == pytest.approx(float(expected[1]), abs=1e-5)
    assert looks["a"].hit == bool(expected[1] > expected[0])


def test_hits_follow_the_pictures(store: Store) -> None:
    executor = Executor(deployed(store, [("a", 3, 10, 1)]))
    said = [executor.step(frame(i, level))[0] for i, level in enumerate((DARK, BRIGHT, DARK))]
    assert [isinstance(one, Look) and one.hit for one in said] == [False, True, False]


class Fails(nn.Module):
    """Raises, or answers with NaN, where it is told to."""

    def __init__(self, inner: nn.Module, when: Callable[[int], bool], nan: bool = False) -> None:
        super().__init__()
        self.inner, self.when, self.nan, self.calls = inner, when, nan, 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.when(self.calls) and not self.nan:
            raise ZeroDivisionError("its own fault")
        return self.inner(values) * (torch.nan if self.when(self.calls) else 1)


def broken(schedule: Schedule, name: str, when: Callable[[int], bool], nan: bool = False) -> None:
    module = schedule.trees[schedule.applications[name].tree].module
    module._rest[name] = Fails(module._rest[name], when, nan)


@pytest.mark.parametrize("nan", [False, True])
def test_an_application_that_fails_is_switched_off_and_the_others_go_on(store: Store, nan: bool) -> None:
    """Also those that waited for it: b looks when a does, and goes on by itself."""
    schedule = deployed(store, [("a", 3, 10, 1), ("b", 2, 5, 1)])
    broken(schedule, "a", lambda _: True, nan)
    executor = Executor(schedule, patience=3)
    said = [one for i in range(20) for one in executor.step(frame(i))]
    failures = [one for one in said if isinstance(one, Failure)]
    assert [one.off for one in failures] == [False, False, True]
    assert failures[0].error == (
        "ArithmeticError: its outputs are not finite" if nan else "ZeroDivisionError: its own fault"
    )
    assert executor.off == {"a"}
    assert [one.frame for one in said if isinstance(one, Look)] == list(range(0, 20, 2))


def test_failures_that_do_not_follow_each_other_are_forgiven(store: Store) -> None:
    schedule = deployed(store, [("a", 3, 10, 1)])
    broken(schedule, "a", lambda call: call % 3 != 0)
    executor = Executor(schedule, patience=3)
    said = [one for i in range(30) for one in executor.step(frame(i))]
    assert sum(isinstance(one, Failure) for one in said) == 20
    assert not executor.off


def test_plans_that_do_not_fit_the_store_are_refused(store: Store) -> None:
    made = plan(store, [("a", 2, 10, 1)])
    one = made.applications[0]
    few = package(store, "few", [1, 3])
    for changed, said in (
        ({"package": few}, "few@1 has no candidate at branchpoint 2; there are those at 1, 3"),
        ({"package": ""}, "Application a has no package"),
        ({"base": "0" * 32}, "a@1 is of base .* and the plan says 000000000000"),
    ):
        wrong = made.model_copy(update={"applications": (one.model_copy(update=changed),)})
        with pytest.raises(RunnerError, match=said):
            Deployer(store, CPU).deploy(wrong)
    with pytest.raises(RunnerError, match="no applications"):
        Deployer(store, CPU).deploy(made.model_copy(update={"applications": ()}))


def test_a_changed_plan_loads_only_what_is_new(store: Store, tmp_path: Path) -> None:
    deployer = Deployer(store, CPU)
    first = deployer.deploy(plan(store, [("a", 2, 10, 1), ("b", 1, 5, 1)]))
    second = deployer.deploy(plan(store, [("a", 2, 5, 2), ("c", 3, 5, 1)]))
    assert rest(first, "a") is rest(second, "a")
    assert second.applications.keys() == {"a", "c"}
