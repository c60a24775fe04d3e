"""Applications come, go, and misreport."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import workload

from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.monitoring import add, corrected, discordance, remove, suspicions
from tamis.training.mainstream.scheduling.workload import Application, Workload


def claiming(accuracies: list[float]) -> Workload:
    given = workload(2)
    options = tuple(replace(o, accuracy=a) for o, a in zip(given.applications[0].options, accuracies, strict=False))
    return replace(given, applications=(replace(given.applications[0], options=options), given.applications[1]))


def liar(given: Workload) -> Application:
    return given.applications[0]


def test_applications_come_and_go() -> None:
    given = workload(3)
    fewer = remove(given, "app1")
    assert [a.name for a in fewer.applications] == ["app0", "app2"]
    assert [a.name for a in add(fewer, given.applications[1]).applications] == ["app0", "app2", "app1"]
    with pytest.raises(WorkloadError, match="2 times"):
        add(given, given.applications[1])
    with pytest.raises(WorkloadError, match="No application app9; there are: app0, app2"):
        remove(fewer, "app9")


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_honest_are_never_suspected(seed: int) -> None:
    """Accuracies and disagreement on the same frames: the bound holds of whatever answers."""
    draw = np.random.default_rng(seed)
    truth, answers = draw.random(50) < 0.4, draw.random((4, 50)) < draw.random((4, 1))
    given = claiming([float(a) for a in (answers == truth).mean(axis=1)])
    apart = discordance(answers)
    assert suspicions(liar(given), apart) == []
    assert corrected(given, "app0", apart) == given


def test_a_gain_beyond_the_disagreement_is_named_and_capped() -> None:
    """.9 against .6 with answers that differ on a tenth of the frames: at most .7 is possible."""
    given = claiming([0.9, 0.6])
    apart = [[0.0, 0.1], [0.1, 0.0]]
    (found,) = suspicions(liar(given), apart)
    assert found.option == 0
    assert found.against == 1
    assert found.claimed == pytest.approx(0.3)
    assert found.allowed == pytest.approx(0.1)
    after = corrected(given, "app0", apart)
    before, now = liar(given).options[0], liar(after).options[0]
    assert now.accuracy == pytest.approx(0.7)
    for share in (0.1, 0.5):  # of frames inside events: the accuracy that follows from the rates falls by .2
        of = [share * o.tpr + (1 - share) * (1 - o.fpr) for o in (before, now)]
        assert of[0] - of[1] == pytest.approx(0.2)
    assert liar(after).options[1] == liar(given).options[1]
    assert after.applications[1] == given.applications[1]


def test_a_cap_may_lower_another() -> None:
    """Each is capped by what the others are capped to; afterwards no pair contradicts."""
    given = claiming([0.9, 0.85, 0.5])
    apart = [[0.0, 0.1, 0.4], [0.1, 0.0, 0.1], [0.4, 0.1, 0.0]]
    after = corrected(given, "app0", apart)
    assert [o.accuracy for o in liar(after).options] == pytest.approx([0.7, 0.6, 0.5])
    assert suspicions(liar(after), apart) == []


def test_noise_is_allowed_for() -> None:
    given = claiming([0.72, 0.6])
    apart = [[0.0, 0.1], [0.1, 0.0]]
    assert suspicions(liar(given), apart, slack=0.05) == []
    assert corrected(given, "app0", apart, slack=0.05) == given


@pytest.mark.parametrize("apart", [[[0.0]], [[0.0, 1.5], [1.5, 0.0]], [[0.0, 0.1], [0.2, 0.0]], [[0.0, np.nan]] * 2])
def test_disagreement_of_another_kind_is_refused(apart: list[list[float]]) -> None:
    with pytest.raises(WorkloadError, match="expected 2 x 2 shares"):
        suspicions(liar(claiming([0.9, 0.6])), apart)
