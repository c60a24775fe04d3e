"""The share of the last losses against counting one by one, for histories that are sorted anew and those in layers."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.curation import CurationError
from tamis.curation.selective.history import LossHistory

Losses = list[float]
FEW = (0.0, -0.0, 0.25, 1.0, 1.0000001, 3.0, float("nan"), float("inf"), -float("inf"), 1e300)
values = st.one_of(st.sampled_from(FEW), st.floats(0, 10, width=32))
batches = st.lists(st.lists(values, max_size=12), max_size=25)


class Counting:
    """The definition: the share of the last losses that is at most, or below, each one."""

    def __init__(self, size: int) -> None:
        self.kept = deque[np.float32](maxlen=size)

    def add(self, losses: Losses) -> None:
        self.kept.extend(loss for loss in as_singles(losses) if np.isfinite(loss))

    def shares(self, losses: Losses, strict: bool) -> Losses:
        return [self.share(loss, strict) for loss in as_singles(losses)]

    def share(self, loss: np.float32, strict: bool) -> float:
        if not np.isfinite(loss):
            return float("nan")
        if not self.kept:
            return 1.0
        return sum(one < loss if strict else one <= loss for one in self.kept) / len(self.kept)


def as_singles(losses: Losses) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.array(losses, np.float64).astype(np.float32)


def history(size: int, limit: int) -> LossHistory:
    """A history in layers, however small: at most `limit` losses lie beside the large array, and never more than R."""
    made = LossHistory(size)
    made._limit = min(limit, size)
    return made


@given(st.integers(1, 40), st.integers(0, 30), batches, st.booleans())
@settings(max_examples=100, deadline=None)
def test_is_the_definition(size: int, limit: int, given_: list[Losses], strict: bool) -> None:
    ours, oracle = history(size, limit), Counting(size)
    for i, losses in enumerate(given_):
        oracle.add(losses)
        if i % 3:
            shares = ours.enter(losses, strict=strict)
        else:
            ours.add(losses)
            shares = ours.shares(losses, strict=strict)
        np.testing.assert_array_equal(shares, oracle.shares(losses, strict))
        assert len(ours) == len(oracle.kept)
        np.testing.assert_array_equal(ours.state(), np.array(oracle.kept, np.float32))


@given(st.integers(1, 40), st.integers(0, 30), batches, batches)
@settings(max_examples=40, deadline=None)
def test_goes_on_to_the_bit(size: int, limit: int, before: list[Losses], after: list[Losses]) -> None:
    first, second = history(size, limit), history(size, 7)
    for losses in before:
        first.enter(losses)
    second.add([5.0] * 9)  # forgotten
    second.restore(first.state())
    for losses in after:
        np.testing.assert_array_equal(first.enter(losses), second.enter(losses))
    np.testing.assert_array_equal(first.state(), second.state())


@pytest.mark.parametrize("size", [5000, 12_000])
def test_large_ones_in_layers(size: int) -> None:
    """Ties, batches of all sizes, more than one time around the ring."""
    generator, ours, kept = np.random.default_rng(3), LossHistory(size), np.empty(0, np.float32)
    assert ours._limit > 0
    for _ in range(60):
        losses = np.round(generator.exponential(size=generator.integers(1, 700)), 2).astype(np.float32)
        kept = np.concatenate((kept, losses))[-size:]
        np.testing.assert_array_equal(ours.enter(losses), (kept[None] <= losses[:, None]).mean(axis=1))
    np.testing.assert_array_equal(ours.shares(kept[:99], strict=True), (kept[None] < kept[:99, None]).mean(axis=1))


def test_a_batch_enters_together() -> None:
    """Section 3.5: the losses are in the history first, so the highest of all has share 1 and the only one too."""
    ours = LossHistory(4)
    assert ours.enter([2.0]).tolist() == [1]
    assert ours.enter([1.0, 3.0, 2.0]).tolist() == [1 / 4, 1, 3 / 4]
    assert ours.shares([2.0], strict=True).tolist() == [1 / 4]
    assert ours.enter([0.0, 0.0]).tolist() == [2 / 4, 2 / 4]  # 2 and 1 have left
    assert ours.state().tolist() == [3, 2, 0, 0]


def test_of_a_batch_that_is_larger_the_last_ones_stay() -> None:
    ours = LossHistory(3)
    assert ours.enter([9.0, 1.0, 2.0, 3.0]).tolist() == [1, 1 / 3, 2 / 3, 1]


def test_what_is_not_finite_stays_outside() -> None:
    ours = LossHistory(8)
    shares = ours.enter([1.0, np.nan, np.inf, 2.0, -np.inf])
    assert np.isnan(shares).tolist() == [False, True, True, False, True]
    assert len(ours) == 2
    assert ours.shares([]).tolist() == []
    assert LossHistory().shares([1.0, np.nan])[0] == 1


def test_equal_losses_all_have_share_1() -> None:
    """So they are all selected, and a loop over them ends."""
    ours = LossHistory(16)
    for _ in range(4):
        assert ours.enter([0.7] * 8).tolist() == [1] * 8
    assert ours.shares([0.7], strict=True).tolist() == [0]


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "many"])
def test_refuses_sizes(size: object) -> None:
    with pytest.raises(CurationError, match="at least 1"):
        LossHistory(size)  # type: ignore[arg-type]  # what it refuses


def test_refuses_other_shapes_and_states() -> None:
    with pytest.raises(CurationError, match="one dimension"):
        LossHistory().add([[1.0]])
    with pytest.raises(CurationError, match="size it was kept with"):
        LossHistory(2).restore([1.0, 2.0, 3.0])
    with pytest.raises(CurationError, match="1 of them not finite"):
        LossHistory(2).restore([1.0, np.nan])
