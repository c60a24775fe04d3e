"""Shards that cannot be indexed, or are no longer those that were: each is refused by name, with what to do."""

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from storekit import counts, samples, shard, write_tar

from tamis.store import Store
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardChanged, ShardError, TamisError


def flip(path: Path, at: int) -> None:
    """Change one byte, and nothing else of a file."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def header_of(path: Path, member: int) -> int:
    with tarfile.open(path) as tar:
        return tar.getmembers()[member].offset


def long_names(path: Path) -> Path:
    """A shard that `tarfile` has to read, every name being too long for a plain header."""
    return write_tar(path, samples(f"{'long' * 30}{i}" for i in range(9)), tarfile.GNU_FORMAT)


def negative_size(path: Path) -> None:
    """A header that says -1000 bytes, with the checksum to go with it."""
    data = bytearray(path.read_bytes())
    data[124:136] = b"-0000001750\0"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut inside a member": (lambda p: cut(p, 512 * 5 + 100), "truncated.*Copy it again"),
    "cut between members": (lambda p: cut(p, 512 * 4), "truncated.*end-of-archive.*Copy it again"),
    "cut inside the first header": (lambda p: cut(p, 100), "truncated.*Copy it again"),
    "one byte of a name flipped": (lambda p: flip(p, header_of(p, 3) + 2), r"corrupt at byte 3072.*checksum.*Restore"),
    "one byte of a size flipped": (lambda p: flip(p, header_of(p, 2) + 134), "corrupt|truncated"),
    "a size that is no number": (lambda p: p.write_bytes(p.read_bytes().replace(b"00000000007", b"zz" * 5)), "corrupt"),
    "a negative size": (negative_size, "corrupt"),
    "garbage": (lambda p: p.write_bytes(bytes(range(256)) * 40), "corrupt.*Restore"),
    "text": (lambda p: p.write_text("this is no tar\n" * 100), "corrupt.*Restore"),
    "empty": (lambda p: p.write_bytes(b""), r"empty \(0 bytes\).*[Ee]xpected a tar file"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "compressed.*gzip.*Decompress"),
    "no members": (lambda p: p.write_bytes(bytes(10240)), "no members"),
    "no samples": (lambda p: write_tar(p, [("README", b""), ("sub/.x", b""), ("__meta__.json", b"")]), r"KEY\.EXT"),
    "long names, cut": (lambda p: cut(long_names(p), 512 * 12 + 7), "truncated.*Copy it again"),
    "long names, damaged header": (lambda p: flip(long_names(p), header_of(p, 5) + 1), "stops being a tar.*Restore"),
    "a name that is not UTF-8": (lambda p: latin(p), "not UTF-8"),
}  # fmt: skip


def latin(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("caf\xe9.png"))


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_damaged_shard_is_refused_by_name_with_a_remedy(store: Store, tmp_path: Path, damage: str) -> None:
    path = shard(tmp_path / "a.tar", "abcd")
    work, message = DAMAGE[damage]
    work(path)
    with pytest.raises(ShardError, match=rf"(?s){path.name}.*{message}") as caught:
        store.datasets.add("d", [path])
    assert isinstance(caught.value, TamisError)
    assert isinstance(caught.value, ValueError)
    assert counts(store)["samples"] == 0


def test_missing_shard(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ShardChanged, match=r"nowhere\.tar cannot be read.*Give existing shards"):
        store.datasets.add("d", [tmp_path / "nowhere.tar"])


def test_directory_in_place_of_a_shard(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ShardError, match=r"folder cannot be read: Is a directory.*[Ee]xpected a tar file"):
        store.datasets.add("d", [tmp_path / "folder"])


def test_sparse_member(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        info.type = tarfile.GNUTYPE_SPARSE
        tar.addfile(info)
    with pytest.raises(ShardError, match=r"a\.png is a sparse file.*without --sparse"):
        store.datasets.add("d", [path], label=None)


SAMPLES = {
    "one label missing": ([*samples("ab"), ("c.png", b"x")], r"1 of 3 .*have no member \.cls \(first: c\).*--label"),
    "no labels at all": ([("a.png", b"x"), ("b.png", b"y")], r"2 of 2 samples have no member \.cls.*--label none"),
    "one image missing": ([*samples("ab"), ("c.cls", b"1")], r"1 of 3 .*have no member \.png \(first: c\).*--image"),
    "no images at all": ([("a.cls", b"1"), ("a.txt", b"y")], r"no image member.*its members are: cls, txt.*--image"),
    "two labels": ([*samples("ab"), ("b.cls", b"2")], r"1 of 2 samples have more than one member \.cls \(first: b\)"),
    "numbers and names": (
        [*samples("a"), ("b.png", b""), ("b.cls", b"cat")],
        r"1 of 2 labels are class names \(b: 'cat'\) and the others are class numbers",
    ),
    "a negative label": ([*samples("a"), ("b.png", b""), ("b.cls", b"-1")], r"b\.cls holds b'-1'"),
    "a broken label": ([("a.png", b""), ("a.cls", b"1.5")], r"a\.cls holds b'1\.5'"),
    "two numbers": ([("a.png", b""), ("a.cls", b"1 2")], r"a\.cls holds b'1 2'"),
    "an empty label": ([("a.png", b""), ("a.cls", b"")], r"a\.cls holds b''.*1 of 1 labels"),
    "a huge label": ([*samples("a"), ("b.png", b""), ("b.cls", b"9" * 19)], r"b\.cls holds b'9{19}'.*1 of 2 labels"),
    "10^7": ([("a.png", b""), ("a.cls", b"1" + b"0" * 7)], r"a\.cls holds b'10{7}' .*at most 9,999,999\) or"),
    "2^64 + 1": ([("a.png", b""), ("a.cls", b"18446744073709551617")], r"a\.cls holds b'18446744073709551617'"),
    "members apart": (
        [("a.png", b""), ("b.png", b""), ("b.cls", b"1"), ("a.cls", b"1"), *samples("c")],
        r"members of 1 samples are not adjacent \(first: a\).*--sort=name",
    ),
    "a long label": ([("a.png", b""), ("a.cls", b"7" + b" " * 300)], r"a\.cls holds b'7 +'"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAMPLES)
def test_incomplete_sample_is_named(store: Store, tmp_path: Path, case: str) -> None:
    members, message = SAMPLES[case]
    with pytest.raises(ShardError, match=rf"(?s)a\.tar.*{message}"):
        store.datasets.add("d", [write_tar(tmp_path / "a.tar", members)])
    assert counts(store)["samples"] == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"7", 7), (b"7\n", 7), (b" 42 ", 42), (b"007\r\n", 7), (b"9999999", 9_999_999), (b"%020d" % 5, 5)],
)
def test_labels_as_people_write_them(store: Store, tmp_path: Path, text: bytes, value: int) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.png", b"x"), ("a.cls", text)])
    assert store.datasets.add("d", [path]).labels().tolist() == [value]


def test_data_without_labels(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.txt", b"1"), ("b.jpg", b"y"), ("b.txt", b"2")])
    dataset = store.datasets.add("d", [path], label=None)
    assert (dataset.image, dataset.label, dataset.labels().tolist()) == ("jpg", None, [-1, -1])


def test_shards_with_other_kinds_of_image(store: Store, tmp_path: Path) -> None:
    one = shard(tmp_path / "a.tar", "ab")
    two = write_tar(tmp_path / "b.tar", [("c.jpg", b"x"), ("c.cls", b"1")])
    with pytest.raises(ShardError, match=r"b\.tar.*have no member \.png.*Members there are: cls, jpg"):
        store.datasets.add("d", [one, two])


def test_key_twice_in_one_shard(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [*samples("ab"), *samples("a")])
    with pytest.raises(
        ShardError, match=r"(?s)1 keys belong to more than one sample \(first: a; in .*a\.tar\).*unique"
    ):
        store.datasets.add("d", [path])


def test_key_twice_across_shards(store: Store, tmp_path: Path) -> None:
    paths = [shard(tmp_path / "a.tar", "abc"), shard(tmp_path / "b.tar", "xcb")]
    with pytest.raises(ShardError, match=r"2 keys .*\(first: b, c; in .*a\.tar, .*b\.tar\)"):
        store.datasets.add("d", paths)
    assert counts(store)["datasets"] == 0


def test_key_twice_across_an_append(store: Store, tmp_path: Path) -> None:
    store.datasets.add("d", [shard(tmp_path / "a.tar", "abc")])
    with pytest.raises(ShardError, match=r"1 keys .*\(first: c; in .*b\.tar\).*leave out one of the shards"):
        store.datasets.add("d", [shard(tmp_path / "b.tar", "cd")], append=True)
    assert store.datasets.get("d").ref == "d@1"


def test_same_shard_named_twice(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "ab")
    with pytest.raises(ShardError, match=r"a\.tar is listed twice"):
        store.datasets.add("d", [path, path])


def test_no_shards(store: Store) -> None:
    with pytest.raises(ShardError, match="No shards were given: a dataset needs at least one tar file"):
        store.datasets.add("d", [])


def test_more_labels_than_class_names(store: Store, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples("ab", label=3))
    with pytest.raises(ShardError, match="2 class names, but a label is 3: expected 0 to 1"):
        store.datasets.add("d", [path], classes=["cat", "dog"])


def test_other_content_under_a_taken_name(store: Store, tmp_path: Path) -> None:
    store.datasets.add("d", [shard(tmp_path / "a.tar", "ab")])
    with pytest.raises(DatasetExists, match=r"(?s)'d' already exists \(version 1, 2 samples\).*--append.*another name"):
        store.datasets.add("d", [shard(tmp_path / "b.tar", "cd")])


def test_append_to_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"No dataset 'd' to append to; there are: none\. Add it first"):
        store.datasets.add("d", [shard(tmp_path / "a.tar", "ab")], append=True)


def test_shard_changed_with_the_same_size(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset = store.datasets.add("d", [path])
    flip(path, 600)
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        ShardChanged,
        match=r"(?s)a\.tar changed after it was indexed: expected sha256 .* Restore it.*another dataset name",
    ):
        dataset.shards[0].check()
    assert [p.split(":")[0] for p in dataset.verify()] == [f"Shard {path} changed after it was indexed"]


def test_change_that_hides_behind_size_and_time_is_found_by_verify(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset = store.datasets.add("d", [path])
    flip(path, 600)
    dataset.shards[0].check()
    assert len(dataset.verify()) == 1


def test_shard_changed_with_another_size(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset, size = store.datasets.add("d", [path]), path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(ShardChanged, match=rf"had {size} bytes and has {size + 512}\. Restore it"):
        dataset.shards[0].check()
    assert len(dataset.verify()) == 1


def test_shard_gone(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset = store.datasets.add("d", [path, shard(tmp_path / "b.tar", "xyz")])
    path.unlink()
    with pytest.raises(ShardChanged, match=r"a\.tar is missing\. Restore it"):
        dataset.shards[0].check()
    assert len(dataset.verify()) == 1
    assert dataset.keys() == ["a", "b", "c", "x", "y", "z"]


def test_shard_only_touched_is_fine_with_a_digest(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset = store.datasets.add("d", [path])
    os.utime(path, ns=(1, 1))
    dataset.shards[0].check()
    assert dataset.verify() == []


def test_shard_only_touched_is_refused_without_a_digest(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    dataset = store.datasets.add("d", [path], digests=False)
    dataset.shards[0].check()
    assert dataset.verify() == []
    os.utime(path, ns=(1, 1))
    with pytest.raises(ShardChanged, match=r"a\.tar was touched.*without a digest.*with digests"):
        dataset.shards[0].check()
    assert len(dataset.verify()) == 1


def test_append_of_a_shard_that_changed(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "abc")
    store.datasets.add("d", [path])
    shard(path, "xyz")
    with pytest.raises(ShardChanged, match=r"a\.tar is in the dataset already and changed since.*restore it"):
        store.datasets.add("d", [path], append=True)
