"""Tars that are not plain ustar, header by header: long names (GNU, pax), prefixes, base-256 numbers, old v7.

Every number is checked before it is used and every header moves forward, so that no file, however made, takes longer
than its bytes; names have a limit, so that one of them cannot take the memory of all.

Cost: about 6 µs a member; memory about 100 bytes and the name of each.
"""

import array
import mmap
from dataclasses import dataclass, field

import numpy as np

from tamis.store.errors import ShardError
from tamis.store.shards.members import Members, no_samples, split_name, texts
from tamis.store.shards.skipped import SOME, Skipped

BLOCK = 512
LONGEST_NAME = 4096  # bytes: what paths may have on Linux
MOST_MEMBERS = 1 << 22  # of one shard; their headers alone are 2 GiB
_MOST_TEXT = 1 << 28  # bytes of all names of a shard
_LARGEST_HEADER = 1 << 20  # bytes of an extended header
_REGULAR = b"0\x007"  # plain, plain in old tars, contiguous
_BARE = b"123456"  # links, devices, folders, pipes: no content follows, whatever the size says
_DEVICES = b"346"
_ZEROS = bytes(BLOCK)


@dataclass
class _Found:
    """Members as they come, in little memory."""

    stems: bytearray = field(default_factory=bytearray)
    extensions: bytearray = field(default_factory=bytearray)
    stem_ends: "array.array[int]" = field(default_factory=lambda: array.array("i", [0]))
    extension_ends: "array.array[int]" = field(default_factory=lambda: array.array("i", [0]))
    places: "array.array[int]" = field(default_factory=lambda: array.array("q"))  # header, offset, size of each
    left: dict[str, tuple[int, list[str]]] = field(default_factory=dict[str, tuple[int, list[str]]])
    bare: int = 0
    bare_names: list[bytes] = field(default_factory=list[bytes])

    def add(self, stem: bytes, extension: bytes, header: int, offset: int, size: int) -> None:
        self.stems += stem
        self.extensions += extension
        self.stem_ends.append(len(self.stems))
        self.extension_ends.append(len(self.extensions))
        self.places.extend((header, offset, size))

    def leave(self, why: str, name: bytes) -> None:
        count, some = self.left.get(why, (0, []))
        self.left[why] = (count + 1, [*some, name.decode("utf-8", "backslashreplace")][:SOME])

    def leave_bare(self, name: bytes) -> None:
        self.bare += 1
        if len(self.bare_names) < SOME:
            self.bare_names.append(name)

    def members(self, shown: str) -> Members:
        places = np.array(self.places, np.int64).reshape(-1, 3)
        header, offset, size = (np.ascontiguousarray(places[:, i]) for i in range(3))
        return Members(
            texts(shown, np.array(self.stem_ends, np.int32), self.stems),
            texts(shown, np.array(self.extension_ends, np.int32), self.extensions),
            header, offset, size,
            no_samples(self.bare, self.bare_names)
            + tuple(Skipped(why, count, tuple(some)) for why, (count, some) in self.left.items()),
        )  # fmt: skip


class Walk:
    """One pass over the headers of a tar. `end` is where the end-of-archive marker lies."""

    def __init__(self, shown: str, mapped: mmap.mmap) -> None:
        self._shown, self._mapped, self._length = shown, mapped, len(mapped)
        self._found = _Found()
        self._forall: dict[bytes, bytes] = {}  # what global extended headers say
        self._next: dict[bytes, bytes] = {}  # what extended headers say of the member that follows them
        self._header: int | None = None  # where the first of those lies
        self._name = b""  # of the last member
        self.end = 0

    def members(self) -> Members:
        """All members that belong to samples.

        Raises:
            ShardError: the tar is damaged, cut off, or of a kind that cannot be read by byte range.
        """
        at, count = 0, 0
        while at + BLOCK <= self._length:
            block = self._mapped[at : at + BLOCK]
            if block == _ZEROS:
                if self._header is not None:
                    raise self._corrupt(self._header, "an extended header is followed by no member")
                self.end = at
                return self._found.members(self._shown)
            count += 1
            if count > MOST_MEMBERS:
                raise ShardError(
                    f"Shard {self._shown} has more than {MOST_MEMBERS:,} members: split it into several shards."
                )
            at = self._one(at, block)
        raise self._truncated(at)

    def _one(self, at: int, block: bytes) -> int:
        """Take in a header, and say where the next one lies."""
        if not is_header(block):
            raise self._corrupt(at, "the header's checksum does not match: the file stops being a tar there")
        kind, size = block[156:157], number(block[124:136])
        if size is None or size < 0:
            raise self._corrupt(at, f"the size of a member is {block[124:136]!r}, which is not a size")
        if kind in b"xXgLK":
            self._extend(at, kind, self._content(at, size))
        else:
            size = self._member(at, block, kind, size)
        following = at + BLOCK + (size + 511 & -512)
        if following > self._length:
            raise self._truncated(following)
        return following

    def _content(self, at: int, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise ShardError(
                f"Shard {self._shown} has an extended header of {size:,} bytes at byte {at}: at most "
                f"{_LARGEST_HEADER:,} are read, and a name has at most {LONGEST_NAME:,}. Pack it with shorter names."
            )
        return self._mapped[at + BLOCK : at + BLOCK + size]

    def _extend(self, at: int, kind: bytes, content: bytes) -> None:
        """What an extended header says. Of several that say the same, the first counts, as for tarfile."""
        if kind in b"LK":
            said = {b"path" if kind == b"L" else b"linkpath": content.partition(b"\0")[0]}
        else:
            said = self._records(at, content)
        if kind == b"g":
            self._forall |= said
            return
        self._next = said | self._next
        self._header = at if self._header is None else self._header

    def _records(self, at: int, content: bytes) -> dict[bytes, bytes]:
        """The records of a pax header, "LENGTH KEY=VALUE\\n" each."""
        found: dict[bytes, bytes] = {}
        start = 0
        while start < len(content) and content[start]:
            space = content.find(b" ", start, start + 9)
            digits = content[start:space] if space > start else b""
            end = start + int(digits) if digits.isdigit() else -1
            key, equals, value = content[space + 1 : end - 1].partition(b"=")
            if not start < end <= len(content) or content[end - 1 : end] != b"\n" or not equals:
                raise self._corrupt(at, "an extended header has a record that cannot be read")
            found[key] = value
            start = end
        return found

    def _member(self, at: int, block: bytes, kind: bytes, size: int) -> int:
        """Take in a member, and say how many bytes of content follow its header."""
        said = self._forall | self._next
        header = at if self._header is None else self._header
        self._next, self._header = {}, None
        name = said.get(b"path", _name_in(block))
        if len(name) > LONGEST_NAME or b"\0" in name:
            raise ShardError(
                f"Shard {self._shown}: the member at byte {at} has a name of {len(name):,} bytes: at most "
                f"{LONGEST_NAME:,} are taken, none of them 0. Pack it with shorter names."
            )
        self._name = name
        size = self._stated(at, said, size)
        if kind == b"S" or any(key.startswith(b"GNU.sparse.") for key in said):
            sparse = said.get(b"GNU.sparse.name", name).decode("utf-8", "backslashreplace")
            raise ShardError(
                f"Shard {self._shown}: member {sparse} is a sparse file, whose bytes are not contiguous. "
                "Pack it again without --sparse."
            )
        self._sort(at, header, kind, name, said.get(b"linkpath", block[157:257].partition(b"\0")[0]), size)
        return 0 if kind in _BARE else size

    def _stated(self, at: int, said: dict[bytes, bytes], size: int) -> int:
        digits = said.get(b"size", b"%d" % size)
        if not digits.isdigit() or len(digits) > 18:
            raise self._corrupt(at, f"an extended header says that the size is {digits[:40]!r}, which is not a size")
        return int(digits)

    def _sort(self, at: int, header: int, kind: bytes, name: bytes, link: bytes, size: int) -> None:
        parts = split_name(name)
        if kind in _REGULAR:
            if parts is not None:
                self._found.add(*parts, header, at + BLOCK, size)
                self._bound_names(at)
            elif name and not name.endswith(b"/"):
                self._found.leave_bare(name)
        elif kind in b"12" and parts is not None:
            raise ShardError(_linked(self._shown, "hard" if kind == b"1" else "symbolic", name, link))
        elif kind in b"12":
            self._found.leave("links whose names belong to no sample", name)
        elif kind in _DEVICES:
            self._found.leave("devices and named pipes", name)
        elif kind != b"5":
            self._found.leave(f"members of type {kind.decode('latin-1')!r}, which are no plain files", name)

    def _bound_names(self, at: int) -> None:
        if max(len(self._found.stems), len(self._found.extensions)) > _MOST_TEXT:
            raise ShardError(
                f"Shard {self._shown}: the names of its members up to byte {at} have more than {_MOST_TEXT:,} bytes. "
                "Split it into several shards, or pack it with shorter names."
            )

    def _truncated(self, end: int) -> ShardError:
        return ShardError(
            f"Shard {self._shown} is truncated: it has {self._length} bytes, its last member "
            f"{self._name.decode('utf-8', 'replace')!r} ends at byte {end} and the end-of-archive marker is missing. "
            "Copy it again from its source."
        )

    def _corrupt(self, at: int, why: str) -> ShardError:
        return ShardError(f"Shard {self._shown} is corrupt at byte {at}: {why}. Restore it, or copy it again.")


def is_header(block: bytes) -> bool:
    """Whether a block states its own checksum, summed over unsigned bytes or, as old tars have it, over signed ones."""
    stated = number(block[148:156])
    if stated is None:
        return False
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if stated == total:
        return True
    return stated == total - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def number(digits: bytes) -> int | None:
    """A number of a header: octal, or base 256 where the first bit is set. None where it is neither."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    if digits[0] == 0xFF:
        return int.from_bytes(digits, "big", signed=True)
    text = digits.partition(b"\0")[0].strip(b" ")
    return None if text.strip(b"01234567") else int(text or b"0", 8)


def _name_in(block: bytes) -> bytes:
    """The name that stands in the header itself."""
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    # GNU's own dialect ("ustar " and a blank) and v7 have other things where ustar has the prefix.
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def _linked(shown: str, kind: str, name: bytes, link: bytes) -> str:
    here, there = (some.decode("utf-8", "backslashreplace") for some in (name, link[:LONGEST_NAME]))
    return (
        f"Shard {shown}: member {here!r} is a {kind} link to {there!r}: a link has no bytes of its own, and WebDataset "
        "passes it over. Pack the shard again with what links point to (tar --dereference --hard-dereference)."
    )
