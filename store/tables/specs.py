"""The tables of a store: their columns, and how their rows lie in files."""

from dataclasses import dataclass

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
LOG = "log_version"  # of a head's row: the number of the commit that published it
ROUNDS = pa.list_(
    pa.struct([("round", pa.int32()), ("first_epoch", pa.int32()), ("size", pa.int64()), ("objective", pa.float64())])
)
CANDIDATES = pa.list_(pa.struct([("candidate", pa.string()), ("content", pa.string()), ("pareto", pa.bool_())]))
MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))


@dataclass(frozen=True)
class Spec:
    """A table: its columns, the columns by which its files lie in folders, and the head that makes its rows visible.

    Attributes:
        schema: the columns.
        partition_by: those of them that are in the files' paths.
        head: of a payload, the head table that names its attempts.
        folder: of a payload without partitions, a column whose value is a folder for the eye.
        since: 1 for tables that every store has. Others came later: a store that lacks one reads it as empty, and its
            first writer makes it.
        by_parts: of a payload of runs: rows show as soon as they are committed, of every run that was begun.
    """

    schema: pa.Schema
    partition_by: tuple[str, ...] = ()
    head: str | None = None
    folder: str | None = None
    since: int = 1
    by_parts: bool = False

    @property
    def is_head(self) -> bool:
        """Whether its rows make things visible: they carry their place in the log."""
        return LOG in self.schema.names


def _spec(
    partition_by: tuple[str, ...] = (),
    head: str | None = None,
    folder: str | None = None,
    since: int = 1,
    by_parts: bool = False,
    **columns: pa.DataType,
) -> Spec:
    return Spec(pa.schema(list(columns.items())), partition_by, head, folder, since, by_parts)


_TEXT, _INT, _LONG, _FLOAT, _REAL = pa.string(), pa.int32(), pa.int64(), pa.float32(), pa.float64()

TABLES: dict[str, Spec] = {
    "datasets": _spec(
        dataset=_TEXT, version=_INT, key=_TEXT, samples=_LONG, shards=_INT, bytes=_LONG, image=_TEXT, label=_TEXT,
        classes=pa.list_(_TEXT), seconds=_REAL, created=TIME, attempt=_TEXT, log_version=_LONG,
    ),
    "shards": _spec(
        ("dataset",), "datasets",
        dataset=_TEXT, shard=_INT, uri=_TEXT, bytes=_LONG, digest=_TEXT, index_digest=_TEXT, stamp=_LONG,
        first_sample=_LONG, count=_LONG, version=_INT, attempt=_TEXT,
    ),
    "samples": _spec(
        ("dataset",), "datasets",
        dataset=_TEXT, sample=_LONG, key=_TEXT, shard=_INT, offset=_LONG, size=_LONG, members=MEMBERS, label=_LONG,
        attempt=_TEXT,
    ),
    "runs": _spec(
        run=_TEXT, kind=_TEXT, dataset=_TEXT, model=_TEXT, config=_TEXT, selection=_TEXT, status=_TEXT, metrics=_TEXT,
        seconds=_TEXT, blob=_TEXT, error=_TEXT, code=_TEXT, updated=TIME, attempt=_TEXT, process=_TEXT,
        log_version=_LONG,
    ),
    "scores": _spec(("run",), "runs", run=_TEXT, metric=_TEXT, sample=_LONG, value=_REAL, attempt=_TEXT),
    "features": _spec(("run",), "runs", since=2, run=_TEXT, sample=_LONG, vector=pa.list_(_FLOAT), attempt=_TEXT),
    "boxes": _spec(
        ("run",), "runs", since=2,
        run=_TEXT, sample=_LONG, label=_INT, score=_FLOAT, x1=_FLOAT, y1=_FLOAT, x2=_FLOAT, y2=_FLOAT, attempt=_TEXT,
    ),
    "detections": _spec(
        ("run",), "runs", since=2,
        run=_TEXT, sample=_LONG, status=_TEXT, boxes=_INT, width=_INT, height=_INT, ms=_FLOAT, error=_TEXT,
        attempt=_TEXT,
    ),
    "losses": _spec(
        ("run",), "runs", by_parts=True,
        run=_TEXT, epoch=_INT, sample=_LONG, loss=_FLOAT, loss_epoch=_INT, probability=_FLOAT, selected=pa.bool_(),
        correct=pa.bool_(),
    ),
    "looks": _spec(
        ("run",), "runs", since=2, by_parts=True,
        run=_TEXT, application=_TEXT, package=_TEXT, source=_TEXT, frame=_LONG, seconds=_REAL, hit=pa.bool_(),
        score=_FLOAT, ms=_FLOAT, attempt=_TEXT,
    ),
    "events": _spec(
        ("run",), "runs", since=2, by_parts=True,
        run=_TEXT, application=_TEXT, package=_TEXT, source=_TEXT, begins=_REAL, ends=_REAL, reported=_REAL,
        votes=_INT, hits=_LONG, looks=_LONG, score=_FLOAT, attempt=_TEXT,
    ),
    "selections": _spec(
        selection=_TEXT, name=_TEXT, version=_INT, dataset=_TEXT, method=_TEXT, method_version=_INT, params=_TEXT,
        inputs=pa.list_(_TEXT), seed=_LONG, rounds=_INT, size=_LONG, stats=_TEXT, seconds=_REAL, created=TIME,
        attempt=_TEXT, round_heads=ROUNDS, digest=_TEXT, files=pa.list_(_TEXT), log_version=_LONG,
    ),
    "selection_rounds": _spec(
        (), "selections", "selection",
        selection=_TEXT, round=_INT, first_epoch=_INT, size=_LONG, objective=_REAL, attempt=_TEXT,
    ),
    "selection_samples": _spec(
        (), "selections", "selection",
        selection=_TEXT, round=_INT, sample=_LONG, weight=_FLOAT, rank=_LONG, attempt=_TEXT,
    ),
    "dataset_origins": _spec(
        ("dataset",), "datasets", since=2,
        dataset=_TEXT, kind=_TEXT, source=_TEXT, source_key=_TEXT, params=_TEXT, attempt=_TEXT,
    ),
    "dataset_changes": _spec(
        since=2, dataset=_TEXT, change=_INT, version=_INT, kind=_TEXT, shard=_INT, uri=_TEXT, stamp=_LONG,
        classes=pa.list_(_TEXT), created=TIME, log_version=_LONG,
    ),
    "priorities": _spec(
        since=2, priority=_TEXT, name=_TEXT, version=_INT, function=_TEXT, search=_TEXT, trial=_INT, stats=_TEXT,
        created=TIME, log_version=_LONG,
    ),
    "bases": _spec(
        since=2, base=_TEXT, model=_TEXT, outputs=_INT, channels=_INT, image_size=_INT, mean=pa.list_(_REAL),
        std=pa.list_(_REAL), source=_TEXT, blob=_TEXT, bytes=_LONG, created=TIME, log_version=_LONG,
    ),
    "packages": _spec(
        since=2, package=_TEXT, name=_TEXT, version=_INT, base=_TEXT, dataset=_TEXT, selection=_TEXT,
        classes=pa.list_(_TEXT), event_class=_TEXT, average=_REAL, minimum=_REAL, frequency=_REAL, correlation=_REAL,
        measured=pa.list_(_TEXT), image_size=_INT, seed=_LONG, config=_TEXT, lineage=_TEXT, candidates=CANDIDATES,
        created=TIME, log_version=_LONG,
    ),
    "candidates": _spec(
        since=2, candidate=_TEXT, content=_TEXT, base=_TEXT, branch=_INT, branchpoint=_TEXT, frozen=_INT,
        parameters=_LONG, accuracy=_REAL, tpr=_REAL, fpr=_REAL, correlation=_REAL, metrics=_TEXT, seconds=_REAL,
        blob=_TEXT, bytes=_LONG, created=TIME, log_version=_LONG,
    ),
    "profiles": _spec(
        since=2, profile=_TEXT, version=_INT, base=_TEXT, device=_TEXT, threads=_INT, batch=_INT,
        segments=pa.list_(_REAL), rest=_REAL, stats=_TEXT, created=TIME, log_version=_LONG,
    ),
    "frames": _spec(
        ("dataset",), "datasets", since=2,
        dataset=_TEXT, sample=_LONG, camera=_TEXT, video=_TEXT, seconds=_REAL, attempt=_TEXT,
    ),
}  # fmt: skip
