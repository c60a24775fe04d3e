"""What can go wrong in a store, one class a kind of fault.

Every class inherits the built-in that it is, so `except KeyError` and `except TamisError` both work.
A message gives the value, what was expected, and what to do.
"""

import errno


class TamisError(Exception):
    """Base of every error that tamis raises on purpose."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument; a message meant for people must not be quoted.
        return str(self.args[0]) if self.args else ""


class StoreNotFound(TamisError, FileNotFoundError):
    """No store at this root."""


class StoreExists(TamisError, FileExistsError):
    """A store, or something else, is there already."""


class StoreFormatError(TamisError, ValueError):
    """The store was written in another format version, or its own files are damaged."""


class StoreFull(TamisError, OSError):
    """The medium took no more bytes. What was published before is untouched; what was being written is invisible."""


class StoreUnreachable(TamisError, ConnectionError):
    """The server of an object store does not answer, or answers with errors, after every retry."""


class StoreDenied(TamisError, PermissionError):
    """The server of an object store does not let us in."""


class WriteConflict(TamisError, RuntimeError):
    """Other writers won every retry."""


class NotJSON(TamisError, TypeError):
    """A value that goes into a key is not plain JSON."""


class InvalidName(TamisError, ValueError):
    """A name that cannot be used for a dataset or a selection."""


class NotFound(TamisError, KeyError):
    """Nothing of this name, key or version."""


class DatasetNotFound(NotFound):
    """No such dataset, or no such version of it."""


class SelectionNotFound(NotFound):
    """No such selection, or no such version of it."""


class RunNotFound(NotFound):
    """No such run."""


class StillNeeded(TamisError, RuntimeError):
    """Something that cannot be removed, because other things need it."""


class RestoreRefused(TamisError, ValueError):
    """A removal that cannot be taken back: its files are freed, or its place is taken."""


class RunBusy(TamisError, RuntimeError):
    """A run that another process is at."""


class PriorityNotFound(NotFound):
    """No prioritisation function of this name, or no such version of it."""


class PackageNotFound(NotFound):
    """No such package, no such version of it, or no such candidate."""


class BaseNotFound(NotFound):
    """No base model of this key."""


class BlobNotFound(NotFound):
    """No blob of this digest."""


class DatasetExists(TamisError, ValueError):
    """The name is taken by a dataset with other content."""


class BlobCorrupt(TamisError, ValueError):
    """The bytes of a blob do not have the digest that names it."""


class ShardError(TamisError, ValueError):
    """A shard that cannot be indexed: truncated, corrupt, empty, compressed, or with incomplete samples."""


class ShardChanged(TamisError, ValueError):
    """A shard is missing, or its bytes are no longer those that were indexed."""


class SelectionError(TamisError, ValueError):
    """A selection that breaks the format: repeated or unknown samples, weights that are not finite, no rounds."""


class PackageError(TamisError, ValueError):
    """A package, or a part of one, that breaks the format: figures out of range, weights that are no safetensors."""


class ImportRefused(TamisError, ValueError):
    """A file of scores or samples that does not fit its dataset, or cannot be understood."""


class QueryRefused(TamisError, PermissionError):
    """SQL that would write, or read files outside the store."""


class QueryError(TamisError, ValueError):
    """SQL that DuckDB cannot run."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or its text (Rust libraries keep no errno), says that the medium is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    text = str(error)
    return any(
        mark in text for mark in ("No space left", "os error 28", "os error 27", "os error 122", "quota exceeded")
    )
