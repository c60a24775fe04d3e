"""Parts of a pass over a dataset, one a shard: arrays as `.npz` in the store, without pickles."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.store import Store

_STRAY = "allow_pickle"  # NumPy before 2.1 kept this argument of earlier versions' savez as an array


def pack_part(columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays by name as the bytes of a file."""
    objects = [name for name, column in columns.items() if column.dtype.hasobject]
    if objects:
        raise TypeError(f"{', '.join(objects)} hold Python objects, which would be pickled: expected plain arrays")
    file = io.BytesIO()
    np.savez(file, **columns)  # type: ignore[arg-type]  # no column is called allow_pickle
    return file.getvalue()


def read_part(store: Store, name: str) -> dict[str, npt.NDArray[Any]] | None:
    """A part, or None where there is none or its bytes are damaged: parts can always be computed again."""
    data = store.root.get(name)
    return None if data is None else unpack_part(data)


def unpack_part(data: bytes) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays that `pack_part` packed, or None where the bytes are damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {k: file[k] for k in file.files if k != _STRAY}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
