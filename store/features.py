"""Vectors of samples, as rows of the table `features` and back as arrays.

A vector is a list of float32, which Delta and DuckDB carry; one of float16 is kept as the same numbers in float32. A
vector that holds NaN or an infinity is kept as null, as scores are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.tables.tables import rows_of

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.floating[Any]]
_ROWS = 1 << 12  # of a batch
DTYPES = ("float16", "float32")


@dataclass
class Extent:
    """What vectors came to, gathered while they go by.

    Attributes:
        samples: how many rows.
        width: numbers a vector.
        dtype: of the numbers: "float16" or "float32".
        nonfinite: how many vectors were not finite.
    """

    samples: int = 0
    width: int = 0
    dtype: str = ""
    nonfinite: int = 0

    def note(self) -> dict[str, str]:
        return {"samples": str(self.samples), "width": str(self.width), "dtype": self.dtype}

    @classmethod
    def of(cls, note: Any) -> "Extent":
        return cls(int(note["samples"]), int(note["width"]), str(note["dtype"]))


def vector_rows(
    run: str, attempt: str, samples: npt.ArrayLike, vectors: Vectors, extent: Extent
) -> Iterator[pa.RecordBatch]:
    """Rows of some samples.

    Raises:
        ValueError: vectors are not [n, E] of float16 or float32, or of another E or kind than those before.
    """
    numbers, kind = np.asarray(samples, np.int64), vectors.dtype.name
    expected = (extent.width or vectors.shape[-1], extent.dtype or kind)
    if vectors.shape != (len(numbers), expected[0]) or kind != expected[1] or kind not in DTYPES:
        raise ValueError(
            f"Vectors are {kind} {vectors.shape}: expected {len(numbers)} of {expected[0]} numbers each, all "
            "float16 or all float32."
        )
    extent.width, extent.dtype = expected
    extent.samples += len(numbers)
    for a in range(0, len(numbers), _ROWS):
        some = np.ascontiguousarray(vectors[a : a + _ROWS], np.float32)
        bad = ~np.isfinite(some).all(axis=1)
        extent.nonfinite += int(bad.sum())
        # What is null is empty too: Parquet's writer in older releases of pyarrow knows no other.
        starts = np.concatenate([[0], np.cumsum(np.where(bad, 0, some.shape[1]))]).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(starts), pa.array(some[~bad].ravel()), mask=pa.array(bad))
        columns = {"run": run, "attempt": attempt, "sample": numbers[a : a + _ROWS], "vector": column}
        yield from rows_of("features", columns, len(some)).to_batches()


def dense(column: pa.ListArray, width: int) -> npt.NDArray[np.float32]:
    """[n, width] the vectors of a column; NaN where it is null."""
    out = np.full((len(column), width), np.nan, np.float32)
    out[np.asarray(column.is_valid())] = np.asarray(column.flatten()).reshape(-1, width)
    return out
