"""Labels for a dataset, from a file or told by SQL from anything that the store holds.

What: `relabel` derives a dataset with other labels (`tamis.store.datasets.relabelling`). A file has a column `key` or
`sample`, and `label`; a query answers with the same. That is how boxes become classes, and zones of a video events.
Labels: class numbers; truth values, which are 0 and 1; or names of classes, which are numbered in the order that is
given, else in alphabetical order. Numbers have no names unless these are given: those of the source may mean something
else. A sample whose label is null, or empty text,
has none.
Cost: the answer and the dataset's rows in memory.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.blobs import digest_of
from tamis.store.datasets import Dataset
from tamis.store.datasets.relabelling import Labels
from tamis.store.errors import ImportRefused
from tamis.store.importing import check_once, read_table, samples_of
from tamis.store.tables.arrow import pc

if TYPE_CHECKING:
    from tamis.store.store import Store

Ints = npt.NDArray[np.int64]
_LONGEST = 1 << 16  # letters of a query, which is kept with the dataset
_SOME = 5


def relabel(
    store: "Store",
    ref: str,
    *,
    file: str | os.PathLike[str] | None = None,
    sql: str | None = None,
    name: str | None = None,
    classes: Sequence[str] = (),
    drop_missing: bool = False,
) -> Dataset:
    """Derive a dataset with other labels, from a file or a query.

    Args:
        store: an open store.
        ref: the dataset.
        file: Parquet, or CSV by its suffix, with `key` or `sample`, and `label`.
        sql: a query that answers with the same columns; one of the two is given.
        name: of the derived dataset; by default NAME-relabelled.
        classes: names of the classes, by number.
        drop_missing: leave samples without a label out.

    Raises:
        ImportRefused: naming the columns, samples or labels that are wrong.
        QueryError, QueryRefused: the query cannot be run.
        DatasetExists: the name has other content.
        ShardError: samples lack a label.
    """
    if (file is None) == (sql is None):
        raise ImportRefused("Labels come from a file or from a query: give one of the two.")
    source = store.datasets.get(ref)
    if sql is not None:
        if len(sql) > _LONGEST:
            raise ImportRefused(f"The query has {len(sql):,} letters: expected at most {_LONGEST:,}.")
        rows, kept, shown = store.query(sql), {"sql": sql}, "The query"
        _check_one_dataset(rows, source)
    else:
        assert file is not None
        rows, shown = read_table(file), str(file)
        kept = {"file": Path(file).name, "sha256": digest_of(Path(file))}
    labels = labels_of(rows, source, classes, kept, shown)
    return store.datasets.relabel(ref, labels, name=name, drop_missing=drop_missing)


def _check_one_dataset(rows: pa.Table, dataset: Dataset) -> None:
    """Refuse what a query gives that forgot, or misspelt, which dataset it is about: views have the rows of all."""
    where = f"views have the samples of every dataset, so expected where dataset = '{dataset.name}'"
    if not len(rows):
        raise ImportRefused(f"The query gave no rows; {where}.")
    if "sample" in rows.column_names and pc.count_distinct(rows["sample"]).as_py() < len(rows):
        raise ImportRefused(
            f"The query gave {len(rows):,} rows, some of one sample; {where} and a row for each sample."
        )


def labels_of(rows: pa.Table, dataset: Dataset, classes: Sequence[str], kept: Mapping[str, Any], shown: str) -> Labels:
    """Rows of `key` or `sample`, and `label`, as labels of a dataset.

    Args:
        rows: in any order.
        dataset: that they are of.
        classes: names of the classes, by number; may be empty.
        kept: what is kept of where they are from.
        shown: what to call them in messages.

    Raises:
        ImportRefused: naming what is wrong.
    """
    if "label" not in rows.column_names:
        said = ", ".join(rows.column_names) or "none"
        raise ImportRefused(
            f"{shown} has no column `label`; there are: {said}. Expected `key` or `sample`, and `label`."
        )
    given = rows["label"].combine_chunks()
    if pa.types.is_dictionary(given.type):
        given = given.dictionary_decode()
    texts = pa.types.is_string(given.type) or pa.types.is_large_string(given.type)
    labelled = pc.and_(pc.is_valid(given), pc.not_equal(given, "")) if texts else pc.is_valid(given)
    samples, column = samples_of(rows.filter(labelled), dataset), given.filter(labelled)
    check_once(samples)
    if texts:
        numbers, names = _by_name(column, tuple(classes), shown)
    else:
        numbers, names = _by_number(column, shown), tuple(classes)
    order = np.argsort(samples, kind="stable")
    return Labels(samples[order], numbers[order], names, kept)


def _by_name(column: pa.Array, classes: tuple[str, ...], shown: str) -> tuple[Ints, tuple[str, ...]]:
    there = sorted(column.unique().to_pylist())
    unknown = sorted(set(there) - set(classes)) if classes else []
    if unknown:
        raise ImportRefused(
            f"{shown}: {len(unknown)} labels are not among the {len(classes)} classes that were given (first: "
            f"{', '.join(map(repr, unknown[:_SOME]))}): name them too, or none to have them numbered in alphabetical "
            "order."
        )
    names = classes or tuple(there)
    return np.asarray(pc.index_in(column, value_set=pa.array(names, column.type)), np.int64), names


def _by_number(column: pa.Array, shown: str) -> Ints:
    kind = column.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        raise ImportRefused(f"{shown}: `label` holds {kind}: expected class numbers, truth values or names of classes.")
    values = np.asarray(column.cast(pa.float64(), safe=False), np.float64)
    wrong = ~np.isfinite(values) | (values != np.floor(values)) | (np.abs(values) > 2**53)
    if wrong.any():
        raise ImportRefused(f"{shown}: a label is {values[wrong][0]:g}: expected class numbers, which are whole.")
    return values.astype(np.int64)
