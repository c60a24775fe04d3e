"""Where every sample and every member lies in a WebDataset shard, found from the tar headers alone.

Headers are found by hopping from one to the next, or, where they lie close together, by looking at every block at once;
names and checksums are then computed for some thousand members at a time with numpy. Plain ustar headers take this
path; a shard with long names or extended headers is read header by header (`tamis.store.shards.dialects`), which is
slower and knows every dialect.

Cost: about 1 µs a member and the pages that hold the headers; memory about 150 bytes a member while a shard is scanned.
Legend: M members, K samples of the shard.
"""

import mmap
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import ShardChanged, ShardError
from tamis.store.roots.regular import open_regular
from tamis.store.shards.dialects import BLOCK, MOST_MEMBERS, Walk, is_header
from tamis.store.shards.labels import Bytes, Ints
from tamis.store.shards.members import Members, group, no_samples, texts
from tamis.store.shards.members import ShardIndex as ShardIndex
from tamis.store.shards.members import members_named as members_named
from tamis.store.shards.skipped import SOME, Skipped

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_CLOSE = 16 << 10  # bytes from header to header: a few pages
_PROBED = 1 << 18  # bytes that tell how close headers lie
_AT_ONCE = 4096  # headers: 2 MiB, about what a processor's cache holds
_PIECE = 1 << 20  # bytes
_POWERS = 8.0 ** np.arange(10, -1, -1)
_GUESSES = 1000  # places that may look like a second archive


def index_shard(path: Path, label: str | None, shown: str | None = None) -> ShardIndex:
    """Index one shard.

    Args:
        path: an uncompressed tar file.
        label: the member whose content is the class number, or None.
        shown: what messages call the shard, where that is not its path.

    Raises:
        ShardChanged: the file is missing.
        ShardError: what is wrong, the member and the byte.
    """
    shown = shown or str(path)
    mapped = _mapped(path, shown)
    found = _plain_members(shown, mapped)
    if found is None:
        walk = Walk(shown, mapped)
        found = walk.members(), walk.end
    members, end = found
    behind = _behind(shown, mapped, end)
    index = group(shown, np.frombuffer(mapped, np.uint8), members, label)
    return index if behind is None else _also(index, behind)


def hop(mapped: mmap.mmap, end: int | None = None) -> tuple[list[int], int, str | None]:
    """Header offsets, where the walk stopped, and why it stopped early (None: at the end-of-archive marker)."""
    starts: list[int] = []
    at, end = 0, len(mapped) if end is None else min(end, len(mapped))
    while at + BLOCK <= end:
        try:
            size = int(mapped[at + 124 : at + 135], 8)
        except ValueError:
            if not any(mapped[at : at + BLOCK]):
                return starts, at, None
            return starts, at, "dialect"
        if size < 0:
            return starts, at, "dialect"
        starts.append(at)
        at += BLOCK + (size + 511 & -512)
    return starts, at, "truncated"


def _mapped(path: Path, shown: str) -> mmap.mmap:
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise ShardChanged(f"Shard {shown} is missing: restore it, or give existing shards.") from error
    except OSError as error:
        raise ShardError(f"Shard {shown} cannot be read: {error.strerror}. Expected a tar file.") from error
    with file:
        start = file.read(2)
        if start in _COMPRESSED:
            raise ShardError(
                f"Shard {shown} is compressed ({_COMPRESSED[start]}): samples are read by byte range, which needs an "
                "uncompressed tar. Decompress it; images and audio are compressed already."
            )
        if not start or not os.fstat(file.fileno()).st_size:
            raise ShardError(f"Shard {shown} is empty (0 bytes): expected a tar file.")
        # Not closed by hand: errors on their way out may still hold views of it.
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _look(mapped: mmap.mmap, blocks: Bytes) -> Ints | None:
    """Blocks with tar's magic, where headers lie so close together that looking at every block reads no page more.

    None where they lie farther apart, and where what was found is not the whole chain from header to header: a member
    may hold the magic by chance, or a tar. Five times as fast as `hop`.
    """
    if len(hop(mapped, _PROBED)[0]) < _PROBED // _CLOSE:
        return None
    magic = np.uint64(int.from_bytes(b"ustar", "little"))
    found = (blocks.view(np.uint64)[:, 32] >> np.uint64(8)) & np.uint64(2**40 - 1)  # bytes 257 to 261
    rows = np.flatnonzero(found == magic)
    size = _octal(blocks[:, 124:135][rows]) if len(rows) and rows[0] == 0 else None
    if size is None:
        return None
    following = rows + 1 + (size + 511) // BLOCK
    whole = np.array_equal(following[:-1], rows[1:]) and following[-1] < len(blocks)
    return rows if whole and not blocks[following[-1]].any() else None


def _plain_members(shown: str, mapped: mmap.mmap) -> tuple[Members, int] | None:
    """The members of a plain ustar archive and where its marker lies, or None where it has to be read as a dialect."""
    blocks = np.frombuffer(mapped, np.uint8, len(mapped) // BLOCK * BLOCK).reshape(-1, BLOCK)
    rows = _look(mapped, blocks)
    if rows is None:
        starts, _, why = hop(mapped)
        if why is not None or len(starts) > MOST_MEMBERS:
            return None
        rows = np.asarray(starts, np.int64) // BLOCK
    if not len(rows):
        raise ShardError(f"Shard {shown} has no members: expected a tar with samples.")
    parts: list[_Part] = []
    for first in range(0, len(rows), _AT_ONCE):
        part = _part(shown, blocks, rows[first : first + _AT_ONCE])
        if part is None:
            return None
        parts.append(part)
    header = np.concatenate([p.header for p in parts])
    size = np.concatenate([p.size for p in parts])
    members = Members(
        pa.concat_arrays([p.stem for p in parts]), pa.concat_arrays([p.extension for p in parts]), header,
        header + BLOCK, size, no_samples(sum(p.left for p in parts), [n for p in parts for n in p.some]),
    )  # fmt: skip
    return members, int(parts[-1].end)


@dataclass(frozen=True)
class _Part:
    """Some of the members: names, and places of those that belong to samples."""

    stem: pa.Array
    extension: pa.Array
    header: Ints  # bytes
    size: Ints
    left: int  # files that belong to no sample
    some: list[bytes]
    end: int  # byte behind the last member


def _part(shown: str, blocks: Bytes, rows: Ints) -> _Part | None:
    """A few hundred headers, each read from memory once; None where one is not plain ustar, or wrong."""
    some = blocks[rows]
    kind, size, stated = some[:, 156], _octal(some[:, 124:135]), _octal(some[:, 148:154])
    plain = ((kind == 0) | (kind == 48) | (kind == 53)) & (some[:, 345] == 0) & (some[:, 135] & 0xDF == 0)
    if not plain.all() or size is None or stated is None or (size[kind == 53] != 0).any():
        return None  # links, long names, extended headers, names with a prefix
    if (stated != _checksums(some)).any():
        return None
    names = some[:, :100]
    used = np.flatnonzero(np.bitwise_or.reduce(names, axis=0))
    names = np.ascontiguousarray(names[:, : int(used[-1]) + 1 if len(used) else 1])
    base, extension, kept = _split(names)
    files = kind != 53
    left = np.flatnonzero(files & ~kept & (names[:, 0] != 0) & (names[np.arange(len(rows)), extension - 1] != 47))
    kept &= files
    header = rows * BLOCK
    end = int(header[-1]) + BLOCK + (int(size[-1]) + 511 & -512)
    names, base, extension = names[kept], base[kept], extension[kept]
    return _Part(
        _texts(shown, names, np.zeros(len(names), np.int64), base), _texts(shown, names, base + 1, extension),
        header[kept], size[kept], len(left), [some[i, :100].tobytes().partition(b"\0")[0] for i in left[:SOME]], end,
    )  # fmt: skip


def _behind(shown: str, mapped: mmap.mmap, end: int) -> Skipped | None:
    """What lies behind the end-of-archive marker: nothing, or bytes that are not read. A second archive is refused."""
    start = _first_nonzero(mapped, end)
    if start is None:
        return None
    guess = start // BLOCK * BLOCK
    for _ in range(_GUESSES):
        if guess >= end and is_header(mapped[guess : guess + BLOCK].ljust(BLOCK, b"\0")):
            raise ShardError(
                f"Shard {shown} has a second archive after its end-of-archive marker, at byte {guess}, as made by "
                "`cat a.tar b.tar`: programs stop reading at the marker. Add the archives as separate shards, "
                "or join them with `tar --concatenate --file a.tar b.tar`."
            )
        found = mapped.find(b"ustar", max(guess + 258, start))
        if found < 0:
            break
        guess = found - 257
    return Skipped("bytes behind the end-of-archive marker", len(mapped) - start, ())


def _first_nonzero(mapped: mmap.mmap, start: int) -> int | None:
    for at in range(start, len(mapped), _PIECE):
        piece = mapped[at : at + _PIECE]
        if piece.strip(b"\0"):
            return at + len(piece) - len(piece.lstrip(b"\0"))
    return None


def _also(index: ShardIndex, skipped: Skipped) -> ShardIndex:
    return replace(index, skipped=(*index.skipped, skipped))


def _split(names: Bytes) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Where each name's stem ends, where its extension ends, and which names have both.

    The same for a matrix of names as `tamis.store.shards.members.split_name` for one.
    """
    count, width = names.shape
    ends = names == 0
    length = np.where(ends.any(axis=1), ends.argmax(axis=1), width)
    base = np.zeros(count, np.int64)  # where the part after the last slash begins
    row, column = np.divmod(np.flatnonzero(names == ord("/")), width)
    base[row] = column + 1  # of several in a row the last one is written last
    row, column = np.divmod(np.flatnonzero(names == ord(".")), width)
    row, column = row[column >= base[row]], column[column >= base[row]]
    dot = np.full(count, width)
    dot[row[::-1]] = column[::-1]  # here the first one is
    kept = (dot > base) & (length > dot + 1)
    slash = names == ord("/")
    top = np.where(slash.any(axis=1), slash.argmax(axis=1), 0)
    return dot, length, kept & ~_is_own(names, base, dot) & ~_is_own(names, np.zeros(count, np.int64), top)


def _is_own(names: Bytes, start: Ints, end: Ints) -> npt.NDArray[np.bool_]:
    """Whether start..end of every row begins and ends with two underscores."""
    rows, last = np.arange(len(names)), names.shape[1] - 1
    own = end - start >= 4
    for column in (start, start + 1, end - 2, end - 1):
        own &= names[rows, np.clip(column, 0, last)] == ord("_")
    return own


def _texts(shown: str, names: Bytes, start: Ints, end: Ints) -> pa.Array:
    """Bytes start..end of every row as one array of text."""
    column = np.arange(names.shape[1], dtype=np.int32)
    chosen = (column >= start[:, None]) & (column < end[:, None])
    offsets = np.zeros(len(names) + 1, np.int32)
    np.cumsum(end - start, out=offsets[1:])
    return texts(shown, offsets, names[chosen].tobytes())


def _octal(fields: Bytes) -> Ints | None:
    """The octal numbers of all rows, leading blanks allowed; None where a row does not fill its field to the end."""
    digit = np.ascontiguousarray(fields) - np.uint8(ord("0"))  # below '0' wraps around
    if digit.max(initial=0) > 7:
        blank = fields == ord(" ")
        if ((digit > 7) & ~blank).any() or blank[:, -1].any() or (blank[:, 1:] > blank[:, :-1]).any():
            return None
        digit[blank] = 0
    return (digit.astype(np.float64) @ _POWERS[-fields.shape[1] :]).astype(np.int64)  # eleven digits are exact


def _checksums(blocks: Bytes) -> Ints:
    """What POSIX puts into a header: the sum of its bytes, the checksum field itself taken as blanks."""
    words = blocks.view(np.uint64)
    low = np.uint64(0x00FF00FF00FF00FF)
    # Four 16-bit lanes a word: 64 words of two bytes a lane stay below 2^16.
    lanes = ((words & low) + ((words >> np.uint64(8)) & low)).sum(axis=1).view(np.uint16).reshape(-1, 4)
    field = blocks[:, 148:156].sum(axis=1, dtype=np.int64)
    return lanes.sum(axis=1, dtype=np.int64) - field + 8 * ord(" ")
