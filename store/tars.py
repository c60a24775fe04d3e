"""Where every sample and every member lies in a WebDataset shard, found from the tar headers alone.

A Python loop hops from header to header (that is the bare scan: one size field each); names, checksums, grouping into
samples and labels are then computed for all members at once with numpy. Plain ustar headers take this path; a shard
with long names or extended headers is read through `tarfile`, which is slower and knows every dialect.

Cost: about 2 µs a member and the pages that hold the headers; memory about 600 bytes a member while a shard is scanned.
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


def index_shard(path: Path, label: str | None) -> ShardIndex:
    """Index one shard.

    Args:
        path: an uncompressed tar file.
        label: the member whose content is the class number, or None.

    Raises:
        ShardChanged: the file is missing.
        ShardError: what is wrong, the member and the byte.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise ShardChanged(f"Shard {path} is missing: restore it, or name the shards that are there.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise ShardError(f"Shard {path} cannot be read: {error.strerror}. A tar file was expected.") from error
    with file:
        start = file.read(2)
        if start in _COMPRESSED:
            raise ShardError(
                f"Shard {path} is compressed ({_COMPRESSED[start]}): samples are read by byte range, which needs an "
                "uncompressed tar. Decompress it; images and audio are compressed already."
            )
        if not start:
            raise ShardError(f"Shard {path} is empty (0 bytes): a tar file was expected.")
        # Not closed by hand: errors on their way out may still hold views of it.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    headers = _fast_headers(path, mapped) or _slow_headers(path)
    return _group(path, np.frombuffer(mapped, np.uint8), headers, label)


def hop(mapped: mmap.mmap) -> tuple[list[int], int, str | None]:
    """Header offsets, where the walk stopped, and why it stopped early (None: at the end-of-archive marker)."""
    starts: list[int] = []
    at, end = 0, len(mapped)
    while at + BLOCK <= end:
        field = mapped[at + 124 : at + 135]
        try:
            size = int(field, 8)
        except ValueError:
            if not any(mapped[at : at + BLOCK]):
                return starts, at, None
            return starts, at, "dialect"
        starts.append(at)
        at += BLOCK + (size + 511 & -512)
    return starts, at, "truncated"


def _fast_headers(path: Path, mapped: mmap.mmap) -> _Headers | None:
    """The members of a plain ustar archive, or None where only `tarfile` can tell."""
    starts, at, why = hop(mapped)
    if why == "dialect":
        return None
    if why == "truncated":
        raise ShardError(_truncated(path, mapped, starts, at))
    header = np.asarray(starts, np.int64)
    if not len(header):
        raise ShardError(f"Shard {path} has no members: a tar with samples was expected.")
    blocks = _gather(np.frombuffer(mapped, np.uint8), header, BLOCK)
    kind = blocks[:, 156]
    if ((kind != 0) & (kind != 48) & (kind != 53)).any() or blocks[:, 345].any():
        return None  # links, long names, extended headers, names with a prefix
    stated, sizes = _octal(blocks[:, 148:154]), _octal(blocks[:, 124:135])
    if stated is None or sizes is None:
        return None
    bad = np.flatnonzero(stated != _checksums(blocks))
    if len(bad):
        raise ShardError(
            f"Shard {path} is corrupt at byte {header[bad[0]]}: the header's checksum does not match "
            f"({len(bad)} of {len(header)} headers). Restore the shard from its source."
        )
    used = np.flatnonzero(np.bitwise_or.reduce(blocks[:, :100], axis=0))
    width = int(used[-1]) + 1 if len(used) else 1
    files = kind != 53
    return _Headers(blocks[files, :width], header[files], header[files] + BLOCK, sizes[files])


def _truncated(path: Path, mapped: mmap.mmap, starts: list[int], at: int) -> str:
    name = mapped[starts[-1] : starts[-1] + 100].rstrip(b"\0").decode("utf-8", "replace") if starts else "(none)"
    return (
        f"Shard {path} is truncated: it has {len(mapped)} bytes, its last member {name!r} ends at byte {at} and the "
        "end-of-archive marker is missing. Copy it again from its source."
    )


def _slow_headers(path: Path) -> _Headers:
    try:
        with tarfile.open(path, "r:") as tar:
            members = [(m.name.encode(), m.offset, m.offset_data, m.size) for m in tar if m.isreg()]
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError, UnicodeError) as error:
        raise ShardError(f"Shard {path} is corrupt: {error}. Restore it from its source.") from error
    length = path.stat().st_size
    if not members:
        raise ShardError(f"Shard {path} is corrupt: no tar member can be read from its {length} bytes.")
    if end >= length or members[-1][2] + members[-1][3] > length:
        raise ShardError(
            f"Shard {path} is truncated or corrupt: it has {length} bytes and stops being a tar at byte {end}. "
            "Copy it again from its source."
        )
    names = np.zeros((len(members), max(len(m[0]) for m in members)), np.uint8)
    for row, member in zip(names, members, strict=True):
        row[: len(member[0])] = np.frombuffer(member[0], np.uint8)
    header, offset, size = (np.asarray([m[i] for m in members], np.int64) for i in (1, 2, 3))
    return _Headers(names, header, offset, size)


def _group(path: Path, data: Bytes, headers: _Headers, label: str | None) -> ShardIndex:
    """Consecutive members with one base name are a sample, as WebDataset has it."""
    names = headers.names
    base, extension, kept = _split(names)
    if not kept.any():
        raise ShardError(f"Shard {path} holds no samples: members are named KEY.EXTENSION, such as 000001.png.")
    header, offset, size = headers.header[kept], headers.offset[kept], headers.size[kept]
    names, base, extension = names[kept], base[kept], extension[kept]
    stems = np.where(np.arange(names.shape[1]) < base[:, None], names, 0).astype(np.uint8)
    first = np.ones(len(names), np.bool_)
    first[1:] = (stems[1:] != stems[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(first), len(names)).astype(np.int64)
    ends = (offset + size + 511) & -512
    keys = _texts(path, stems[first], np.zeros(int(first.sum()), np.int64), base[first])
    member_name = pc.utf8_lower(_texts(path, names, base + 1, extension))
    member_offset, member_size = offset, size
    values = None
    if label is not None:
        values = _labels(path, data, keys, starts, member_name, member_offset, member_size, label)
    return ShardIndex(
        keys, header[starts[:-1]], ends[starts[1:] - 1] - header[starts[:-1]], starts, member_name, member_offset,
        member_size, values,
    )  # fmt: skip


def _split(names: Bytes) -> tuple[Ints, Ints, Bools]:
    """Where each name's stem ends, where its extension ends, and which names have both.

    The stem ends at the first dot after the last slash. Names like `__meta__.json` are WebDataset's own and skipped.
    """
    column = np.arange(names.shape[1])
    length = np.where((names == 0).any(axis=1), (names == 0).argmax(axis=1), names.shape[1])
    slash = np.where(names == ord("/"), column, -1).max(axis=1)
    dots = (names == ord(".")) & (column > slash[:, None])
    dot = dots.argmax(axis=1)
    kept = dots.any(axis=1) & (dot > slash + 1) & (length > dot + 1)
    if names.shape[1] > 1:
        start = np.minimum(slash + 1, names.shape[1] - 2)
        rows = np.arange(len(names))
        kept &= (names[rows, start] != ord("_")) | (names[rows, start + 1] != ord("_"))
    return dot.astype(np.int64), length.astype(np.int64), kept


def _texts(path: Path, names: Bytes, start: Ints, end: Ints) -> pa.Array:
    """Bytes start..end of every row as one array of text."""
    column = np.arange(names.shape[1])
    chosen = (column >= start[:, None]) & (column < end[:, None])
    offsets = np.zeros(len(names) + 1, np.int32)
    np.cumsum(end - start, out=offsets[1:])
    texts = pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(names[chosen].tobytes()))
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ShardError(f"Shard {path} has a member name that is not UTF-8: {error}") from error
    return texts


def _labels(
    path: Path,
    data: Bytes,
    keys: pa.Array,
    starts: Ints,
    name: pa.Array,
    offset: Ints,
    size: Ints,
    label: str,
) -> Ints:
    """The class number of every sample, parsed for all at once."""
    place = members_named(path, keys, starts, name, label)
    length = size[place]
    digits = _gather(data, np.minimum(offset[place], max(len(data) - _LABEL_WIDTH, 0)), _LABEL_WIDTH)
    shift = offset[place] - np.minimum(offset[place], max(len(data) - _LABEL_WIDTH, 0))
    if shift.any():  # the last bytes of a file: cannot happen before the end-of-archive marker
        raise ShardError(f"Shard {path} ends inside a label.")
    inside = np.arange(_LABEL_WIDTH) < length[:, None]
    digits = np.where(inside, digits, ord(" "))
    number = (digits >= ord("0")) & (digits <= ord("9"))
    blank = (digits == ord(" ")) | (digits == ord("\n")) | (digits == ord("\r")) | (digits == ord("\t"))
    ends_once = (np.diff(number.astype(np.int8), axis=1) == 1).sum(axis=1) + number[:, 0] == 1
    good = (number | blank).all(axis=1) & ends_once & (length <= _LABEL_WIDTH) & (number.sum(axis=1) <= 18)
    if not good.all():
        worst = int(np.flatnonzero(~good)[0])
        content = data[offset[place[worst]] : offset[place[worst]] + min(int(length[worst]), 40)].tobytes()
        raise ShardError(
            f"Shard {path}: member {keys[worst]}.{label} holds {content!r}; a class number (0, 1, 2, ...) was "
            f"expected. {int((~good).sum())} of {len(good)} labels are like that. Name the label's member, or none if "
            "there are no labels."
        )
    values = np.zeros(len(place), np.int64)
    for column in np.flatnonzero(number.any(axis=0)):
        values = np.where(number[:, column], values * 10 + (digits[:, column].astype(np.int64) - ord("0")), values)
    return values


def members_named(path: Path, keys: pa.Array, starts: Ints, name: pa.Array, wanted: str) -> Ints:
    """[K] which member of each sample has the wanted name.

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
                f"Shard {path}: {int(wrong.sum())} of {len(keys)} samples {what} member .{wanted} (first: {some}). "
                f"Members there are: {there}. Repair the shard, or name the member that holds it."
            )
    return at.astype(np.int64)


def _gather(data: Bytes, start: Ints, width: int) -> Bytes:
    """[len(start), width] bytes of data from each start."""
    if len(data) < width:
        return np.zeros((len(start), width), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, width)[start]


def _octal(fields: Bytes) -> Ints | None:
    """The octal numbers of all rows, leading blanks allowed; None where a row does not fill its field to the end."""
    last = fields[:, -1]
    if ((last < ord("0")) | (last > ord("7"))).any():
        return None
    # Digits carry their value in the low three bits, blanks and zeros carry 0. Exact: 11 digits are 33 bits.
    return ((fields & 7) @ 8.0 ** np.arange(fields.shape[1] - 1, -1, -1)).astype(np.int64)


def _checksums(blocks: Bytes) -> Ints:
    """What POSIX puts into a header: the sum of its bytes, the checksum field itself taken as blanks."""
    words = blocks.view(np.uint64)
    low = np.uint64(0x00FF00FF00FF00FF)
    # Four 16-bit lanes a word: 64 words of two bytes a lane stay below 2^16.
    lanes = ((words & low) + ((words >> np.uint64(8)) & low)).sum(axis=1).view(np.uint16).reshape(-1, 4)
    field = blocks[:, 148:156].sum(axis=1, dtype=np.uint32).astype(np.int64)
    return lanes.sum(axis=1, dtype=np.uint32).astype(np.int64) - field + 8 * ord(" ")
