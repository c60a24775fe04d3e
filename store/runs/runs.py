"""Runs: executions that leave a model or numbers for samples, with their scores, features, boxes and loss history.

Their life stands in `tamis.store.runs.events`. Scores, features and boxes become visible with the finished run; the
losses of a training run become visible epoch by epoch, each epoch whole; what applications saw, part by part.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store import mapped
from tamis.store.boxes import Boxes, Frames, Tally, box_rows, boxes_of, cleaned, frame_rows
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError, StoreFormatError
from tamis.store.features import Extent, Vectors, dense, vector_rows
from tamis.store.keys import check_name
from tamis.store.losses import History, finite, history, loss_rows
from tamis.store.roots.waiting import one_patience
from tamis.store.run import run_of
from tamis.store.runs.events import Events
from tamis.store.runs.watching import watched_rows
from tamis.store.tables.tables import TABLES, new_attempt, rows_of

_AT_ONCE = 2**17  # scores; beyond, their table would take many times the memory of the answer


class Runs(Events):
    """The runs of one store, and what they leave."""

    def put_scores(self, run: str, values: Mapping[str, npt.ArrayLike], samples: npt.ArrayLike) -> None:
        """Keep the scores of a whole pass in one commit; they show once the run is finished.

        Args:
            run: the run's key.
            values: {metric: [n] float}; NaN and infinities are kept as null, so that no
                ranking takes them; selections leave them out.
            samples: [n] int64.
        """
        self.put_score_batches(run, iter([(values, samples)]))

    def put_score_batches(
        self,
        run: str,
        batches: Iterator[tuple[Mapping[str, npt.ArrayLike], npt.ArrayLike]],
        *,
        behind: str | None = None,
    ) -> None:
        """As `put_scores`, from batches: memory stays that of some batches. What they raise comes out as it is.

        Args:
            run: the run's key.
            batches: values and samples.
            behind: a finished run whose scores are this one's, too, and come before the batches.
        """

        def rows(attempt: str) -> Iterator[pa.RecordBatch]:
            if behind is not None:
                yield from (_renamed(batch, run, attempt) for batch in self._score_batches(behind))
            yield from (row for values, samples in batches for row in _score_rows(run, attempt, values, samples))

        self._put("scores", run, rows, dict[str, str])

    @one_patience
    def has_scores(self, run: str) -> bool:
        """Whether the table has scores of a run. Reads its log, and no row."""
        return len(self._tables.state("scores").of(run=pa.array([run]))) > 0

    def _score_batches(self, run: str) -> Iterator[pa.RecordBatch]:
        said = self._tables.found("runs", f"finish/{run}", 1)
        assert said is not None
        attempt = said.rows[0].get("attempt")
        mine = {"run": run} if attempt is None else {"run": run, "attempt": attempt}
        return self._tables.batches("scores", ["metric", "sample", "value"], **mine)

    def put_features(self, run: str, blocks: Iterator[tuple[npt.ArrayLike, Vectors]]) -> None:
        """Keep a vector a sample in one commit; they show once the run is finished. Memory stays that of some blocks.

        Args:
            run: the run's key.
            blocks: sample numbers [n] and vectors [n, E] of float16 or float32. A vector with NaN or infinities is kept
                as null.
        """
        extent = Extent()

        def rows(attempt: str) -> Iterator[pa.RecordBatch]:
            return (row for block in blocks for row in vector_rows(run, attempt, *block, extent))

        self._put("features", run, rows, extent.note)

    def feature_blocks(self, run: str) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """The vectors of a run, some thousand at a time: sample numbers [n] and [n, E] float32, NaN where it has none.

        Raises:
            RunNotFound: the run is not finished, or has no features.
        """
        attempt, extent = self._features(run)
        for batch in self._tables.batches("features", ["sample", "vector"], run=run, attempt=attempt):
            yield np.asarray(batch["sample"]), dense(batch["vector"], extent.width)

    def features(self, run: str, dataset: Dataset) -> Vectors:
        """[N, E] the run's vectors by sample, mapped from a file, NaN where a sample has none; not to be written to.

        They are float16 or float32, as they were computed. The file is made from the table by the first call.

        Raises:
            RunNotFound: the run is not finished, or has no features.
            SelectionError: they are of another dataset version.
        """
        attempt, extent = self._features(run)
        if extent.samples != dataset.samples:
            raise SelectionError(
                f"Run {run} has {extent.samples} vectors where {dataset.ref} has {dataset.samples} samples: they are "
                "of another version. Compute features of this version (only what is new is computed)."
            )

        def fill(out: npt.NDArray[Any]) -> None:
            count = 0
            for samples, vectors in self.feature_blocks(run):
                out[samples] = vectors
                count += len(samples)
            if count != extent.samples:
                raise StoreFormatError(
                    f"Run {run} had {extent.samples} vectors, {count} can be read: restore its files in "
                    "tables/features from a copy; `tamis verify` names everything that is damaged."
                )

        what = {"features": run, "attempt": attempt}  # what was removed and computed anew has another
        return mapped.array(self._root, what, (extent.samples, extent.width), extent.dtype, fill)

    def put_boxes(self, run: str, batches: Iterator[Frames]) -> Tally:
        """Keep the boxes of a whole pass; they show once the run is finished. Memory stays that of some batches.

        What cannot be kept is left out and counted (`tamis.store.boxes.cleaned`). Of a run that has boxes already,
        nothing of the batches is looked at.

        Args:
            run: key of a run that was begun with the names of its classes in `config["classes"]`.
            batches: frames, each once.

        Returns:
            What they came to.
        """
        check_name(run, "run")
        number = self._last(run).life.number
        there = self._tables.found("runs", f"boxes/{run}", number)
        if there is not None:
            return Tally.of(there.note)
        attempt, tally, classes = new_attempt(), Tally(), len(self.get(run).config.get("classes", ()))
        seen: list[pa.RecordBatch] = []

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                frames = cleaned(batch, classes, tally)
                seen.extend(frame_rows(run, attempt, frames))
                yield from box_rows(run, attempt, frames)

        files = {"boxes": self._write("boxes", rows())}
        files["detections"] = self._write("detections", iter(seen))
        claims = {f"{table}/{run}": number for table in files}
        if not self._tables.publish("runs", [], claims, {"attempt": attempt, **tally.note()}):
            for table, written in files.items():
                self._tables.drop_attempt(table, written)
        return tally

    @one_patience
    def boxes(self, run: str, dataset: Dataset) -> Boxes:
        """The boxes of a run, by sample of a dataset; samples that it did not look at are told apart.

        Raises:
            RunNotFound: the run is not finished, or has no boxes.
            SelectionError: they are of samples that this dataset version does not have.
        """
        row = self._end(run)
        if row is None:
            raise RunNotFound(f"Run {run[:100]} is not a finished run with boxes: make them with tamis score boxes.")
        return boxes_of(self._tables, run_of(row), row.get("attempt"), dataset)

    @one_patience
    def scores(self, run: str, metric: str, count: int) -> npt.NDArray[np.float64]:
        """[count] the run's scores by sample.

        Raises:
            RunNotFound: the run is not finished, or has no such metric.
        """
        row = self._end(run)
        if row is None:
            raise RunNotFound(
                f"Run {run} is not finished, so its scores cannot be read. Run the scoring again to finish it."
            )
        attempt = row.get("attempt")  # runs of earlier versions name none: all that is there is theirs
        mine = {"run": run, "metric": metric} if attempt is None else {"run": run, "metric": metric, "attempt": attempt}
        values, seen, rows = np.full(count, np.nan), np.zeros(count, bool), 0
        for sample, value in self._score_blocks(count, **mine):
            rows += len(sample)
            inside = sample < count
            values[sample[inside]], seen[sample[inside]] = value[inside], True
        if not rows:
            there = {"run": run} if attempt is None else {"run": run, "attempt": attempt}
            metrics = sorted(self._tables.read("scores", None, ["metric"], **there)["metric"].unique().to_pylist())
            raise RunNotFound(f"Run {run} has no metric {metric!r}; it has: {', '.join(metrics) or 'none'}.")
        if rows != count or not seen.all():
            raise SelectionError(
                f"Run {run} has {rows} scores of {metric!r} where the dataset has {count} samples: it scored "
                "another version. Score this version (only what is new is computed)."
            )
        return values

    def _score_blocks(self, count: int, **equal: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Sample numbers and values: checked and at once, or where they are many some thousand at a time."""
        columns = ["sample", "value"]
        if count <= _AT_ONCE:
            rows = self._tables.read("scores", None, columns, **equal)
            yield np.asarray(rows["sample"]), np.asarray(rows["value"])
            return
        for batch in self._tables.batches("scores", columns, **equal):
            yield np.asarray(batch["sample"]), np.asarray(batch["value"])

    def hardness(self, run: str, metric: str, count: int) -> npt.NDArray[np.float64]:
        """[count] as `scores`, turned so that higher means harder, whatever the run declares of its scores."""
        values, hard = self.scores(run, metric, count), self.get(run).config.get("hard")
        direction = hard.get(metric) if isinstance(hard, dict) else hard
        return -values if direction == "lower" else values

    @one_patience
    def put_losses(
        self,
        run: str,
        epoch: int,
        sample: npt.ArrayLike,
        loss: npt.ArrayLike,
        loss_epoch: int | npt.ArrayLike,
        probability: npt.ArrayLike | None = None,
        selected: npt.ArrayLike | None = None,
        correct: npt.ArrayLike | None = None,
    ) -> None:
        """Keep one epoch of loss history, in place of what an earlier try at the same epoch left.

        Args:
            run: the run's key.
            epoch: the epoch.
            sample: [n] int64.
            loss: [n] float; NaN and infinities are kept as null.
            loss_epoch: the epoch whose weights computed the loss; one number, or [n].
            probability: [n] of being chosen for the backward pass; NaN is kept as null.
            selected: [n] whether it was; what a masked array masks is kept as null.
            correct: [n] whether the prediction was right; as `selected`.
        """
        check_name(run, "run")
        rows = loss_rows(run, epoch, sample, loss, loss_epoch, probability, selected, correct)
        self._tables.replace("losses", run, epoch, rows)

    def add_looks(self, run: str, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep looks of applications at frames in one commit; they show at once, beside those that are there.

        Args:
            run: key of a run that was begun.
            source: of the frames.
            rows: application, package, frame, seconds, hit, score, ms.
        """
        self._add("looks", run, source, rows)

    def add_events(self, run: str, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep events that applications found, as `add_looks`.

        Args:
            run: key of a run that was begun.
            source: of the frames.
            rows: application, package, begins, ends, reported, votes, hits, looks, score.
        """
        self._add("events", run, source, rows)

    @one_patience
    def _add(self, table: str, run: str, source: str, rows: Sequence[Mapping[str, Any]]) -> None:
        check_name(run, "run")
        if rows:
            self._tables.append(table, watched_rows(table, run, new_attempt(), source, rows))

    @one_patience
    def losses(self, run: str, count: int) -> History:
        """The losses of a run as arrays; see `tamis.store.losses.History`.

        Args:
            run: the run's key.
            count: samples of its dataset.

        Raises:
            RunNotFound: it has none.
            SelectionError: they are of more samples.
        """
        return history(self._tables, run, count)

    @one_patience
    def last_epoch(self, run: str) -> int:
        """The last epoch that a run has losses of; -1 where it has none."""
        return self._tables.last_epoch("losses", run)

    @one_patience
    def with_losses(self) -> set[str]:
        """The keys of the runs that have losses. Reads the table's log, and no row."""
        files = self._tables.state("losses").files
        return set(files["run"].to_pylist()) if len(files) else set()

    def _put(
        self,
        table: str,
        run: str,
        rows: Callable[[str], Iterator[pa.RecordBatch]],
        note: Callable[[], Mapping[str, str]],
    ) -> None:
        """Keep the rows of an attempt, unless some are there, and a note of what there is to say of them."""
        check_name(run, "run")
        claim, number = f"{table}/{run}", self._last(run).life.number
        if self._tables.found("runs", claim, number) is not None:
            return
        attempt = new_attempt()
        files = self._write(table, rows(attempt))
        # Losing the claim means that another worker's whole pass is there: the same question, the same answer.
        if not self._tables.publish("runs", [], {claim: number}, {"attempt": attempt, **note()}):
            self._tables.drop_attempt(table, files)

    def _write(self, table: str, batches: Iterator[pa.RecordBatch]) -> tuple[str, ...]:
        """Append the rows of an attempt; no commit where there are none."""
        first = next(batches, None)
        if first is None:
            return ()
        every = itertools.chain([first], batches)
        return self._tables.append(table, pa.RecordBatchReader.from_batches(TABLES[table].schema, every))

    @one_patience
    def _features(self, run: str) -> tuple[str, Extent]:
        """The attempt that a finished run's vectors are of, and what they are."""
        number = self._last(run).life.number if self.find(run) is not None else 0
        said = self._tables.found("runs", f"features/{run}", number) if number else None
        if said is None:
            raise RunNotFound(
                f"Run {run[:100]} is not a finished run with features: compute them with tamis score features."
            )
        return said.note["attempt"], Extent.of(said.note)


def _renamed(batch: pa.RecordBatch, run: str, attempt: str) -> pa.RecordBatch:
    """Scores of one run as those of another."""
    of = {"run": pa.repeat(run, len(batch)), "attempt": pa.repeat(attempt, len(batch))}
    arrays = [of[column.name] if column.name in of else batch[column.name] for column in TABLES["scores"].schema]
    return pa.RecordBatch.from_arrays(arrays, schema=TABLES["scores"].schema)


def _score_rows(
    run: str, attempt: str, values: Mapping[str, npt.ArrayLike], samples: npt.ArrayLike
) -> Iterator[pa.RecordBatch]:
    numbers = np.asarray(samples, np.int64)
    for metric, value in values.items():
        columns = {
            "run": run, "attempt": attempt, "metric": metric, "sample": numbers,
            "value": finite(value, np.float64),
        }  # fmt: skip
        yield from rows_of("scores", columns, len(numbers)).to_batches()
