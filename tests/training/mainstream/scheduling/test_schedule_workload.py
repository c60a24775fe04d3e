"""Workloads: the table of F1, the best votes, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from workloads import workload

from tamis.training.mainstream.events.model import event_scores
from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.workload import Option, tabulate


def test_every_choice_has_the_f1_of_its_best_votes() -> None:
    given = workload(3, rates=(1.0, 4.0), votes=(1, 2, 3))
    table = tabulate(given)
    for n, application in enumerate(given.applications):
        for o, option in enumerate(application.options):
            for r, fps in enumerate(given.rates):
                scores = event_scores(application.events, option.tpr, option.fpr, fps, np.array(given.votes))
                best = int(scores.f1.argmax())
                assert table.f1_NOR[n, o, r] == pytest.approx(scores.f1[best], abs=1e-12)
                assert table.recall_NOR[n, o, r] == pytest.approx(scores.recall[best], abs=1e-12)
                assert table.precision_NOR[n, o, r] == pytest.approx(scores.precision[best], abs=1e-12)
                assert table.votes_NOR[n, o, r] == given.votes[best]
    assert set(np.unique(table.votes_NOR)) > {1}, "votes that are never chosen test nothing"


def test_more_votes_to_choose_from_are_never_worse() -> None:
    one, more = tabulate(workload(3)), tabulate(workload(3, votes=(1, 2, 5)))
    assert (more.f1_NOR >= one.f1_NOR - 1e-12).all()  # the same number by two sums


def test_own_layers_cost_the_rest_of_the_base_or_what_was_measured() -> None:
    given = workload(2, bases=2)
    first = given.applications[0]
    measured = replace(first, options=(*first.options[:2], replace(first.options[2], seconds=0.5)))
    table = tabulate(replace(given, applications=(measured, given.applications[1])))
    assert table.seconds_NO[0, :3] == pytest.approx([0.07, 0.03, 0.5])
    assert table.seconds_NO[1] == pytest.approx([0.07, 0.03, 0.01, 0.0])
    assert not table.real_NO[0, 3]
    assert table.starts_B.tolist() == [0, 3]


def test_models_at_the_borders() -> None:
    """An accuracy of exactly 0 or 1 is a number as any other."""
    given = workload(1)
    never, always = Option(0, 0.0, 0.0, 0.5), Option(3, 1.0, 1.0, 0.5)
    table = tabulate(replace(given, applications=(replace(given.applications[0], options=(never, always)),)))
    assert np.isfinite(table.f1_NOR).all()
    assert (table.f1_NOR[0, 0] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": ()}, r"rates are \[\]; expected at least one"),
        ({"rates": (2.0, 1.0)}, "rising"),
        ({"rates": (0.0, 1.0)}, "above 0"),
        ({"votes": (0, 1)}, "whole numbers from 1"),
        ({"votes": (1, 1.5)}, "whole numbers"),
        ({"bases": {}}, "Profile the base first"),
        ({"bases": {"base0": (0.1, -1.0, 0.1)}}, "seconds of 0 or more"),
        ({"bases": {"base0": (0.1,)}}, "branches at 2; its base has branchpoints 0 to 1"),
    ],
)
def test_what_cannot_be_scheduled_is_said(change: dict, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        replace(workload(2), **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "has no candidates"),
        ((Option(0, 1.2, 0.0, 0.5),), "expected 0 to 1"),
        ((Option(0, float("nan"), 0.0, 0.5),), "expected 0 to 1"),
        ((Option(0, 1.0, 0.0, 0.5, seconds=-1.0),), "expected 0 s or more"),
        ((Option(-1, 1.0, 0.0, 0.5),), "branches at -1"),
    ],
)
def test_candidates_out_of_range_are_said(options: tuple[Option, ...], message: str) -> None:
    given = workload(1)
    with pytest.raises(WorkloadError, match=message):
        replace(given, applications=(replace(given.applications[0], options=options),))


def test_names_are_unlike() -> None:
    given = workload(2)
    with pytest.raises(WorkloadError, match="app0 is there 2 times"):
        replace(given, applications=(given.applications[0], given.applications[0]))
