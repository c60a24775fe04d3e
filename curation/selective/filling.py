"""Gather what is selected from batch after batch until a training batch is full: batch_bp of Algorithm 1.

What it does:
    `put` copies the selected rows of a batch behind those that wait, and gives a training batch whenever there are
    `size` rows. `rest` gives those that are left at the end of an epoch.

When to use it:
    In the loop of Selective-Backprop, where about one third of each batch is selected.

Cost:
    One copy of the selected rows, into arrays that are used again.

Departures from the paper:
    In the authors' code what is left at the end of an epoch waits for the next one; `rest` lets the epoch end with it.

Reference:
    A. Jiang. Thesis, 2020, Algorithm 1.

Legend: B samples of a batch, S samples of a training batch.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError

Arrays = tuple[NDArray[Any], ...]


class Filling:
    """A training batch that is being filled.

    Args:
        size: samples of a full one, at least 1.

    Raises:
        CurationError: `size` is below 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise CurationError(f"training batches of {size} samples; expected at least 1")
        self.size = size
        self._filled = 0
        self._arrays_S: Arrays = ()

    def __len__(self) -> int:
        """How many samples wait, fewer than `size`."""
        return self._filled

    def put(self, selected_B: NDArray[np.bool_], *arrays_B: NDArray[Any]) -> Iterator[Arrays]:
        """Add the selected samples of a batch; give each training batch that is full.

        Nothing is added until the iterator is used up.

        Args:
            selected_B: which samples.
            arrays_B: images, labels, numbers, ...: the same arrays of the same types for every batch.

        Yields:
            The arrays of a full batch, in the order of arrival. They are written over when the next one is asked for.

        Raises:
            CurationError: arrays of another shape, type or number than those that wait.
        """
        rows = np.flatnonzero(selected_B)
        self._prepare(arrays_B)
        while len(rows):
            taken, rows = rows[: self.size - self._filled], rows[self.size - self._filled :]
            end = self._filled + len(taken)
            for kept_S, array_B in zip(self._arrays_S, arrays_B, strict=True):
                # With mode "raise" NumPy would fill an array of its own first; these rows are in range.
                array_B.take(taken, axis=0, out=kept_S[self._filled : end], mode="clip")
            self._filled = end % self.size
            if end == self.size:
                yield self._arrays_S

    def rest(self) -> Arrays:
        """The arrays of those that wait, which then wait no longer; copies. Empty where nothing was ever put in."""
        left = tuple(kept_S[: self._filled].copy() for kept_S in self._arrays_S)
        self._filled = 0
        return left

    def _prepare(self, arrays_B: Arrays) -> None:
        kinds = [(array.shape[1:], array.dtype) for array in arrays_B]
        known = [(array.shape[1:], array.dtype) for array in self._arrays_S]
        if kinds == known:
            return
        if self._filled:
            raise CurationError(
                f"a batch of arrays {kinds} while samples of arrays {known} wait; expected the same shapes and types: "
                "take the rest first"
            )
        self._arrays_S = tuple(np.empty((self.size, *shape), dtype) for shape, dtype in kinds)
