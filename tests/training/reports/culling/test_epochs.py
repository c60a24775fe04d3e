"""t_diff of Selective-Backprop in the batch, by hand."""

from typing import Any

import pytest

from tamis.store.runs import FINISHED, Run
from tamis.training.reports.costs import cost
from tamis.training.reports.culling.epochs import seconds_saved

PAPER = {"name": "in-batch", "begin": 0.5, "end": 0.9, "share": 0.5, "interrupt": 2}


def run(points: list[tuple[int, float]], strategy: dict[str, Any] | None, **metrics: float) -> Run:
    """Ten epochs, with what they had taken by some of them."""
    history = [{"epoch": epoch, "seconds": seconds} for epoch, seconds in points]
    config = {"dataset": "d", "model": "m", "strategy": strategy, "epochs": 10, "seed": 0}
    about = {"history": history, **metrics}
    return Run("a" * 32, "train", "d@1", "m", config, None, FINISHED, about, {"total": 100.0})


def test_epochs_outside_less_epochs_inside() -> None:
    """Epochs 5 to 8 select, and take 6 s; the others 10 s, but for the last, of 16 s: a mean of 11 s."""
    times = [10, 10, 10, 10, 10, 6, 6, 6, 6, 16]
    points = [(i + 1, float(sum(times[: i + 1]))) for i in range(10)]
    assert seconds_saved(run(points, PAPER)) == pytest.approx(11 - 6)
    assert seconds_saved(run(points, {"name": "in-batch"})) == pytest.approx(11 - 6)  # the defaults are the paper's
    later = PAPER | {"start": 7}  # nothing is chosen before: 5 and 6 are trained on whole
    assert seconds_saved(run(points, later)) == pytest.approx((50 + 6 + 6 + 16) / 8 - 6)


def test_epochs_between_evaluations_share_their_time() -> None:
    """Every second one is evaluated: 4 to 5 and 8 to 9 are mixed, and left out."""
    points = [(2, 20.0), (4, 40.0), (6, 55.0), (8, 67.0), (10, 90.0)]
    assert seconds_saved(run(points, PAPER)) == pytest.approx(10 - 6)


def test_what_does_not_tell_is_none() -> None:
    points = [(i + 1, 10.0 * (i + 1)) for i in range(10)]
    assert seconds_saved(run(points, None)) is None
    assert seconds_saved(run(points, {"name": "random-drop", "keep": 0.5})) is None
    assert seconds_saved(run([(10, 100.0)], PAPER)) is None
    assert seconds_saved(run([], PAPER)) is None


def test_costs_have_it_beside_the_precision() -> None:
    points = [(i + 1, 10.0 * (i + 1) if i < 5 else 50 + 8.0 * (i - 4)) for i in range(10)]
    found = cost(run(points, PAPER, map=0.0968, map_small=0.0265, train_loss=1.0), "in-batch")
    assert found.t_diff == pytest.approx((50 + 8) / 6 - 8)
    assert found.precision == {"map": 0.0968, "map_small": 0.0265}
    assert cost(run(points, None), "full").precision is None
