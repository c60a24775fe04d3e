"""A root: one folder, or one prefix of an object store, behind five verbs.

Every write is atomic (a name shows its whole content or nothing) and nothing is locked. `put_new` is the
put-if-absent that content-addressed blobs and finished parts of a flow rest on. Tables live beside these files and are
written by `tamis.store.tables`.
"""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from deltalake.exceptions import DeltaError
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from tamis.store.errors import InvalidName, StoreExists, StoreFull, TamisError, is_full

SCHEMES = ("s3", "gs", "az")
_UNSAFE = set("%*?[]\\")
_PARTITIONS = ("dataset=", "run=", "selection=", "attempt=")


class Root:
    """Where a store lies. `path` is the folder, or None on an object store.

    Args:
        where: a folder, or a URL of one of the schemes `SCHEMES`.
        options: storage options (region, endpoint, ...) handed to the object store; ignored for a folder.
    """

    def __init__(self, where: str | os.PathLike[str], options: dict[str, str] | None = None) -> None:
        text = os.fspath(where)
        scheme = urlsplit(text).scheme if "://" in text else ""
        if scheme and scheme not in SCHEMES:
            raise TamisError(
                f"{text!r}: a store is a folder or a URL of {', '.join(s + '://' for s in SCHEMES)}; "
                f"{scheme}:// is not one of them."
            )
        self.path = None if scheme else Path(text).expanduser().absolute()
        if self.path is not None:
            _refuse_odd(self.path)
        self.url = text.rstrip("/") if scheme else str(self.path)
        self.options = dict(options or {})
        self._options_given = options

    @property
    def _files(self) -> LocalStore:
        # Made anew at each use: it is cheap, and a Root then pickles and forks without a thought.
        if self.path is not None:
            return LocalStore(prefix=self.path)
        return from_url(self.url, config=self.options or None)  # type: ignore[return-value, call-overload]  # one interface

    def prepare(self) -> None:
        """Make the folder, where it is one."""
        if self.path is not None:
            try:
                with reporting_full(self.url):
                    self.path.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise StoreExists(
                    f"{self.url} cannot be made: {error.filename} is or lies below a file. Choose another place."
                ) from error

    def put(self, name: str, data: bytes | Path) -> None:
        """Write a file, replacing what was there, all at once."""
        with reporting_full(self.url):
            obstore.put(self._files, name, data, mode="overwrite")

    def put_new(self, name: str, data: bytes | Path) -> bool:
        """Write a file unless the name is taken; whether it was written."""
        try:
            with reporting_full(self.url):
                # One request: put-if-absent is not available for multipart uploads.
                obstore.put(self._files, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def get(self, name: str) -> bytes | None:
        """The bytes of a file, or None."""
        if self.path is not None and not self.path.is_dir():
            return None
        try:
            return bytes(obstore.get(self._files, name).bytes())
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        try:
            obstore.head(self._files, name)
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._files, name)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(name, bytes) of every file below a prefix, by name."""
        try:
            found = [(str(o["path"]), int(o["size"])) for chunk in obstore.list(self._files, prefix) for o in chunk]
        except FileNotFoundError:
            return []
        return sorted(found)

    def table_uri(self, name: str) -> str:
        return f"{self.url}/tables/{name}"

    def __repr__(self) -> str:
        return f"Root({self.url!r})"


def _refuse_odd(path: Path) -> None:
    """What reads tables takes some characters for patterns or escapes, and `run=5` for the partition of a table."""
    odd = sorted(_UNSAFE & set(str(path))) + [part for part in path.parts if part.startswith(_PARTITIONS)]
    if odd:
        raise InvalidName(
            f"{path} cannot hold a store: what reads tables would take {' '.join(odd)} in its name for a pattern, an "
            "escape or a partition. Choose or make a folder without it."
        )


@contextlib.contextmanager
def reporting_full(where: str) -> Generator[None]:
    """Turn every library's way of saying 'no space left' into StoreFull; let all else pass."""
    try:
        yield
    except StoreFull:
        raise
    except (OSError, BaseError, DeltaError, RuntimeError, ValueError) as error:
        if not is_full(error):
            raise
        raise StoreFull(
            f"No space left while writing to {where}. What was published before is whole, what was being written is "
            "not visible: make room and run the same command again."
        ) from error
