"""Blobs: files named by the sha256 of their bytes. The same bytes are kept once and never change."""

import hashlib
import time
from pathlib import Path

from tamis.store.errors import BlobCorrupt, BlobNotFound
from tamis.store.roots.roots import Root

_LARGE = 16 << 20  # bytes
_OLD = 12 * 3600.0  # s


class Blobs:
    """Content-addressed files of one store, under `blobs/`."""

    def __init__(self, root: Root) -> None:
        self._root = root

    def put(self, data: bytes | Path) -> str:
        """Keep bytes, or the content of a file; returns their digest (64 hex characters). Repeating it is free.

        What nothing in the store names is removed by `tamis gc`, a day after it was put.
        """
        digest = digest_of(data)
        written = self._root.changed(self._name(digest))
        if written is not None and time.time() - written > _OLD:
            self._root.put(self._name(digest), data)  # what nothing names yet gets its day anew
        elif written is None:
            # What is large goes in parts, a broken one of which is sent again; only one request could be conditional,
            # and the same bytes may well be written twice.
            size = data.stat().st_size if isinstance(data, Path) else len(data)
            (self._root.put if size > _LARGE else self._root.put_new)(self._name(digest), data)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a blob, verified against its digest.

        Raises:
            BlobNotFound: nothing of that digest is kept.
            BlobCorrupt: the bytes on the medium changed.
        """
        data = self._root.get(self._name(digest))
        if data is None:
            raise BlobNotFound(f"No blob {digest} in {self._root.url}: it was removed or belongs to another store.")
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(
                f"Blob {digest} in {self._root.url} does not match its digest ({len(data)} bytes): "
                "it was damaged or edited. Restore the file, or remove it and recompute it."
            )
        return data

    def exists(self, digest: str) -> bool:
        return self._root.exists(self._name(digest))

    def _name(self, digest: str) -> str:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise BlobNotFound(f"{digest!r} is not a digest: expected 64 hex characters.")
        return f"blobs/{digest[:2]}/{digest}"


def digest_of(data: bytes | Path) -> str:
    """sha256 of bytes or of a file's content, in hex."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()
