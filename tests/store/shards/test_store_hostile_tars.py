"""Tars that were made to harm, or by other programs: the right answer or one clear error, soon and in bounds."""

import io
import os
import random
import socket
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storekit import samples, shard, write_tar

from tamis.store import Store
from tamis.store.errors import ShardChanged, ShardError
from tamis.store.shards.shards import look, shard_digest
from tamis.store.shards.tars import ShardIndex, index_shard

BLOCK = 512
END = bytes(2 * BLOCK)


def raw(name: bytes, content: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header with its right checksum, byte for byte, and the content: whatever the fields say."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = fields.get("size", b"%011o\0" % len(content))
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[157 : 157 + len(fields.get("link", b""))] = fields.get("link", b"")
    block[257:265] = fields.get("magic", b"ustar\x0000").ljust(8, b"\0")
    block[345 : 345 + len(fields.get("prefix", b""))] = fields.get("prefix", b"")
    return summed(block) + content + bytes(-len(content) % BLOCK)


def summed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(**records: bytes) -> bytes:
    lines = b"".join(record(key.encode().replace(b"_", b"."), value) for key, value in records.items())
    return raw(b"./PaxHeaders/x", lines, b"x")


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


GOOD = raw(b"a.png", b"one") + raw(b"a.cls", b"1")
NEGATIVE = b"\xff" * 11 + b"\x00"  # -256 in base 256
SIZES = {
    "-1000 octal": b"-0000001000\0",
    "+8": b"+0000000010\0",
    "underscores": b"000000_0010\0",
    "-256 in base 256": NEGATIVE,
    "-512 in base 256, back to itself": b"\xff" * 10 + b"\xfe\x00",
    "2^87 in base 256": b"\x80\x80" + bytes(10),
    "8 GiB": b"77777777777\0",
    "letters": b"zz000000010\0",
    "a blank inside": b"000 0000010\0",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [b"0", b"5", b"L", b"x", b"g", b"S", b"V"])
def test_sizes_that_are_none(tmp_path: Path, size: str, kind: bytes) -> None:
    """In the first header, and behind good ones; a folder's size means nothing, and so it may be any number."""
    for before in (b"", GOOD):
        path = tmp_path / "a.tar"
        path.write_bytes(before + raw(b"z.png", b"", kind, size=SIZES[size]) + END)
        if kind == b"5" and before and size == "8 GiB":
            assert index_shard(path, None).keys.to_pylist() == ["a"]
            continue
        with pytest.raises(ShardError, match=r"a\.tar.*(corrupt|truncated|extended header|sparse|no samples)"):
            index_shard(path, None)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "pax size below 0": (pax(size=b"-512") + raw(b"a.png", b"x") + END, "says that the size is b'-512'"),
    "pax size of 40 digits": (pax(size=b"9" * 40) + raw(b"a.png", b"x") + END, "size is b'9{40}'"),
    "pax size beyond the file": (pax(size=b"1000000000000") + raw(b"a.png", b"x") + END, "truncated"),
    "a record of length 0": (raw(b"x", b"0 a=b\n", b"x") + raw(b"a.png") + END, "record that cannot be read"),
    "a record that is too long": (raw(b"x", b"99 a=b\n", b"x") + raw(b"a.png") + END, "record that cannot be read"),
    "a record without a number": (raw(b"x", b"path=/x\n", b"x") + raw(b"a.png") + END, "record that cannot be read"),
    "a record without an equals": (raw(b"x", b"5 ab\n", b"x") + raw(b"a.png") + END, "record that cannot be read"),
    "a pax name of 1 MB": (pax(path=b"n" * 10**6 + b".png") + raw(b"a.png") + END, "name of 1,000,004 bytes: at most"),
    "a GNU name of 1 MB": (raw(b"L", b"n" * 10**6 + b".png\0", b"L") + raw(b"a") + END, "name of 1,000,004 bytes"),
    "a name of 4,097 bytes": (pax(path=b"n" * 4093 + b".png") + raw(b"a.png") + END, "name of 4,097 bytes"),
    "a name with a 0 in it": (pax(path=b"n\0.png") + raw(b"a.png") + END, "none of them 0"),
    "an extended header of 2 MB": (raw(b"x", b"0" * 2**21, b"x") + raw(b"a.png") + END, "2,097,152 bytes at byte 0"),
    "an extended header at the end": (GOOD + pax(path=b"b.png") + END, "followed by no member"),
    "nothing but extended headers": (pax(path=b"b.png") * 5000 + END, "followed by no member"),
    "a sparse file": (raw(b"a.png", b"x", b"S") + END, "a.png is a sparse file.*without --sparse"),
    "a sparse file of pax": (
        pax(GNU_sparse_major=b"1", GNU_sparse_name=b"b.png") + raw(b"a.png", b"x") + END, "b.png is a sparse file",
    ),
    "a hard link": (GOOD + raw(b"b.png", kind=b"1", link=b"a.png") + END, "'b.png' is a hard link to 'a.png'.*--deref"),
    "a symbolic link": (GOOD + raw(b"b.png", kind=b"2", link=b"/x/a.png") + END, "symbolic link to '/x/a.png'"),
    "a link to itself": (raw(b"a.png", kind=b"2", link=b"a.png") + END, "symbolic link to 'a.png'"),
    "a second archive": (GOOD + END + raw(b"b.png", b"two") + END, "second archive.*at byte 3072.*--concatenate"),
    "a second archive after 10 kB": (GOOD + bytes(10240) + GOOD + END, "second archive after"),
    "a second archive of v7": (GOOD + END + raw(b"b.png", b"two", magic=b"") + END, "second archive after"),
    "a second archive off its blocks": (GOOD + END + b"\n" + GOOD + END, "second archive.*at byte 3073"),
    "a lone block of zeros": (GOOD + bytes(BLOCK) + raw(b"b.png", b"x") + END, "second archive after"),
    "a second archive of long names": (pax(path=b"c" * 200 + b".png") + raw(b"c") + END + GOOD + END, "second archive"),
    "links and nothing else": (raw(b"a", kind=b"2", link=b"b") + END, "holds no samples"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tar_is_refused(tmp_path: Path, case: str) -> None:
    content, message = HOSTILE[case]
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ShardError, match=rf"(?s)a\.tar.*{message}"):
        index_shard(path, None)


SKIPPED = {
    "names": (GOOD + raw(b"README", b"hi") + raw(b"x/.hidden", b"?") + raw(b"__meta__.json", b"{}") + END, 3),
    "long names": (GOOD + pax(path=b"R" * 200) + raw(b"R", b"hi") + raw(b"._a.png", b"") + END, 2),
    "devices": (GOOD + raw(b"c.png", kind=b"3") + raw(b"d.png", kind=b"4") + raw(b"p.png", kind=b"6") + END, 3),
    "links of no sample": (GOOD + raw(b"latest", kind=b"2", link=b"a.png") + END, 1),
    "a volume's label": (raw(b"label.x", kind=b"V") + GOOD + END, 1),
    "bytes behind the end": (GOOD + END + b"rubbish ustar" * 100, 1300),
    "nothing: folders": (raw(b"x/", kind=b"5") + raw(b"old/", kind=b"\0") + GOOD + END, 0),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_skipped_is_counted(tmp_path: Path, case: str) -> None:
    content, count = SKIPPED[case]
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    index = index_shard(path, "cls")
    assert (index.keys.to_pylist(), index.label) == (["a"], [1])
    assert sum(s.count for s in index.skipped) == count
    if case == "names":
        assert str(index.skipped[0]).endswith("('README', 'x/.hidden', '__meta__.json')")


def dialects(folder: Path) -> Iterator[Path]:
    """One set of members in every way that is in use."""
    deep = "deep/" * 25
    members = [(f"{deep}{i}.{e}", b"%d" % i) for i in range(3) for e in ("png", "cls")]
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield write_tar(folder / f"{kind}.tar", members, kind)
    for kind in ("ustar", "gnu", "oldgnu", "pax", "posix"):
        source = folder / "files"
        for name, content in members:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        path = folder / f"by-tar-{kind}.tar"
        subprocess.run(["tar", f"--format={kind}", "-cf", path, "-C", source, "."], check=True)
        yield path


def test_every_dialect_gives_the_members_of_tarfile(tmp_path: Path) -> None:
    for path in dialects(tmp_path):
        with tarfile.open(path) as tar:
            expected = [(m.name.rpartition("/")[2], m.offset_data, m.size) for m in tar if m.isreg()]
        index = index_shard(path, None)
        keys = [k.rpartition("/")[2] for k in index.keys.to_pylist()]
        owners = [keys[k] for k, n in enumerate(index.member_start[1:] - index.member_start[:-1]) for _ in range(n)]
        names = [f"{k}.{e}" for k, e in zip(owners, index.member_name.to_pylist(), strict=True)]
        assert list(zip(names, index.member_offset.tolist(), index.member_size.tolist(), strict=True)) == expected, path


def test_size_in_base_256_and_of_twelve_digits(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for size in (b"\x80" + bytes(10) + b"\x03", b"000000000003", b"          3 ", b"3" + bytes(11)):
        path.write_bytes(raw(b"a.png", b"one", size=size) + raw(b"a.cls", b"1") + END)
        assert index_shard(path, "cls").member_size.tolist() == [3, 1]


def test_checksum_over_signed_bytes(tmp_path: Path) -> None:
    path, block = tmp_path / "a.tar", bytearray(raw("ü.png".encode()))
    total = int(block[148:154], 8)
    block[148:156] = b"%06o\0 " % (total - 512)
    path.write_bytes(bytes(block) + END)
    assert index_shard(path, None).keys.to_pylist() == ["ü"]


def test_one_long_name_takes_no_memory_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    long = pax(path=b"n" * 4000 + b".png") + raw(b"n.png") + pax(path=b"n" * 4000 + b".cls") + raw(b"n.cls", b"1")
    path.write_bytes(long + b"".join(raw(b"%05d.png" % i) + raw(b"%05d.cls" % i, b"1") for i in range(2000)) + END)
    tracemalloc.start()
    try:
        assert len(index_shard(path, "cls").keys) == 2001
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def said(index: ShardIndex) -> object:
    return (
        index.keys.to_pylist(),
        index.member_name.to_pylist(),
        index.member_offset.tolist(),
        index.member_size.tolist(),
    )


def small(kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, content in (("a.png", b"x"), ("a.cls", b"1"), (f"{'b' * 120}.png", b"y" * 600), ("ü.png", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = file.getvalue().rstrip(b"\0")
    return data + bytes(-len(data) % BLOCK) + END


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_flipped_and_cut_tars_are_refused_or_read_right(tmp_path: Path, kind: int) -> None:
    """Whatever a byte of the headers becomes: an error, or what the whole tar says. Contents have no checksum here."""
    path, data = tmp_path / "a.tar", small(kind)
    path.write_bytes(data)
    right, draw = said(index_shard(path, None)), random.Random(kind)
    for _ in range(300):
        broken, at = bytearray(data), draw.randrange(len(data))
        broken[at] = draw.randrange(256)
        _check(path, bytes(broken), right, data)
    for size in range(0, len(data), 97):
        _check(path, data[:size], right, data)


def _check(path: Path, broken: bytes, right: object, data: bytes) -> None:
    path.write_bytes(broken)
    try:
        index = index_shard(path, None)
    except (ShardError, ShardChanged):
        return
    if said(index) != right:  # then what changed stands in an extended header, which has no checksum: tarfile agrees
        with tarfile.open(path) as tar:
            there = [(m.offset_data, m.size) for m in tar if m.isreg()]
        assert set(zip(index.member_offset.tolist(), index.member_size.tolist(), strict=True)) <= set(there)
        assert broken != data


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"), [(fifo, "named pipe"), (device, "device"), (bound, "socket"), (Path.mkdir, "directory")]
)
def test_what_is_no_file_is_never_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has 107 bytes at most
    make(Path("a.tar"))
    path = tmp_path / "a.tar"
    for work in (
        lambda: store.datasets.add("d", [path]),
        lambda: index_shard(path, None),
        lambda: look(str(path), {}),
    ):
        with pytest.raises(ShardError, match=rf"a\.tar cannot be read: Is a {kind}\. Expected a tar file"):
            work()
    with pytest.raises(OSError, match=r"a\.tar|No such device"):
        shard_digest(str(path), {})


def test_pipe_in_place_of_an_indexed_shard(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", "ab")
    dataset = store.datasets.add("d", [path])
    path.unlink()
    os.mkfifo(path)
    assert dataset.verify() == [f"Shard {path} cannot be read: Is a named pipe. Expected a tar file."]


def test_a_tar_of_thousands_of_empty_names_stays_in_bounds(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join(raw(b"") for _ in range(3000)) + END)
    with pytest.raises(ShardError, match="holds no samples"):
        index_shard(path, None)


def test_path_with_a_zero_byte(store: Store) -> None:
    with pytest.raises(ShardError, match="contains a null byte"):
        store.datasets.add("d", ["a\0.tar"])


def test_samples_beside_each_other_are_no_members_apart(store: Store, tmp_path: Path) -> None:
    """A key that stands for two whole samples is a key twice, not a sample torn apart."""
    path = write_tar(tmp_path / "a.tar", [*samples("ab"), *samples("a")])
    with pytest.raises(ShardError, match="1 keys belong to more than one sample"):
        store.datasets.add("d", [path])
