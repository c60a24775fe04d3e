"""Loss history: the rows of an epoch, and a run's losses as arrays.

What: `loss_rows` makes the rows that `Runs.put_losses` keeps, with null for what is not known; `history` reads them
back as one array of epochs by samples.
How: a loss stands in the row of the epoch whose weights computed it (`loss_epoch`), however many epochs used it since.
So a loss that was used three times counts once, and how old the newest is can be read off. Correctness stands in the
row of the epoch that recorded it.
Cost: reading takes 5 bytes an epoch and sample, and a second for 10^7 rows.
Legend: E epochs, N samples, n rows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.tables.tables import rows_of

if TYPE_CHECKING:
    from tamis.store.tables.tables import Tables

UNKNOWN = -1  # of `History.correct_EN`


@dataclass(frozen=True, eq=False)
class History:
    """The losses of one run by epoch.

    Attributes:
        losses_EN: float32 [E, N], by the weights of each epoch; NaN where none was recorded, or was not finite. E - 1
            is the last epoch recorded.
        correct_EN: int8 [E, N], whether the prediction was right (1) or wrong (0) in each epoch; UNKNOWN where that was
            not recorded.
    """

    losses_EN: npt.NDArray[np.float32]
    correct_EN: npt.NDArray[np.int8]

    @property
    def epoch(self) -> int:
        """The last epoch recorded."""
        return len(self.losses_EN) - 1


def loss_rows(
    run: str,
    epoch: int,
    sample: npt.ArrayLike,
    loss: npt.ArrayLike,
    loss_epoch: int | npt.ArrayLike,
    probability: npt.ArrayLike | None,
    selected: npt.ArrayLike | None,
    correct: npt.ArrayLike | None,
) -> pa.Table:
    """The rows of one epoch; the arguments are those of `Runs.put_losses`."""
    samples = np.asarray(sample, np.int64)
    columns: dict[str, Any] = {"run": run, "epoch": epoch, "sample": samples, "loss": finite(loss, np.float32)}
    columns["loss_epoch"] = np.broadcast_to(np.asarray(loss_epoch, np.int32), samples.shape)
    columns["probability"] = None if probability is None else finite(probability, np.float32)
    columns["selected"], columns["correct"] = _truth(selected), _truth(correct)
    return rows_of("losses", columns, len(samples))


def finite(values: npt.ArrayLike, kind: type[np.floating[Any]]) -> pa.Array:
    """Numbers, with null for NaN and infinities.

    Null is what every engine keeps out of comparisons. NaN is not: it sorts first in some, and statistics of Parquet
    files leave it out, from which DuckDB 2.0 concludes that there is none.
    """
    numbers = np.asarray(values, kind)
    return pa.array(numbers, mask=~np.isfinite(numbers))


def history(tables: "Tables", run: str, count: int) -> History:
    """A run's losses as arrays; see `Runs.losses`."""
    rows = tables.read("losses", None, ["epoch", "sample", "loss", "loss_epoch", "correct"], run=run)
    if not len(rows):
        raise RunNotFound(f"Run {run[:100]} has no losses: record some with tamis.training.LossRecorder, or train with "
                          "--record-losses.")  # fmt: skip
    epoch, sample = np.asarray(rows["epoch"]), np.asarray(rows["sample"])
    if sample.min() < 0 or sample.max() >= count:
        raise SelectionError(
            f"Run {run} has losses of samples {sample.min()} to {sample.max()} where the dataset has {count}: they are "
            "of another version."
        )
    order = np.argsort(epoch, kind="stable")  # of rows with one `loss_epoch` the last one counts
    computed, loss = np.asarray(rows["loss_epoch"]), np.asarray(rows["loss"].fill_null(float("nan")))
    right = np.asarray(rows["correct"].cast(pa.int8()).fill_null(UNKNOWN))
    shape = (max(int(epoch.max()), int(computed.max())) + 1, count)
    losses_EN, correct_EN = np.full(shape, np.nan, np.float32), np.full(shape, UNKNOWN, np.int8)
    there = order[~np.isnan(loss[order])]
    losses_EN[computed[there], sample[there]] = loss[there]
    correct_EN[epoch, sample] = right
    return History(losses_EN, correct_EN)


def _truth(values: npt.ArrayLike | None) -> pa.Array | None:
    if values is None:
        return None
    masked = np.ma.asarray(values)
    return pa.array(np.asarray(masked.data, np.bool_), mask=np.ma.getmaskarray(masked))
