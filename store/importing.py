"""Scores and selections that were made elsewhere, taken in by key or by sample number.

What: `import_scores` makes a scoring run of a file's numbers, `import_selection` a selection of a file's list. Both are
keyed by content: the same numbers, or the same samples and weights, are found again, whatever the file is called.
Files: Parquet and CSV with a column `key` or `sample`; a selection may also be a text with one of them a line. Scores
are a column each, or rows of `metric` and `value`.
Faults: keys and numbers that the dataset does not have, and those named twice, are refused by name. A sample without a
score is refused, or counted where that is allowed: it is kept as null, which no ranking takes.
Cost: the file and the dataset's keys in memory.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from tamis.store.datasets import Dataset
from tamis.store.errors import ImportRefused
from tamis.store.keys import check_name, key_of
from tamis.store.roots.regular import open_regular
from tamis.store.runs import Run
from tamis.store.selections import Published, Request, RoundData
from tamis.store.tables.arrow import pc

if TYPE_CHECKING:
    from tamis.store.store import Store

Hard = Literal["higher", "lower"]
By = Literal["key", "sample"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

VERSION = 1  # of how a file is understood: raise it when the same file comes to mean something else
METHOD = "import"
_PLACES: tuple[By, ...] = ("key", "sample")
_SOME = 3
_LONGEST = 100  # characters of a metric's name


@dataclass(frozen=True)
class ImportedScores:
    """What importing scores gave.

    Attributes:
        run: the scoring run.
        cached: the same numbers were there already.
        missing: {metric: samples without a finite score}, of metrics that lack some.
    """

    run: Run
    cached: bool
    missing: Mapping[str, int]


def import_scores(
    store: "Store",
    file: str | os.PathLike[str],
    dataset: str,
    *,
    name: str,
    hard: Hard,
    metrics: Sequence[str] = (),
    allow_missing: bool = False,
) -> ImportedScores:
    """Keep a file's scores as a scoring run of a dataset version.

    Args:
        store: an open store.
        file: Parquet, or CSV by its suffix.
        dataset: name or name@version.
        name: what scored, as the run's model.
        hard: whether higher or lower scores mean harder samples, which selections prefer.
        metrics: which columns to take; none: every column of numbers.
        allow_missing: count samples without a finite score instead of refusing them.

    Raises:
        ImportRefused: naming the columns, keys, samples or metrics that are wrong.
    """
    started, found = perf_counter(), store.datasets.get(dataset)
    check_name(name, "scorer")
    columns = _metrics(read_table(file), found, metrics)
    missing = {metric: int(n) for metric, values in columns.items() if (n := (~np.isfinite(values)).sum())}
    if missing and not allow_missing:
        some = ", ".join(f"{metric}: {count}" for metric, count in list(missing.items())[:_SOME])
        raise ImportRefused(
            f"{file} has no finite score for some of the {found.samples} samples of {found.ref} ({some}). Score them, "
            "or allow samples without a score (--allow-missing): selections leave them out."
        )
    content = hashlib.sha256()
    for metric, values in columns.items():
        content.update(f"{metric}\n".encode() + np.where(np.isfinite(values), values, np.nan).astype("<f8").tobytes())
    config: dict[str, Any] = {
        "scorer": {"name": METHOD, "version": VERSION}, "source": name, "hard": hard, "metrics": list(columns),
        "content": content.hexdigest(),
    }  # fmt: skip
    key = key_of("score", {"dataset": found.key, **config})
    there = store.runs.find(key)
    if there is not None:
        return ImportedScores(there, True, missing)
    store.runs.begin(kind="score", key=key, dataset=found.ref, model=name, config=config)
    store.runs.put_scores(key, columns, np.arange(found.samples))
    told: dict[str, Any] = {"samples": found.samples} | ({"missing": missing} if missing else {})
    run = store.runs.finish(key, metrics=told, seconds={"total": perf_counter() - started})
    return ImportedScores(run, False, missing)


def import_selection(
    store: "Store", file: str | os.PathLike[str], dataset: str, *, name: str, by: By | None = None
) -> Published:
    """Keep a file's list of samples as a selection, in the order of the list.

    Args:
        store: an open store.
        file: keys or sample numbers, one a line; or Parquet, or CSV with a column `key` or `sample` and perhaps
            `weight`.
        dataset: name or name@version.
        name: of the selection.
        by: what a text's lines are; None tells keys from numbers where that is sure.

    Raises:
        ImportRefused: keys or numbers are unknown, named twice, or could be either.
        SelectionError: weights are not finite.
    """
    started, found = perf_counter(), store.datasets.get(dataset)
    lines = _lines(file)
    if lines is None:
        rows = read_table(file)
        samples = samples_of(rows, found)
        weights = _numbers(rows, "weight") if "weight" in rows.column_names else np.ones(len(samples))
    else:
        samples = _listed(lines, found, by)
        weights = np.ones(len(samples))
    check_once(samples)
    if not len(samples):
        raise ImportRefused(f"{file} lists no samples: expected one key or number per line.")
    weights = weights.astype(np.float32)
    content = hashlib.sha256(samples.astype("<i8").tobytes() + weights.astype("<f4").tobytes()).hexdigest()
    request = Request(found, METHOD, VERSION, {"k": len(samples), "content": content})
    return store.selections.publish(
        request, name, [RoundData(samples, weights)], seconds=perf_counter() - started, stats={"excluded": 0}
    )


def read_table(file: str | os.PathLike[str]) -> pa.Table:
    """A file of rows: Parquet, or CSV by its suffix.

    Raises:
        ImportRefused: it cannot be read.
    """
    suffix = Path(file).suffix.lower()
    try:
        with open_regular(file) as opened:
            if suffix == ".csv":
                # Keys are text, though they may look like numbers.
                options = pyarrow.csv.ConvertOptions(column_types={"key": pa.string(), "metric": pa.string()})
                return pyarrow.csv.read_csv(opened, convert_options=options)
            return pq.read_table(opened)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        why = " ".join(str(error).split())[:200].rstrip(". ")
        kind = "CSV with a line of names" if suffix == ".csv" else "Parquet"
        raise ImportRefused(f"{file} cannot be read ({why}): expected {kind}.") from error


def _metrics(rows: pa.Table, dataset: Dataset, wanted: Sequence[str]) -> dict[str, Floats]:
    """[N] scores by metric, in the order of their names; NaN where there is none."""
    if {"metric", "value"} <= set(rows.column_names):
        names = pc.unique(rows["metric"]).drop_null().to_pylist()
        parts = {n: rows.filter(pc.equal(rows["metric"], n)) for n in names if not wanted or n in wanted}
        found = {metric: _spread(part, "value", dataset) for metric, part in parts.items()}
    else:
        columns = [f.name for f in rows.schema if f.name not in _PLACES and (f.name in wanted or not wanted)]
        found = {column: _spread(rows, column, dataset) for column in columns}
    lacking = [metric for metric in wanted if metric not in found]
    wrong = [metric for metric in found if not (0 < len(metric) <= _LONGEST and metric.isprintable())]
    if not found or lacking or wrong:
        what = f"metric {(lacking or wrong)[0][:_LONGEST]!r}" if lacking or wrong else "scores"
        raise ImportRefused(
            f"The file has no {what} that can be used: its columns are {', '.join(rows.column_names)}. Expected "
            "`key` or `sample` and one column of numbers per metric, or `metric` and `value`."
        )
    return dict(sorted(found.items()))


def _spread(rows: pa.Table, column: str, dataset: Dataset) -> Floats:
    samples, values = samples_of(rows, dataset), np.full(dataset.samples, np.nan)
    check_once(samples)
    values[samples] = _numbers(rows, column)
    return values


def _numbers(rows: pa.Table, column: str) -> Floats:
    kind = rows.schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ImportRefused(f"Column {column!r} holds {kind}: expected numbers. Choose columns with --metric.")
    return np.asarray(rows[column].cast(pa.float64()).fill_null(np.nan), np.float64)


def samples_of(rows: pa.Table, dataset: Dataset) -> Ints:
    """The sample that each row is of, by its column `key` or `sample`.

    Raises:
        ImportRefused: there is no such column, or it names what the dataset does not have.
    """
    if "key" in rows.column_names:
        return _by_key(rows["key"].cast(pa.string()).to_pylist(), dataset)
    if "sample" not in rows.column_names:
        raise ImportRefused(f"Expected a column `key` or `sample`; there are: {', '.join(rows.column_names)}.")
    if not pa.types.is_integer(rows.schema.field("sample").type) or rows["sample"].null_count:
        raise ImportRefused("Column `sample` must contain sample numbers: integers, none missing.")
    return _by_number(np.asarray(rows["sample"], np.int64), dataset)


def _lines(file: str | os.PathLike[str]) -> list[str] | None:
    """The lines of a text; None where the file is a table."""
    if Path(file).suffix.lower() in (".parquet", ".csv"):
        return None
    try:
        with open_regular(file) as opened:
            text = opened.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefused(
            f"{file} cannot be read ({error}): expected UTF-8 text with one key or number per line."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _listed(lines: Sequence[str], dataset: Dataset, by: By | None) -> Ints:
    numbers = bool(lines) and all(line.isascii() and line.isdigit() and len(line) < 19 for line in lines)
    if by is None:
        keys = set(lines) <= set(dataset.keys())
        if keys and numbers:
            raise ImportRefused(
                f"The lines could be keys or sample numbers of {dataset.ref}: choose with --by key or --by sample."
            )
        by = "sample" if numbers else "key"
    if by == "key":
        return _by_key(lines, dataset)
    if not numbers:
        raise ImportRefused("Expected sample numbers, one per line: integers from 0.")
    return _by_number(np.asarray(lines, np.int64), dataset)


def _by_key(keys: Sequence[str | None], dataset: Dataset) -> Ints:
    there = {key: sample for sample, key in enumerate(dataset.keys())}
    unknown = [key for key in keys if key not in there]
    if unknown:
        some = ", ".join(map(repr, unknown[:_SOME]))
        raise ImportRefused(
            f"{len(unknown)} of {len(keys)} keys are not in {dataset.ref} (first: {some}). Give the version that they "
            f"belong to; its keys look like {next(iter(there))!r}."
        )
    return np.asarray([there[key] for key in keys if key is not None], np.int64)


def _by_number(samples: Ints, dataset: Dataset) -> Ints:
    outside = samples[(samples < 0) | (samples >= dataset.samples)]
    if len(outside):
        raise ImportRefused(
            f"Sample {outside[0]} is not in {dataset.ref}: its numbers go from 0 to {dataset.samples - 1}."
        )
    return samples


def check_once(samples: Ints) -> None:
    """Refuse samples of which one comes twice.

    Raises:
        ImportRefused: naming it.
    """
    numbers, counts = np.unique(samples, return_counts=True)
    if (counts > 1).any():
        raise ImportRefused(f"Sample {numbers[counts > 1][0]} is listed more than once: expected each once.")
