"""The index against tarfile: every member's bytes, for real shards and for tars of every dialect."""

import re
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from storekit import write_tar

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import ShardError
from tamis.store.shards.tars import index_shard

# What WebDataset keeps for itself; and, as none of them is a sample of any use, what only looks like it: `__m__.json`.
OWN = re.compile(r"__[^/]*__/|(.*/)?__[^/.]*__\.", re.DOTALL)
Sample = tuple[str, list[tuple[str, bytes]]]


def oracle(path: Path) -> list[Sample]:
    """What WebDataset makes of a tar: (key, [(extension, content)]) in order."""
    found: list[Sample] = []
    with tarfile.open(path) as tar:
        for member in tar:
            folder, _, file = member.name.rpartition("/")
            stem, dot, extension = file.partition(".")
            if not member.isreg() or not stem or not dot or not extension or OWN.match(member.name):
                continue
            key = f"{folder}/{stem}" if "/" in member.name else stem
            content = tar.extractfile(member).read()
            if not found or found[-1][0] != key:
                found.append((key, []))
            found[-1][1].append((extension.lower(), content))
    return found


def indexed(path: Path) -> list[Sample]:
    """The same through the index: the members' byte ranges of the file."""
    index, data = index_shard(path, None), path.read_bytes()
    keys, names, starts = index.keys.to_pylist(), index.member_name.to_pylist(), index.member_start
    found: list[Sample] = []
    for k, key in enumerate(keys):
        members = range(starts[k], starts[k + 1])
        content = [data[index.member_offset[m] : index.member_offset[m] + index.member_size[m]] for m in members]
        found.append((key, [(names[m], c) for m, c in zip(members, content, strict=True)]))
    return found


def test_digits_byte_for_byte(digits: dict[str, list[Path]]) -> None:
    for path in [*digits["train"], *digits["test"]]:
        assert indexed(path) == oracle(path)


def test_locations_and_labels_of_a_dataset(dataset: Dataset) -> None:
    place = dataset.locations()
    expected = [sample for shard in dataset.shards for sample in oracle(Path(shard.uri))]
    data = [Path(shard.uri).read_bytes() for shard in dataset.shards]
    for number, (key, members) in enumerate(expected):
        content = dict(members)
        start, size = place.offset[number], place.size[number]
        assert data[place.shard[number]][start : start + size] == content["png"], key
    assert dataset.labels().tolist() == [int(dict(members)["cls"]) for _, members in expected]
    assert dataset.keys() == [key for key, _ in expected]
    assert place.shard.dtype == np.int32


def test_extents_are_whole_tars(dataset: Dataset, tmp_path: Path) -> None:
    """A sample's extent, with an end-of-archive marker behind it, is a tar that holds the sample."""
    extent, keys = dataset.extents(), dataset.keys()
    for number in (0, 299, 300, 1497):
        shard = Path(dataset.shards[extent.shard[number]].uri).read_bytes()
        start, size = extent.offset[number], extent.size[number]
        path = tmp_path / "one.tar"
        path.write_bytes(shard[start : start + size] + bytes(1024))
        assert [key for key, _ in oracle(path)] == [keys[number]]


plain = st.text("abcXYZ019_-", min_size=1, max_size=12)
exotic = st.text(st.characters(exclude_characters="/.\0\\", exclude_categories=("Cs", "Cc")), min_size=1, max_size=9)
folders = st.sampled_from(["", "", "a/", "a.b/c/", "./", "deep/" * 30, "__own__/", "__x/", "a/__b__/"])
extensions = st.sampled_from(["png", "cls", "JPG", "tar.gz", "seg.png", "json"])
contents = st.one_of(st.binary(max_size=40), st.integers(0, 2000).map(bytes), st.just(b"ustar\x0000" * 100))


@st.composite
def tars(draw: st.DrawFn, stems: st.SearchStrategy[str]) -> list[tuple[str, bytes]]:
    members: list[tuple[str, bytes]] = []
    for number in range(draw(st.integers(1, 6))):
        key = f"{draw(folders)}{draw(stems)}{number}"
        chosen = draw(st.lists(extensions, min_size=1, max_size=3, unique=True))
        members += [(f"{key}.{extension}", draw(contents)) for extension in chosen]
    if draw(st.booleans()):
        other = draw(st.sampled_from(["README", "__m__.json", "a/__m__.json", "__m__/0.json", ".x"]))
        members.insert(draw(st.integers(0, len(members))), (other, b"?"))
    return members


def check(members: list[tuple[str, bytes]], kind: int) -> None:
    with TemporaryDirectory() as folder:
        path = write_tar(Path(folder) / "a.tar", members, kind)
        expected = oracle(path)
        if expected:
            assert indexed(path) == expected
        else:
            with pytest.raises(ShardError, match="no samples"):
                indexed(path)


@settings(max_examples=60)
@given(tars(plain))
@example([("a.png", b"ustar\0" * 400), ("a.cls", b"1")])
@example([("__0.png", b"?"), ("x/__.png", b"?"), ("__a/b.png", b"?"), ("__a__/b.png", b"?")])
def test_ustar(members: list[tuple[str, bytes]]) -> None:
    check(members, tarfile.USTAR_FORMAT)


@settings(max_examples=60)
@given(tars(plain | exotic | plain.map(lambda s: s * 30)))
def test_gnu_with_long_names(members: list[tuple[str, bytes]]) -> None:
    check(members, tarfile.GNU_FORMAT)


@settings(max_examples=60)
@given(tars(plain | exotic | exotic.map(lambda s: s * 40)))
def test_pax_with_unicode(members: list[tuple[str, bytes]]) -> None:
    check(members, tarfile.PAX_FORMAT)


def many(count: int, size: int) -> list[tuple[str, bytes]]:
    return [(f"{i:06d}.png", bytes([i % 251 + 1]) * size) for i in range(count)]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3000, 40_000])
def test_close_and_distant_headers(tmp_path: Path, size: int) -> None:
    """Headers are looked for in every block where they lie close together, and hopped to where they do not."""
    path = write_tar(tmp_path / "a.tar", many(2_000_000 // (size + 1024), size))
    assert indexed(path) == oracle(path)


def test_tar_in_a_tar_is_one_member(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", many(20, 100)).read_bytes()
    members = [m for i in range(80) for m in ((f"{i}.tar", inner), (f"{i}.cls", b"1"))]
    path = write_tar(tmp_path / "a.tar", members)
    assert indexed(path) == oracle(path)
    assert len(indexed(path)) == 80


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (("folder.x", tarfile.DIRTYPE), ("a.png", tarfile.REGTYPE), ("latest", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.png" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
    assert [key for key, _ in indexed(path)] == ["a"]


def test_old_tar_without_a_magic(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.png", b"one"), ("a.cls", b"1")])
    data = bytearray(path.read_bytes())
    for at in (0, 1024):
        data[at + 257 : at + 512] = bytes(255)
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    assert indexed(path) == oracle(path) == [("a", [("png", b"one"), ("cls", b"1")])]


def test_bytes_after_the_end_marker_are_not_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.png", b"one")])
    path.write_bytes(path.read_bytes() + b"rubbish" * 100)
    assert [key for key, _ in indexed(path)] == ["a"]


def test_indexing_with_and_without_digests_says_the_same(store: Store, digits: dict[str, list[Path]]) -> None:
    one = store.datasets.add("with", digits["train"])
    two = store.datasets.add("without", digits["train"], digests=False)
    assert [s.index_digest for s in one.shards] == [s.index_digest for s in two.shards]
    assert all(s.digest for s in one.shards)
    assert not any(s.digest for s in two.shards)
    assert one.members()["members"].equals(two.members()["members"])


def test_progress_is_told_shard_by_shard(store: Store, digits: dict[str, list[Path]]) -> None:
    told: list[tuple[int, int]] = []
    store.datasets.add("d", digits["train"], progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]
