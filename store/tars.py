"""Where every sample and every member lies in a WebDataset shard, found from the tar headers alone.

Headers are found by hopping from one to the next, or, where they lie close together, by looking at every block at once;
names, checksums, grouping into samples and labels are then computed for all members at once with numpy. Plain ustar
headers take this path; a shard with long names or extended headers is read through `tarfile`, which is slower and knows
every dialect.

Cost: about 1 µs a member and the pages that hold the headers; memory about 200 bytes a member while a shard is scanned.
Legend: M members, K samples of the shard, W bytes of the longest name.
"""

import hashlib
import mmap
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.arrow import pc
from tamis.store.errors import ShardChanged, ShardError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
_LABEL_WIDTH = 20
_CLOSE = 16 << 10  # bytes from header to header: a few pages
_PROBED = 1 << 18  # bytes that tell how close headers lie
_REMEDIES = {
    "member": "which of them is meant",
    "image": "which of them is the input (--image)",
    "label": "which of them holds the class number (--label), or that the data has no labels (--label none)",
}
_AT_ONCE = 512  # headers: 256 KiB, which stay in the processor's cache


@dataclass(frozen=True)
class ShardIndex:
    """One shard's samples, in the order of the file."""

    keys: pa.Array  # [K] text
    offset: Ints  # [K] first byte of the sample's first header
    size: Ints  # [K] bytes from there to the end of its last member, padding included
    member_start: Ints  # [K + 1] member i of sample k: member_start[k] <= i < member_start[k + 1]
    member_name: pa.Array  # [M] text: the extension, in lower case
    member_offset: Ints  # [M] first byte of the content
    member_size: Ints  # [M] bytes of the content
    label: Ints | None  # [K]

    def digest(self) -> str:
        """sha256 of everything the index says: what tells shards apart whose bytes were not hashed."""
        total = hashlib.sha256()
        for texts in (self.keys, self.member_name):
            total.update(np.asarray(pc.binary_length(texts)).tobytes())
            total.update(texts.buffers()[2] or b"")
        for numbers in (
            self.offset,
            self.size,
            self.member_start,
            self.member_offset,
            self.member_size,
            self.label,
        ):
            total.update(b"-" if numbers is None else np.ascontiguousarray(numbers).tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class _Headers:
    """The members of a tar that are files: names as a zero-padded matrix of bytes."""

    names: Bytes  # [M, W]
    header: Ints  # [M] offset of the (first) header
    offset: Ints  # [M] offset of the content
    size: Ints  # [M]


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
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise ShardChanged(f"Shard {shown} is missing: restore it, or name the shards that are there.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ShardError(f"Shard {shown} cannot be read: {error.strerror}. A tar file was expected.") from error
    with file:
        start = file.read(2)
        if start in _COMPRESSED:
            raise ShardError(
                f"Shard {shown} is compressed ({_COMPRESSED[start]}): samples are read by byte range, which needs an "
                "uncompressed tar. Decompress it; images and audio are compressed already."
            )
        if not start:
            raise ShardError(f"Shard {shown} is empty (0 bytes): a tar file was expected.")
        # Not closed by hand: errors on their way out may still hold views of it.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    headers = _fast_headers(shown, mapped) or _slow_headers(shown, mapped)
    return _group(shown, np.frombuffer(mapped, np.uint8), headers, label)


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


def _fast_headers(shown: str, mapped: mmap.mmap) -> _Headers | None:
    """The members of a plain ustar archive, or None where only `tarfile` can tell."""
    blocks = np.frombuffer(mapped, np.uint8, len(mapped) // BLOCK * BLOCK).reshape(-1, BLOCK)
    rows = _look(mapped, blocks)
    if rows is None:
        starts, at, why = hop(mapped)
        if why == "dialect":
            return None
        if why == "truncated":
            raise ShardError(_truncated(shown, mapped, starts, at))
        rows = np.asarray(starts, np.int64) // BLOCK
    if not len(rows):
        raise ShardError(f"Shard {shown} has no members: a tar with samples was expected.")
    read = _read(blocks, rows)
    kind, size, stated = read.kind, _octal(read.size), _octal(read.stated)
    if ((kind != 0) & (kind != 48) & (kind != 53)).any() or read.prefix.any() or size is None or stated is None:
        return None  # links, long names, extended headers, names with a prefix
    bad = np.flatnonzero(stated != read.checksum)
    if len(bad):
        raise ShardError(
            f"Shard {shown} is corrupt at byte {rows[bad[0]] * BLOCK}: the header's checksum does not match "
            f"({len(bad)} of {len(rows)} headers). Restore the shard from its source."
        )
    used = np.flatnonzero(np.bitwise_or.reduce(read.name, axis=0))
    width = int(used[-1]) + 1 if len(used) else 1
    files = kind != 53
    header = rows[files] * BLOCK
    return _Headers(np.ascontiguousarray(read.name[files, :width]), header, header + BLOCK, size[files])


@dataclass(frozen=True)
class _Read:
    """The fields of M headers, and the checksum that each should state."""

    name: Bytes  # [M, 100]
    size: Bytes  # [M, 11]
    stated: Bytes  # [M, 6]
    kind: Bytes  # [M]
    prefix: Bytes  # [M] first byte
    checksum: Ints  # [M]


def _read(blocks: Bytes, rows: Ints) -> _Read:
    """A few hundred headers at a time, so that each is read from memory once."""
    count = len(rows)
    name, size, stated = (np.empty((count, width), np.uint8) for width in (100, 11, 6))
    kind, prefix, checksum = np.empty(count, np.uint8), np.empty(count, np.uint8), np.empty(count, np.int64)
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        some = blocks[rows[part]]
        name[part], size[part], stated[part] = some[:, :100], some[:, 124:135], some[:, 148:154]
        kind[part], prefix[part], checksum[part] = some[:, 156], some[:, 345], _checksums(some)
    return _Read(name, size, stated, kind, prefix, checksum)


def _truncated(shown: str, mapped: mmap.mmap, starts: list[int], at: int) -> str:
    name = mapped[starts[-1] : starts[-1] + 100].rstrip(b"\0").decode("utf-8", "replace") if starts else "(none)"
    return (
        f"Shard {shown} is truncated: it has {len(mapped)} bytes, its last member {name!r} ends at byte {at} and the "
        "end-of-archive marker is missing. Copy it again from its source."
    )


def _slow_headers(shown: str, mapped: mmap.mmap) -> _Headers:
    try:
        mapped.seek(0)
        with tarfile.open(fileobj=mapped, mode="r:") as tar:
            files = [m for m in tar if m.isreg()]
            end = tar.offset
        members = [(m.name.encode(errors="surrogateescape"), m.offset, m.offset_data, m.size) for m in files]
    except (tarfile.TarError, OSError, ValueError, UnicodeError) as error:
        raise ShardError(f"Shard {shown} is corrupt: {error}. Restore it from its source.") from error
    if not members:
        raise ShardError(f"Shard {shown} is corrupt: no tar member can be read from its {len(mapped)} bytes.")
    # tarfile takes a header that it cannot read for the end: the end has a marker.
    if mapped[end : end + BLOCK] != bytes(BLOCK):
        raise ShardError(
            f"Shard {shown} is truncated or corrupt: it has {len(mapped)} bytes and stops being a tar at byte {end}, "
            "where another header or the end-of-archive marker was expected. Copy it again from its source."
        )
    if sparse := [m.name for m in files if m.issparse()]:
        raise ShardError(
            f"Shard {shown}: member {sparse[0]} is a sparse file, whose bytes do not lie in one piece. "
            "Pack it again without --sparse."
        )
    names = np.zeros((len(members), max(len(m[0]) for m in members)), np.uint8)
    for row, member in zip(names, members, strict=True):
        row[: len(member[0])] = np.frombuffer(member[0], np.uint8)
    header, offset, size = (np.asarray([m[i] for m in members], np.int64) for i in (1, 2, 3))
    return _Headers(names, header, offset, size)


def _group(shown: str, data: Bytes, headers: _Headers, label: str | None) -> ShardIndex:
    """Consecutive members with one base name are a sample, as WebDataset has it."""
    names = headers.names
    base, extension, kept = _split(names)
    if not kept.any():
        raise ShardError(f"Shard {shown} holds no samples: members are named KEY.EXTENSION, such as 000001.png.")
    header, offset, size = headers.header[kept], headers.offset[kept], headers.size[kept]
    names, base, extension = names[kept], base[kept], extension[kept]
    stems = names * (np.arange(names.shape[1]) < base[:, None])
    first = np.ones(len(names), np.bool_)
    first[1:] = (stems[1:] != stems[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(first), len(names)).astype(np.int64)
    ends = (offset + size + 511) & -512
    keys = _texts(shown, stems[first], np.zeros(int(first.sum()), np.int64), base[first])
    member_name = pc.utf8_lower(_texts(shown, names, base + 1, extension))
    member_offset, member_size = offset, size
    values = None
    if label is not None:
        values = _labels(shown, data, keys, starts, member_name, member_offset, member_size, label)
    return ShardIndex(
        keys, header[starts[:-1]], ends[starts[1:] - 1] - header[starts[:-1]], starts, member_name, member_offset,
        member_size, values,
    )  # fmt: skip


def _split(names: Bytes) -> tuple[Ints, Ints, Bools]:
    """Where each name's stem ends, where its extension ends, and which names have both.

    The stem ends at the first dot after the last slash. Names like `__meta__.json` are WebDataset's own and skipped.
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
    own = names[np.arange(count), np.minimum(base, width - 1)] == ord("_")
    own &= names[np.arange(count), np.minimum(base + 1, width - 1)] == ord("_")
    return dot, length, kept & ~own


def _texts(shown: str, names: Bytes, start: Ints, end: Ints) -> pa.Array:
    """Bytes start..end of every row as one array of text."""
    column = np.arange(names.shape[1], dtype=np.int32)
    chosen = (column >= start[:, None]) & (column < end[:, None])
    offsets = np.zeros(len(names) + 1, np.int32)
    np.cumsum(end - start, out=offsets[1:])
    texts = pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(names[chosen].tobytes()))
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ShardError(f"Shard {shown} has a member name that is not UTF-8: {error}") from error
    return texts


def _labels(
    shown: str,
    data: Bytes,
    keys: pa.Array,
    starts: Ints,
    name: pa.Array,
    offset: Ints,
    size: Ints,
    label: str,
) -> Ints:
    """The class number of every sample, parsed for all at once."""
    place = members_named(shown, keys, starts, name, label, "label")
    length = size[place]
    width = int(min(max(length.max(), 1), _LABEL_WIDTH))
    digits = _gather(data, offset[place], width)  # the end-of-archive marker lies behind the last one
    inside = np.arange(width) < length[:, None]
    digits = np.where(inside, digits, ord(" "))
    number = (digits >= ord("0")) & (digits <= ord("9"))
    blank = (digits == ord(" ")) | (digits == ord("\n")) | (digits == ord("\r")) | (digits == ord("\t"))
    ends_once = (np.diff(number.astype(np.int8), axis=1) == 1).sum(axis=1) + number[:, 0] == 1
    good = (number | blank).all(axis=1) & ends_once & (length <= _LABEL_WIDTH) & (number.sum(axis=1) <= 18)
    if not good.all():
        worst = int(np.flatnonzero(~good)[0])
        content = data[offset[place[worst]] : offset[place[worst]] + min(int(length[worst]), 40)].tobytes()
        raise ShardError(
            f"Shard {shown}: member {keys[worst]}.{label} holds {content!r}; a class number (0, 1, 2, ...) was "
            f"expected. {int((~good).sum())} of {len(good)} labels are like that. Name the label's member, or none if "
            "there are no labels."
        )
    values = np.zeros(len(place), np.int64)
    for column in np.flatnonzero(number.any(axis=0)):
        values = np.where(number[:, column], values * 10 + (digits[:, column].astype(np.int64) - ord("0")), values)
    return values


def members_named(shown: str, keys: pa.Array, starts: Ints, name: pa.Array, wanted: str, role: str = "member") -> Ints:
    """[K] which member of each sample has the wanted name; `role` is what it is wanted for.

    Raises:
        ShardError: names the samples that have none, or more than one.
    """
    at = np.flatnonzero(np.asarray(pc.equal(name, wanted)))
    sample = np.searchsorted(starts, at, side="right") - 1
    count = np.bincount(sample, minlength=len(keys))
    for wrong, what in ((count == 0, "have no"), (count > 1, "have more than one")):
        if wrong.any():
            some = ", ".join(keys.take(pa.array(np.flatnonzero(wrong)[:3])).to_pylist())
            there = ", ".join(sorted(set(name.unique().to_pylist())))
            raise ShardError(
                f"Shard {shown}: {int(wrong.sum())} of {len(keys)} samples {what} member .{wanted} (first: {some}). "
                f"Members there are: {there}. Repair the shard, or say {_REMEDIES[role]}."
            )
    return at.astype(np.int64)


def _gather(data: Bytes, start: Ints, width: int) -> Bytes:
    """[len(start), width] bytes of data from each start."""
    if len(data) < width:
        return np.zeros((len(start), width), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, width)[start]


def _octal(fields: Bytes) -> Ints | None:
    """The octal numbers of all rows, leading blanks allowed; None where a row does not fill its field to the end."""
    digit = fields - np.uint8(ord("0"))  # below '0' wraps around
    if (digit[:, -1] > 7).any() or ((digit > 7) & (fields != ord(" "))).any():
        return None
    value = np.zeros(len(fields), np.int64)
    for column in range(fields.shape[1]):  # blanks carry 0 in the low three bits, as '0' does
        value = value << 3 | fields[:, column] & 7
    return value


def _checksums(blocks: Bytes) -> Ints:
    """What POSIX puts into a header: the sum of its bytes, the checksum field itself taken as blanks."""
    words = blocks.view(np.uint64)
    low = np.uint64(0x00FF00FF00FF00FF)
    # Four 16-bit lanes a word: 64 words of two bytes a lane stay below 2^16.
    lanes = ((words & low) + ((words >> np.uint64(8)) & low)).sum(axis=1).view(np.uint16).reshape(-1, 4)
    field = blocks[:, 148:156].sum(axis=1, dtype=np.int64)
    return lanes.sum(axis=1, dtype=np.int64) - field + 8 * ord(" ")
