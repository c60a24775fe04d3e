"""Flat copies of what a job looks up for every sample, as Arrow files that its processes map into memory and share.

What: the place of every member, labels, keys, and the samples and weights of a selection's rounds, one file each. A
process that streams maps them: nothing is read before it is needed, and the pages are the operating system's, one copy
for all processes of a machine, whatever the number of samples.
When: by streams and scoring passes. Everybody else reads the tables, of which these are copies: they are made when they
are first asked for, and deleting them costs no more than making them again.
Where: `cache/` in a store that is a folder; the user's cache folder for a store on an object store, or one that cannot
be written; `TAMIS_CACHE` names another folder for all.
Cost: making one reads the table once (about 0.1 s for 50,000 samples); mapping one takes 0.2 ms.
"""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets import Dataset
from tamis.store.keys import key_of
from tamis.store.roots.roots import Root, reporting_full
from tamis.store.selections import Selection
from tamis.store.selections.drafts import Draft

LAYOUT = 1
FOLDER = "TAMIS_CACHE"

Ints = npt.NDArray[np.int64]


def cache_folder(root: Root) -> Path:
    """Where this machine keeps what it derived from a store."""
    given = os.environ.get(FOLDER)
    if given:
        return Path(given).expanduser().absolute()
    if root.path is not None and os.access(root.path, os.W_OK):
        return root.path / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "tamis"


def places(root: Root, dataset: Dataset) -> pa.Table:
    """Of every sample: `shard` (int32, into `Dataset.shards`) and `label` (int64, -1 where there is none)."""

    def make() -> pa.Table:
        return pa.table({"shard": dataset.extents().shard, "label": dataset.labels()})

    return _mapped(root, "places", {"dataset": dataset.key}, make)


def member(root: Root, dataset: Dataset, name: str) -> pa.Table:
    """Of every sample: the `offset` of the member's first byte in its shard and its `size`, both int64.

    Raises:
        ShardError: some samples have no such member, or more than one.
    """

    def make() -> pa.Table:
        found = dataset.locations(name)
        return pa.table({"offset": found.offset, "size": found.size})

    return _mapped(root, "member", {"dataset": dataset.key, "member": name}, make)


def keys(root: Root, dataset: Dataset) -> pa.Table:
    """Of every sample: its WebDataset `key`."""

    def make() -> pa.Table:
        return pa.table({"key": pa.array(dataset.keys(), pa.large_string())})

    return _mapped(root, "keys", {"dataset": dataset.key}, make)


def chosen(root: Root, selection: Selection | Draft, number: int) -> pa.Table:
    """One round in rank order: `sample` (int64), `weight` (float32), and `by_place` (int64), the rows by sample."""

    def make() -> pa.Table:
        samples, weights = selection.read_round(number)
        return pa.table({"sample": samples, "weight": weights, "by_place": np.argsort(samples)})

    # A key that was removed and computed anew may have other samples.
    content = {} if isinstance(selection, Draft) else {"digest": selection.digest}
    return _mapped(root, "round", {"selection": selection.key, "round": number, **content}, make)


def array(
    root: Root,
    what: dict[str, Any],
    shape: tuple[int, ...],
    kind: npt.DTypeLike,
    fill: Callable[[npt.NDArray[Any]], None],
) -> npt.NDArray[Any]:
    """A mapped array, not to be written to, that `fill` fills where it is not there yet; it may exceed the memory.

    Args:
        root: the store's.
        what: what the numbers are, plain JSON.
        shape, kind: of the array.
        fill: is given the array, to write to.
    """
    path = cache_folder(root) / f"array-{key_of('flat', {'layout': LAYOUT, 'kind': 'array', **what})}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with reporting_full(str(path.parent)):
                opened = np.lib.format.open_memmap(made, "w+", np.dtype(kind), shape)
                fill(opened)
                opened.flush()
                made.replace(path)
        finally:
            made.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of a mapped table as an array over the file's own pages, not to be written to."""
    parts = table[name].chunks
    return (
        parts[0].to_numpy(zero_copy_only=True)
        if parts
        else np.zeros(0, table.schema.field(name).type.to_pandas_dtype())
    )


def _mapped(root: Root, kind: str, what: dict[str, Any], make: Callable[[], pa.Table]) -> pa.Table:
    path = cache_folder(root) / f"{kind}-{key_of('flat', {'layout': LAYOUT, 'kind': kind, **what})}.arrow"
    found = _open(path)
    if found is not None:
        return found
    table = make()
    with contextlib.suppress(PermissionError, FileExistsError, NotADirectoryError):
        _write(path, table)
        return _open(path) or table
    return table  # nowhere to write: this process has a copy of its own


def _open(path: Path) -> pa.Table | None:
    """The table of a file; None where there is none, or something else by its name, which is then removed."""
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (pa.ArrowInvalid, OSError):
        path.unlink(missing_ok=True)
        return None


def _write(path: Path, table: pa.Table) -> None:
    """In one piece, under a name that shows it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with reporting_full(str(path.parent)):
            with pa.OSFile(str(made), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table.combine_chunks())
            made.replace(path)
    finally:
        made.unlink(missing_ok=True)
