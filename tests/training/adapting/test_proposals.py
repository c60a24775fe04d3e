"""What is proposed: a function of the seed and of what was told; and Hyperband's halving."""

import sys
from itertools import pairwise
from typing import Any

import pytest

from tamis.training.adapting.config import AdaptOptions
from tamis.training.adapting.proposals import Proposal, Pruner, Told, propose, rounds
from tamis.training.errors import ExtraMissing


def options(**given: Any) -> AdaptOptions:
    return AdaptOptions(**{"trials": 12, "startup": 6, "budget_epochs": 9} | given)


def bowl(proposal: Proposal) -> float:
    """Least, 0, at (.7, .7)."""
    return sum((value - 0.7) ** 2 for value in proposal)


def searched(asked: AdaptOptions, seed: int = 0, dimensions: int = 2) -> list[Told]:
    told: list[Told] = []
    for numbers in rounds(asked):
        found = propose(asked, numbers, told, dimensions=dimensions, seed=seed)
        told += [Told(n, p, "complete", bowl(p)) for n, p in zip(numbers, found, strict=True)]
    return told


def test_rounds_wait_for_what_their_proposals_follow_from() -> None:
    assert rounds(options(sampler="random")) == [range(12)]
    assert rounds(options(parallel=4)) == [range(6), range(6, 10), range(10, 12)]
    assert rounds(options(sampler="hyperband", parallel=5)) == [range(5), range(5, 10), range(10, 12)]
    assert rounds(options(trials=3)) == [range(3)]  # fewer than start-up trials: all are random


def test_a_seed_decides_and_the_gaussian_process_learns() -> None:
    gp, again, other = searched(options()), searched(options()), searched(options(), seed=1)
    assert gp == again
    assert gp != other
    assert gp[:6] == searched(options(sampler="random"))[:6]
    assert min(one.value or 0 for one in gp[6:]) < 0.01 < min(one.value or 0 for one in gp[:6])


def test_a_longer_search_begins_with_a_shorter_one() -> None:
    assert searched(options(trials=8)) == searched(options(trials=9))[:8]
    assert searched(options(trials=4, sampler="random")) == searched(options(sampler="random"))[:4]


def test_proposals_of_one_round_differ() -> None:
    told = searched(options(parallel=3, trials=9))
    near = [sum(abs(a - b) for a, b in zip(x.proposal, y.proposal, strict=True)) for x, y in pairwise(told[6:])]
    assert min(near) > 1e-3


def test_levels_are_kept_and_failures_are_told() -> None:
    asked = options(levels=5, trials=9)
    told = searched(asked)
    assert all(value * 4 == round(value * 4) for one in told for value in one.proposal)
    failed = [Told(n, one.proposal, "failed") if n == 0 else one for n, one in enumerate(told[:6])]
    found = propose(asked, range(6, 7), failed, dimensions=2, seed=0)
    assert found != propose(asked, range(6, 7), told[:6], dimensions=2, seed=0)


def test_hyperband_ends_the_worst_and_lets_the_best_go_on() -> None:
    """Of trials that all have the errors of their number, those far behind end early, and the best never does."""
    asked = options(sampler="hyperband")
    told: list[Told] = []
    for number in range(24):
        errors, pruner = [0.9 if number % 4 else 0.1] * 9, Pruner(asked, number, told, "a search")
        lasted = next((epoch for epoch in range(1, 10) if pruner.is_over(errors[:epoch])), 9)
        state = "complete" if lasted == 9 else "pruned"
        told.append(Told(number, (0.5,), state, errors[0], tuple(errors[:lasted])))
    best, worst = ([len(one.errors) for one in told if one.value == value] for value in (0.1, 0.9))
    assert best == [9] * 6
    assert sum(worst) / len(worst) < 6


def test_without_optuna_a_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'tamis\[search\]'"):
        propose(options(), range(6, 7), [], dimensions=2, seed=0)
    assert propose(options(), range(6), [], dimensions=2, seed=0)  # random proposals need nothing
