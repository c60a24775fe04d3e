"""Names of classes, as a text file holds them: one a line, in the order of the class numbers."""

import codecs
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tamis.store.errors import ShardError
from tamis.store.roots.regular import open_regular
from tamis.store.shards.labels import LARGEST_LABEL

_LARGEST = 1 << 26  # bytes of a file
_LONGEST = 1000  # characters of a name
# The longer marks first: the one of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip


def read_classes(path: str | os.PathLike[str]) -> list[str]:
    """The names in a text file: UTF-8, or UTF-16 and UTF-32 with a byte-order mark.

    Raises:
        ShardError: it is no such file, a line in between is empty, or a name is none.
    """
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        why = f"Class names cannot be read from {path}: {error.strerror}. Expected a text file."
        raise ShardError(why) from error
    if len(data) > _LARGEST:
        raise ShardError(f"{path} has more than {_LARGEST:,} bytes: expected a text file with one class name per line.")
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise ShardError(
            f"{path} is not {encoding.upper()} text ({error.reason} at byte {error.start + len(mark)}): class names "
            "are read as UTF-8, or as UTF-16 with a byte-order mark. Save the file as UTF-8."
        ) from error
    names = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    return list(check_classes(names, str(path)))


def classes_beside(shard: str) -> list[str]:
    """The names in classes.txt beside a local shard; none where there is no such file."""
    file = Path(shard).parent / "classes.txt"
    return read_classes(file) if file.is_file() else []


def check_classes(names: Sequence[str], where: str = "The class names") -> Sequence[str]:
    """Refuse what is not a valid class name.

    Raises:
        ShardError: names the first that is wrong, by its number.
    """
    if len(names) > LARGEST_LABEL + 1:
        raise ShardError(f"{where}: there are {len(names):,} class names, at most {LARGEST_LABEL + 1:,} are taken.")
    for number, name in enumerate(names):
        if not name or len(name) > _LONGEST or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            what = "empty" if not name else f"{name[:60]!r}"
            raise ShardError(
                f"{where}: the name of class {number} is {what}. Expected one name per class, of 1 to "
                f"{_LONGEST} characters without control characters; a missing one would shift all that follow."
            )
    return names
