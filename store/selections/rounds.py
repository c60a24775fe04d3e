"""Rounds: what a selection consists of, checked before it is published, and as rows of the tables."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import SelectionError
from tamis.store.tables.tables import rows_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RoundData:
    """What a method chose: samples in the order of their rank, the best first.

    Attributes:
        samples: [k] int64, each once.
        weights: [k] float32, finite; None for a weight of 1 each.
        first_epoch: the first epoch in which the round is in force.
        objective: what the method minimised, where it has such a thing.
    """

    samples: npt.ArrayLike
    weights: npt.ArrayLike | None = None
    first_epoch: int = 0
    objective: float | None = None


@dataclass(frozen=True)
class Round:
    """A round's head: what is in force from `first_epoch` on, until the next round."""

    round: int
    first_epoch: int
    size: int
    objective: float | None


class Begins(Protocol):
    """Anything that is in force from an epoch on, until the next one is."""

    @property
    def first_epoch(self) -> int: ...


R = TypeVar("R", bound=Begins)


def in_force(rounds: Sequence[R], epoch: int, ref: str = "The selection") -> R:
    """The round in force at an epoch: the last one that begins no later.

    Args:
        rounds: by first epoch, rising.
        epoch: from 0.
        ref: what a message calls the selection.

    Raises:
        SelectionError: no round is in force so early.
    """
    count = bisect_right(rounds, epoch, key=lambda one: one.first_epoch)
    if not count:
        first = rounds[0].first_epoch if rounds else "none yet"
        raise SelectionError(f"{ref} begins at epoch {first} and has no round at epoch {epoch}.")
    return rounds[count - 1]


def digest_of(rounds: Iterable[tuple[int, Ints, Floats]]) -> str:
    """What identifies the content of a selection: 32 hex characters over each round's first epoch, samples, weights.

    Args:
        rounds: (first epoch, samples [k] int64, weights [k] float32) in order.
    """
    total = hashlib.sha256()
    for first_epoch, samples, weights in rounds:
        total.update(np.asarray([first_epoch, len(samples)], "<i8").tobytes())
        total.update(np.ascontiguousarray(samples, "<i8").tobytes())
        total.update(np.ascontiguousarray(weights, "<f4").tobytes())
    return total.hexdigest()[:32]


def check_rounds(rounds: Sequence[RoundData], count: int) -> list[tuple[Ints, Floats]]:
    if not rounds:
        raise SelectionError("A selection has at least one round.")
    epochs = [r.first_epoch for r in rounds]
    if epochs != sorted(set(epochs)) or epochs[0] < 0:
        raise SelectionError(f"Rounds begin at epochs {epochs}: they must rise, from 0 or later.")
    return [_check_round(r, i, count) for i, r in enumerate(rounds)]


def _check_round(data: RoundData, number: int, count: int) -> tuple[Ints, Floats]:
    samples = np.asarray(data.samples)
    if samples.ndim != 1 or not len(samples) or samples.dtype.kind not in "iu":
        raise SelectionError(
            f"Round {number} must list sample numbers (integers, at least one), not {samples.dtype} {samples.shape}."
        )
    samples = samples.astype(np.int64)
    if samples.min() < 0 or samples.max() >= count:
        outside = samples[(samples < 0) | (samples >= count)]
        raise SelectionError(f"Round {number} names sample {outside[0]}: the dataset has samples 0 to {count - 1}.")
    if len(np.unique(samples)) < len(samples):
        raise SelectionError(
            f"Round {number} names {len(samples) - len(np.unique(samples))} samples twice: each is chosen once."
        )
    weights = np.ones(len(samples), np.float32) if data.weights is None else np.asarray(data.weights, np.float32)
    if weights.shape != samples.shape or not np.isfinite(weights).all():
        raise SelectionError(
            f"Round {number} needs one finite weight a sample, not {weights.shape} with NaN or infinities."
        )
    return samples, weights


def sample_rows(key: str, attempt: str, number: int, samples: Ints, weights: Floats) -> pa.Table:
    columns = {
        "selection": key, "attempt": attempt, "round": number, "sample": samples, "weight": weights,
        "rank": np.arange(len(samples)),
    }  # fmt: skip
    return rows_of("selection_samples", columns, len(samples))


def round_rows(key: str, attempt: str, checked: list[tuple[Ints, Floats]], rounds: Sequence[RoundData]) -> pa.Table:
    columns = {
        "selection": key, "attempt": attempt, "round": pa.array(range(len(rounds)), pa.int32()),
        "first_epoch": pa.array([r.first_epoch for r in rounds], pa.int32()),
        "size": pa.array([len(samples) for samples, _ in checked], pa.int64()),
        "objective": pa.array([r.objective for r in rounds], pa.float64()),
    }  # fmt: skip
    return rows_of("selection_rounds", columns, len(rounds))
