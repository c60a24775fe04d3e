"""Runs: executions that leave a model or numbers for samples, with their scores, features and loss history.

A run's rows are events, appended and never changed: `running`, then `finished` or `failed`. Its state is the newest
event in the order of the log, and `finished` is final. A run that is `running` on this machine and whose process is
gone shows as `interrupted`. Scores become visible with the finished run; the losses of a training run become visible
epoch by epoch, each epoch whole.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store import mapped
from tamis.store.advice import did_you_mean
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError, StoreFormatError
from tamis.store.features import Extent, Vectors, dense, vector_rows
from tamis.store.keys import NAME, canonical, check_name
from tamis.store.processes import is_gone, this_process
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.arrow import pc
from tamis.store.tables.claims import FINISHED as FINISHED
from tamis.store.tables.tables import TABLES, Tables, moment_of, new_attempt, now, rows_of, until_claimed

RUNNING, FAILED, INTERRUPTED = "running", "failed", "interrupted"


@dataclass(frozen=True)
class Run:
    """A run as its newest event tells it."""

    key: str
    kind: str
    dataset: str
    model: str | None
    config: dict[str, Any]
    selection: str | None
    status: str
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    blob: str | None = None
    error: str | None = None


class Runs:
    """The runs of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @one_patience
    def begin(
        self,
        *,
        kind: str,
        key: str,
        dataset: str,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        selection: str | None = None,
    ) -> Run:
        """Say that a run is under way. A run that was killed is begun again under the same key.

        Args:
            kind: "train", "score", ...
            key: the run's key, from `tamis.store.keys.key_of`.
            dataset: "name@version".
            model: the model's name.
            config: plain JSON.
            selection: key of the selection it trains on.
        """
        check_name(key, "run")
        run = Run(key, kind, dataset, model, dict(config or {}), selection, RUNNING)
        until_claimed(lambda: self.event(run) or None, f"Beginning run {key}")
        return run

    @one_patience
    def finish(
        self,
        key: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        seconds: Mapping[str, float] | None = None,
        model: str | None = None,
    ) -> Run:
        """Make a run final and, with it, its scores visible. Only the first to finish a key is heard.

        Args:
            key: the run's key.
            metrics: plain JSON.
            seconds: what took how long, s.
            model: digest of the blob that holds the trained model.
        """
        begun = self.get(key)
        if begun.status == FINISHED:
            return begun
        key = begun.key
        run = replace(
            begun, status=FINISHED, metrics=dict(metrics or {}), seconds=dict(seconds or {}), blob=model, error=None
        )

        def publish() -> Run | None:
            if self._tables.found("runs", f"finish/{key}", 1) is not None:
                return self.get(key)
            there = (self._tables.found("runs", f"{table}/{key}", 1) for table in ("scores", "features"))
            attempt = next((said.note["attempt"] for said in there if said is not None), None)
            return run if self.event(run, {f"finish/{key}": 1}, attempt) else None

        return until_claimed(publish, f"Finishing run {key}")

    @one_patience
    def fail(self, key: str, error: str) -> None:
        """Record why a run ended without an answer; it may be begun again."""
        begun = self.get(key)
        readable = error.encode("utf-8", "replace").decode()
        failed = replace(begun, status=FAILED, metrics={}, seconds={}, blob=None, error=readable)

        def publish() -> bool | None:
            there = self._tables.found("runs", f"finish/{begun.key}", 1) is not None
            return there or self.event(failed) or None

        until_claimed(publish, f"Recording the end of run {key}")

    @one_patience
    def find(self, key: str) -> Run | None:
        """The finished run of this key, or None."""
        said = self._tables.found("runs", f"finish/{key}", 1) if NAME.fullmatch(key) else None
        return None if said is None else _run(said.rows[0])

    @one_patience
    def get(self, key: str) -> Run:
        """A run by its key, or by a part of it that begins no other.

        Raises:
            RunNotFound: none, or several, begin like that.
        """
        exact = self.state(key)
        found = [exact] if exact else [r for r in self.all() if len(key) >= 4 and r.key.startswith(key)]
        if len(found) != 1:
            near = ", ".join(r.key[:12] for r in found) if found else "none"
            meant = "" if found else did_you_mean(key, [r.key[: max(len(key), 4)] for r in self.all()])
            raise RunNotFound(
                f"{key!r} names {len(found)} runs ({near}); give a run's key, or its first characters (4 or more)."
                f"{meant}"
            )
        return found[0]

    @one_patience
    def all(self) -> list[Run]:
        """Every run, the oldest first."""
        state: dict[str, Mapping[str, Any]] = {}
        for row in self._tables.rows_in_order("runs"):
            there = state.get(row["run"])
            if there is None or there["status"] != FINISHED:
                state[row["run"]] = row
        return [_run(row) for row in state.values()]

    def put_scores(self, run: str, values: Mapping[str, npt.ArrayLike], samples: npt.ArrayLike) -> None:
        """Keep the scores of a whole pass in one commit; they show once the run is finished.

        Args:
            run: the run's key.
            values: {metric: [n] float}; NaN and infinities are kept as null, so that no
                ranking takes them; selections leave them out.
            samples: [n] int64.
        """
        self.put_score_batches(run, iter([(values, samples)]))

    def put_score_batches(self, run: str, batches: Iterator[tuple[Mapping[str, npt.ArrayLike], npt.ArrayLike]]) -> None:
        """As `put_scores`, from batches: memory stays that of some batches. What they raise comes out as it is."""

        def rows(attempt: str) -> Iterator[pa.RecordBatch]:
            return (row for values, samples in batches for row in _score_rows(run, attempt, values, samples))

        self._put("scores", run, rows, dict[str, str])

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
        _, extent = self._features(run)
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

        return mapped.array(self._root, {"features": run}, (extent.samples, extent.width), extent.dtype, fill)

    @one_patience
    def scores(self, run: str, metric: str, count: int) -> npt.NDArray[np.float64]:
        """[count] the run's scores by sample.

        Raises:
            RunNotFound: the run is not finished, or has no such metric.
        """
        said = self._tables.found("runs", f"finish/{run}", 1) if NAME.fullmatch(run) else None
        if said is None:
            raise RunNotFound(
                f"Run {run} is not finished, so its scores cannot be read. Run the scoring again to finish it."
            )
        attempt = said.rows[0].get("attempt")  # runs of earlier versions name none: all that is there is theirs
        mine = {"run": run} if attempt is None else {"run": run, "attempt": attempt}
        rows = self._tables.read("scores", None, ["metric", "sample", "value"], **mine)
        metrics = sorted(set(rows["metric"].unique().to_pylist()))
        if metric not in metrics:
            raise RunNotFound(f"Run {run} has no metric {metric!r}; it has: {', '.join(metrics) or 'none'}.")
        rows = rows.filter(pc.equal(rows["metric"], metric))
        values = np.full(count, np.nan)
        sample = np.asarray(rows["sample"])
        if len(sample) != count or (np.sort(sample) != np.arange(count)).any():
            raise SelectionError(
                f"Run {run} has {len(sample)} scores of {metric!r} where the dataset has {count} samples: it scored "
                "another version. Score this version (only what is new is computed)."
            )
        values[sample] = np.asarray(rows["value"])
        return values

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
    ) -> None:
        """Keep one epoch of loss history, in place of what an earlier try at the same epoch left.

        Args:
            run: the run's key.
            epoch: the epoch.
            sample: [n] int64.
            loss: [n] float.
            loss_epoch: the epoch whose weights computed the loss; one number, or [n].
            probability: [n] of being chosen for the backward pass.
            selected: [n] whether it was.
        """
        check_name(run, "run")
        samples = np.asarray(sample, np.int64)
        columns: dict[str, Any] = {
            "run": run,
            "epoch": epoch,
            "sample": samples,
            "loss": _finite(loss, np.float32),
        }
        columns["loss_epoch"] = np.broadcast_to(np.asarray(loss_epoch, np.int32), samples.shape)
        columns["probability"] = None if probability is None else np.asarray(probability, np.float32)
        columns["selected"] = None if selected is None else np.asarray(selected, np.bool_)
        self._tables.replace("losses", run, epoch, rows_of("losses", columns, len(samples)))

    def event(
        self, run: Run, claims: Mapping[str, int] | None = None, attempt: str | None = None, after: int | None = None
    ) -> bool:
        """Add the next event of a run, or the one `after` so many; False where it, or one of the claims, is taken."""
        row = {
            "run": run.key, "kind": run.kind, "dataset": run.dataset, "model": run.model,
            "config": canonical(run.config), "selection": run.selection, "status": run.status,
            "metrics": canonical(run.metrics),
            "seconds": canonical(run.seconds), "blob": run.blob, "error": run.error,
            "code": metadata.version("tamis"), "updated": now(), "attempt": attempt, "process": this_process(),
        }  # fmt: skip
        event = (self._tables.claimed("runs", f"run/{run.key}") if after is None else after) + 1
        return self._tables.publish("runs", [row], {f"run/{run.key}": event, **(claims or {})})

    def _put(
        self,
        table: str,
        run: str,
        rows: Callable[[str], Iterator[pa.RecordBatch]],
        note: Callable[[], Mapping[str, str]],
    ) -> None:
        """Keep the rows of an attempt, unless some are there, and a note of what there is to say of them."""
        check_name(run, "run")
        claim = f"{table}/{run}"
        if self._tables.found("runs", claim, 1) is not None:
            return
        attempt = new_attempt()
        reader = pa.RecordBatchReader.from_batches(TABLES[table].schema, rows(attempt))
        files = self._tables.append(table, reader)
        # Losing the claim means that another worker's whole pass is there: the same question, the same answer.
        if not self._tables.publish("runs", [], {claim: 1}, {"attempt": attempt, **note()}):
            self._tables.drop_attempt(table, files)

    @one_patience
    def _features(self, run: str) -> tuple[str, Extent]:
        """The attempt that a finished run's vectors are of, and what they are."""
        said = self._tables.found("runs", f"features/{run}", 1) if self.find(run) is not None else None
        if said is None:
            raise RunNotFound(
                f"Run {run[:100]} is not a finished run with features: compute them with tamis score features."
            )
        return said.note["attempt"], Extent.of(said.note)

    @one_patience
    def state(self, key: str) -> Run | None:
        """The run of exactly this key as it stands, or None."""
        if not NAME.fullmatch(key):
            return None
        finished = self.find(key)
        return self.newest(key)[1] if finished is None else finished

    @one_patience
    def newest(self, key: str) -> tuple[int, Run | None, dt.datetime | None]:
        """How many events a run has, and what the last one says and when."""
        events = self._tables.claimed("runs", f"run/{key}")
        said = self._tables.found("runs", f"run/{key}", events) if events else None
        return (0, None, None) if said is None else (events, _run(said.rows[0]), moment_of(said.rows[0]["updated"]))


def _score_rows(
    run: str, attempt: str, values: Mapping[str, npt.ArrayLike], samples: npt.ArrayLike
) -> Iterator[pa.RecordBatch]:
    numbers = np.asarray(samples, np.int64)
    for metric, value in values.items():
        columns = {
            "run": run, "attempt": attempt, "metric": metric, "sample": numbers,
            "value": _finite(value, np.float64),
        }  # fmt: skip
        yield from rows_of("scores", columns, len(numbers)).to_batches()


def _finite(values: npt.ArrayLike, kind: type[np.floating[Any]]) -> pa.Array:
    """Numbers, with null for NaN and infinities.

    Null is what every engine keeps out of comparisons. NaN is not: it sorts first in some, and statistics of Parquet
    files leave it out, from which DuckDB 2.0 concludes that there is none.
    """
    numbers = np.asarray(values, kind)
    return pa.array(numbers, mask=~np.isfinite(numbers))


def _run(row: Mapping[str, Any]) -> Run:
    gone = row["status"] == RUNNING and is_gone(row.get("process"))
    return Run(
        row["run"], row["kind"], row["dataset"], row["model"], json.loads(row["config"]), row["selection"],
        INTERRUPTED if gone else row["status"], json.loads(row["metrics"]), json.loads(row["seconds"]), row["blob"],
        row["error"],
    )  # fmt: skip
