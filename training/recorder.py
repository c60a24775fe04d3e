"""The loss history of any training loop, kept as it trains.

    with LossRecorder(store, "my-run", dataset="cifar10", model="resnet18") as recorder:
        for epoch in range(epochs):
            for samples, images, labels in batches:
                logits = model(images)
                losses = cross_entropy(logits, labels, reduction="none")
                ...
                recorder.add(samples, losses, correct=logits.argmax(1) == labels)
            recorder.end_epoch()

What: `add` takes what is known of some samples, `end_epoch` makes the epoch visible in SQL (table `losses`), whole and
in place of what an earlier try left there. The run shows as running until the block ends.
How: the loop hands over copies. Those of a GPU are begun and not waited for; one thread beside the loop waits for them,
gathers them by sample, and writes. What goes wrong there is raised by the next call, and by every one behind that.
Cost: some 100 µs a call of the loop's own time. Memory: 15 bytes a sample of the dataset for the epoch under way and
for the one being written, and 2^20 rows that wait; where writing falls farther behind, `add` waits for it.
Killed: finished epochs are there, the one under way is not; the same run name goes on behind the last finished epoch.
Ranks: one process records a run; gather the losses of the others to it.
Legend: B rows of a call, N samples of the dataset.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunBusy
from tamis.store.keys import check_name
from tamis.store.runs import FINISHED, Run
from tamis.training.border import EPOCHS, whole
from tamis.training.errors import RecordingRefused

if TYPE_CHECKING:
    from torch import Tensor

    Values = Tensor | ArrayLike

_WAITING = 1 << 20  # rows that may wait to be gathered
_TOGETHER = 1 << 12  # rows that are handed over at once: a thread that is woken takes time from the loop
_UNKNOWN = -1  # among truth values
_KINDS = {
    "loss": np.float32,
    "loss_epoch": np.int32,
    "probability": np.float32,
    "selected": np.int8,
    "correct": np.int8,
}
_Held = tuple[Any, dict[str, Any], list[Any]]  # of a call: samples, columns, and what says that they are there
_busy: set[tuple[str, str]] = set()  # (store, run) that this process records
_lock = threading.Lock()


class LossRecorder:
    """Records the losses of one run, epoch by epoch; a context manager.

    A run that is under way in this very process (as `tamis.training.train` begins one) is written to, and its end is
    left to whoever began it. Any other is begun here and ends with the block: `finished`, or `failed` with the error's
    text.

    Args:
        store: a store, or where it is.
        run: the run's name: of your choosing, or the key of a run of tamis.
        dataset: "name" or "name@version", of the store: sample numbers are its.
        model: the model's name, for people.
        config: what else is worth knowing of the run, plain JSON.
        epoch: the first epoch to record; None: behind the last one recorded, 0 in a new run.
        take_over: begin the run although another process is said to be at it, as where its machine is gone.

    Attributes:
        epoch: the epoch that `add` adds to.
        nonfinite: losses so far that were NaN or infinite, and are kept as null.

    Raises:
        RunBusy: another process, one that lives, is at this run; or another recorder of this process.
        RecordingRefused: the run is finished, or of another dataset.
        DatasetNotFound, InvalidName: as the store says.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        run: str,
        *,
        dataset: str | Dataset,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        epoch: int | None = None,
        take_over: bool = False,
    ) -> None:
        self._store = store if isinstance(store, Store) else Store.open(store)
        self._dataset = dataset if isinstance(dataset, Dataset) else self._store.datasets.get(dataset)
        self._run, self._model, self._config, self._alone = (
            check_name(run, "run"),
            model,
            dict(config or {}),
            not take_over,
        )
        self._first = None if epoch is None else whole("epoch", epoch, most=EPOCHS)
        self.epoch, self.nonfinite = self._first or 0, 0
        self._pool: ThreadPoolExecutor | None = None
        self._tasks: deque[tuple[Future[None], int]] = deque()
        self._held: list[_Held] = []
        self._waiting, self._held_rows, self._began = 0, 0, 0.0
        self._broken = self._owns = False
        self._rows = _Epoch(self._dataset.samples)

    def __enter__(self) -> Self:
        with _lock:
            if self._place in _busy:
                raise RunBusy(f"Run {self._run} is being recorded in this process already: use another name.")
            _busy.add(self._place)
        with ExitStack() as undo:  # where the run is refused, or Ctrl-C comes, the name is free again
            undo.callback(_busy.discard, self._place)
            self._begin()
            undo.pop_all()
        self._pool, self._began = ThreadPoolExecutor(1, thread_name_prefix="tamis-losses"), perf_counter()
        return self

    def add(
        self,
        samples: "Values",
        losses: "Values",
        *,
        correct: "Values | None" = None,
        probability: "Values | float | None" = None,
        selected: "Values | bool | None" = None,
        loss_epoch: "Values | int | None" = None,
    ) -> None:
        """Record what is known of some samples in the epoch under way. A sample that comes again replaces its row.

        Tensors may be on any device and have gradients; they are detached, copied, and not waited for.

        Args:
            samples: [B] numbers of samples in the dataset.
            losses: [B].
            correct: [B] whether the prediction was right.
            probability: [B] of being chosen for the backward pass, 0 to 1; or one number.
            selected: [B] whether it was; or one truth value.
            loss_epoch: [B] the epoch whose weights computed the loss; or one number. None: the epoch under way.

        Raises:
            RecordingRefused: wrong lengths or kinds, numbers out of range. Of values a later call may say so.
        """
        pool, rows = self._running(), _length(samples)
        given = {"loss": losses, "correct": correct, "probability": probability, "selected": selected}
        given["loss_epoch"] = self.epoch if loss_epoch is None else loss_epoch
        columns = {name: _copy(name, value, rows) for name, value in given.items() if value is not None}
        numbers = _copy("samples", samples, rows)
        events = _events((samples, *given.values()))
        if not events:
            _check_samples(np.asarray(numbers), self._dataset)
        if self._held and columns.keys() != self._held[0][1].keys():  # what is gathered at once has the same columns
            self._hand_over(pool)
        self._held.append((numbers, columns, events))
        self._held_rows += rows
        if self._held_rows >= _TOGETHER:
            self._hand_over(pool)

    def end_epoch(self) -> None:
        """Finish the epoch under way: it is written beside the loop, and then visible. The next one begins.

        Raises:
            RecordingRefused: what was wrong with rows that were added before.
        """
        pool, gathered, epoch = self._running(), self._rows, self.epoch
        self._hand_over(pool)

        def write() -> None:
            samples, columns = gathered.rows()
            if len(samples):
                self._store.runs.put_losses(self._run, epoch, samples, **columns)

        self._submit(pool, write, 0)
        self._rows, self.epoch = _Epoch(self._dataset.samples), epoch + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run. What was added behind the last `end_epoch` is an epoch if the block ends well, else dropped."""
        failed = error
        try:
            if error is None:
                self._close()
        except BaseException as fault:  # a failed write, or Ctrl-C while it is waited for: the run ends with its text
            failed = fault
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown()  # epochs that ended are written, whatever came behind them
            self._pool = None
            _busy.discard(self._place)
            if self._owns and failed is not None:
                self._store.runs.fail(self._run, f"{type(failed).__name__}: {failed}")

    def _close(self) -> None:
        self.end_epoch()  # of nothing, nothing is written
        while self._tasks:
            self._settle()
        if self._owns:
            epochs = self._store.runs.last_epoch(self._run) + 1
            metrics = {"epochs": epochs, "nonfinite": self.nonfinite}
            self._store.runs.finish(self._run, metrics=metrics, seconds={"total": perf_counter() - self._began})

    def _begin(self) -> None:
        runs = self._store.runs
        there = runs.state(self._run)
        if there is not None:
            self._check(there)
        self._owns = not runs.is_mine(self._run)
        if self._owns:
            runs.begin(
                kind="train", key=self._run, dataset=self._dataset.ref, model=self._model, config=self._config,
                alone=self._alone,
            )  # fmt: skip
        if self._first is None:
            self.epoch = runs.last_epoch(self._run) + 1

    def _check(self, there: Run) -> None:
        if there.status == FINISHED:
            raise RecordingRefused(f"Run {self._run} is finished, and its losses with it: record under another name.")
        if there.dataset != self._dataset.ref:
            raise RecordingRefused(
                f"Run {self._run} records losses of {there.dataset}, not of {self._dataset.ref}: use another name."
            )

    @property
    def _place(self) -> tuple[str, str]:
        return self._store.root.url, self._run

    def _running(self) -> ThreadPoolExecutor:
        if self._pool is None:
            raise RecordingRefused("The recorder is not open: use it within `with LossRecorder(...) as recorder`.")
        while self._tasks and (self._tasks[0][0].done() or self._waiting > _WAITING):
            self._settle()
        return self._pool

    def _settle(self) -> None:
        """Wait for the oldest task; what went wrong in it is raised, now and by all behind it."""
        future, rows = self._tasks[0]
        future.result()
        self._tasks.popleft()
        self._waiting -= rows

    def _hand_over(self, pool: ThreadPoolExecutor) -> None:
        """Have gathered what was added since."""
        held, gathered, epoch = self._held, self._rows, self.epoch

        def gather() -> None:
            for *_, events in held:
                for event in events:
                    event.synchronize()
            samples = np.concatenate([np.asarray(numbers) for numbers, *_ in held])
            columns = {name: _joined(name, held) for name in held[0][1]}
            _check_samples(samples, self._dataset)
            self.nonfinite += gathered.put(samples, columns, epoch)

        if held:
            self._submit(pool, gather, self._held_rows)
            self._held, self._held_rows = [], 0

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], None], rows: int) -> None:
        self._tasks.append((pool.submit(self._unless_broken, work), rows))
        self._waiting += rows

    def _unless_broken(self, work: Callable[[], None]) -> None:
        """Do it; behind something that went wrong nothing is done, so that no epoch with holes is written."""
        if not self._broken:
            self._broken = True
            work()
            self._broken = False


class _Epoch:
    """The rows of one epoch, gathered by sample: an array [N] a column, made when the first row comes."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._there: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._columns: dict[str, NDArray[Any]] = {}

    def put(self, samples: NDArray[Any], columns: Mapping[str, NDArray[Any]], epoch: int) -> int:
        """Keep rows; returns how many losses were not finite."""
        _check_values(columns, epoch)
        if not self._columns:
            self._there = np.zeros(self._samples, np.bool_)
            self._columns = {name: np.empty(self._samples, kind) for name, kind in _KINDS.items()}
        self._there[samples] = True
        for name, column in self._columns.items():
            column[samples] = columns.get(name, np.nan if name == "probability" else _UNKNOWN)
        return int(np.count_nonzero(~np.isfinite(columns["loss"])))

    def rows(self) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """The numbers of the samples that came, ascending, and their columns as `Runs.put_losses` takes them."""
        samples = np.flatnonzero(self._there)
        columns = {name: column[samples] for name, column in self._columns.items()}
        for name in ("selected", "correct"):
            if name in columns:
                columns[name] = np.ma.masked_array(columns[name] == 1, columns[name] == _UNKNOWN)
        return samples, columns


def _length(samples: Any) -> int:
    shape = tuple(samples.shape) if hasattr(samples, "shape") else np.shape(samples)
    if len(shape) != 1:
        raise RecordingRefused(f"samples are {list(shape)}: expected numbers of samples, [B].")
    return shape[0]


def _copy(name: str, value: Any, rows: int) -> Any:
    """A copy of the recorder's own: an array, or a tensor that may still be on its way from a GPU."""
    shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
    if shape != (rows,) and (shape or name in ("samples", "loss")):
        raise RecordingRefused(f"{name} is {list(shape)} for {rows} samples: expected [{rows}], one for each.")
    if not hasattr(value, "detach"):
        return np.array(value)
    kept = value.detach()
    kept = kept.float() if kept.is_floating_point() else kept
    if kept.is_cpu:
        return kept.numpy().copy()
    return kept.to("cpu", non_blocking=kept.is_cuda)  # pinned, where it comes from a GPU


def _joined(name: str, held: Sequence[_Held]) -> NDArray[Any]:
    """One column of what several calls gave, a single number repeated."""
    parts = ((np.asarray(columns[name]), len(numbers)) for numbers, columns, _ in held)
    return np.concatenate([part if part.ndim else np.full(rows, part) for part, rows in parts])


def _events(values: Iterable[Any]) -> list[Any]:
    """Of each GPU that something comes from: what is over when the copies are there."""
    devices = {value.device for value in values if getattr(value, "is_cuda", False)}
    if not devices:
        return []
    import torch

    return [torch.cuda.current_stream(device).record_event() for device in devices]


def _check_samples(samples: NDArray[Any], dataset: Dataset) -> None:
    if not samples.size:
        return
    if samples.dtype.kind not in "iu":
        raise RecordingRefused(f"samples are {samples.dtype}: expected whole numbers, those of the dataset's samples.")
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high >= dataset.samples:
        raise RecordingRefused(
            f"samples go from {low} to {high}: {dataset.ref} has those from 0 to {dataset.samples - 1}."
        )


def _check_values(columns: Mapping[str, NDArray[Any]], epoch: int) -> None:
    for name, expected in (
        ("correct", (0, 1)),
        ("selected", (0, 1)),
        ("loss_epoch", (0, epoch)),
        ("probability", (0, 1)),
    ):
        values = columns.get(name)
        if values is None or not values.size:
            continue
        if name != "probability" and values.dtype.kind not in ("iu" if name == "loss_epoch" else "biu"):
            raise RecordingRefused(f"{name} is {values.dtype}: expected whole numbers or truth values.")
        low, high = values.min(), values.max()
        if low < expected[0] or high > expected[1]:
            raise RecordingRefused(f"{name} goes from {low} to {high}: expected {expected[0]} to {expected[1]}.")
