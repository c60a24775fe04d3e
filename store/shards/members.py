"""From the members of a tar to samples: keys, extensions, labels, computed for all members at once.

As WebDataset has it, consecutive members with one base name are a sample, and names such as `__meta__.json` are its
own. Keys are taken as they stand in the tar, UTF-8 of any kind; nothing is ever extracted under them.

Legend: M members, K samples of the shard.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import ShardError
from tamis.store.shards.images import EITHER
from tamis.store.shards.labels import Bytes, Ints, Labels, parse_label, read_labels
from tamis.store.shards.skipped import SOME, Skipped
from tamis.store.tables.arrow import pc

_NO_SAMPLE = "files that belong to no sample (hidden, without an extension, or WebDataset's own __NAME__)"
_REMEDIES = {
    "member": "which of them is meant",
    "image": "which of them is the input (--image)",
    "label": "which of them holds the label (--label), or that the data has no labels (--label none)",
}


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
    label: Ints | None  # [K] class numbers
    skipped: tuple[Skipped, ...] = field(default=(), compare=False)  # what of the tar is in no sample
    names: pa.Array | None = None  # [K] text: names of classes, which the dataset numbers

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
        if self.names is not None:
            total.update("\0".join(self.names.to_pylist()).encode())
        return total.hexdigest()


@dataclass(frozen=True)
class Members:
    """The members of a tar that belong to samples."""

    stem: pa.Array  # [M] text: the name without its extension
    extension: pa.Array  # [M] text
    header: Ints  # [M] offset of the (first) header
    offset: Ints  # [M] offset of the content
    size: Ints  # [M] bytes of the content
    skipped: tuple[Skipped, ...]


def no_samples(count: int, some: Sequence[bytes]) -> tuple[Skipped, ...]:
    """What is said of files whose names make them no part of a sample."""
    names = tuple(name.decode("utf-8", "backslashreplace") for name in some[:SOME])
    return (Skipped(_NO_SAMPLE, count, names),) if count else ()


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """A member's stem and extension, or None where it belongs to no sample.

    The stem ends at the first dot after the last slash. Stems and top folders such as `__meta__` are WebDataset's own.
    """
    folder, slash, file = name.rpartition(b"/")
    stem, _, extension = file.partition(b".")
    if not stem or not extension or _is_own(stem) or _is_own(folder.partition(b"/")[0]):
        return None
    return folder + slash + stem, extension


def _is_own(name: bytes) -> bool:
    """Whether a name is of the kind that WebDataset keeps for itself."""
    return len(name) >= 4 and name.startswith(b"__") and name.endswith(b"__")


def texts(shown: str, offsets: npt.NDArray[np.int32], content: bytes | bytearray) -> pa.Array:
    """Bytes from offset to offset as one array of text.

    Raises:
        ShardError: they are not UTF-8.
    """
    made = pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(bytes(content)))
    try:
        made.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ShardError(f"Shard {shown} has a member name that is not UTF-8: {error}") from error
    return made


def group(shown: str, data: Bytes, members: Members, label: str | None) -> ShardIndex:
    """Consecutive members with one base name are a sample.

    Args:
        shown: what messages call the shard.
        data: the whole tar.
        members: of the shard, in its order.
        label: where labels are (`tamis.store.shards.labels`), or None.
    """
    count = len(members.stem)
    if not count:
        raise ShardError(f"Shard {shown} holds no samples: members are named KEY.EXTENSION, such as 000001.png.")
    first = np.ones(count, np.bool_)
    first[1:] = np.asarray(pc.not_equal(members.stem.slice(1), members.stem.slice(0, count - 1)))
    starts = np.append(np.flatnonzero(first), count).astype(np.int64)
    ends = (members.offset + members.size + 511) & -512
    keys, names = members.stem.filter(pa.array(first)), pc.utf8_lower(members.extension)
    header = members.header[starts[:-1]]
    found = Labels()
    if label is not None:
        place = members_named(shown, keys, starts, names, parse_label(label).member, "label")
        found = read_labels(shown, data, keys, label, members.offset[place], members.size[place])
    return ShardIndex(
        keys, header, ends[starts[1:] - 1] - header, starts, names, members.offset, members.size, found.numbers,
        members.skipped, found.names,
    )  # fmt: skip


def members_named(shown: str, keys: pa.Array, starts: Ints, name: pa.Array, wanted: str, role: str = "member") -> Ints:
    """[K] which member of each sample has the wanted name ("jpg;png": either); `role` is what it is wanted for.

    Raises:
        ShardError: names the samples that have none, or more than one.
    """
    at = np.flatnonzero(np.asarray(pc.is_in(name, value_set=pa.array(wanted.split(EITHER), pa.string()))))
    sample = np.searchsorted(starts, at, side="right") - 1
    count = np.bincount(sample, minlength=len(keys))
    for wrong, what in ((count == 0, "have no"), (count > 1, "have more than one")):
        if wrong.any():
            _refuse_apart(shown, keys, wrong)
            some = _some(keys, wrong)
            there = ", ".join(sorted(set(name.unique().to_pylist())))
            raise ShardError(
                f"Shard {shown}: {int(wrong.sum())} of {len(keys)} samples {what} member .{wanted} (first: {some}). "
                f"Members there are: {there}. Repair the shard, or say {_REMEDIES[role]}."
            )
    return at.astype(np.int64)


def _some(keys: pa.Array, which: npt.NDArray[np.bool_]) -> str:
    return ", ".join(keys.take(pa.array(np.flatnonzero(which)[:SOME])).to_pylist())


def _refuse_apart(shown: str, keys: pa.Array, incomplete: npt.NDArray[np.bool_]) -> None:
    """Say so where samples are incomplete because their members do not follow one another."""
    coded = keys.dictionary_encode()
    code = np.asarray(coded.indices)
    apart = incomplete & (np.bincount(code, minlength=len(coded.dictionary))[code] > 1)
    if apart.any():
        doubled = len(np.unique(code[apart]))
        raise ShardError(
            f"Shard {shown}: the members of {doubled} samples are not adjacent (first: {_some(keys, apart)}): others "
            "are between them, and WebDataset groups only consecutive members into a sample. Pack "
            "the shard again in the order of names: `mkdir new && tar -xf SHARD -C new && tar -C new --sort=name "
            "--format=ustar -cf SORTED.tar .`"
        )
