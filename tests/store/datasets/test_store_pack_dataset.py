"""Packing into a store: nothing is ever written over, what is left out is said, and killed packing goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.classes import read_classes
from tamis.store.datasets.packing import pack_dataset, pack_folder, pack_samples, picture_samples
from tamis.store.errors import DatasetExists, InvalidName, SelectionError, ShardError
from tamis.store.selections import Request
from tamis.store.shards.folders import find_pictures
from tamis.store.shards.images import IMAGES
from tamis.store.shards.writing import NewShard, check_key

CHILD = Path(__file__).with_name("pack_child.py")


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        picture(tmp_path / "in" / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    return tmp_path / "in"


def pack(store: Store, folder: Path, name: str = "d", out: Path | None = None, per_shard: int = 2) -> Dataset:
    found = find_pictures(folder)
    target = (out or Path(store.root.url) / "shards" / name) / name
    return pack_dataset(
        store.datasets, name, lambda: picture_samples(found), target, per_shard=per_shard, classes=found.classes
    )


def files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def test_other_pictures_under_a_taken_name_write_nothing(store: Store, folder: Path, tmp_path: Path) -> None:
    made = pack(store, folder)
    before = files(tmp_path)
    picture(folder / "cat" / "more.png", 9)
    before[str((folder / "cat" / "more.png").relative_to(tmp_path))] = (folder / "cat" / "more.png").read_bytes()
    for out in (None, tmp_path / "elsewhere"):
        with pytest.raises(
            DatasetExists, match=r"'d' already exists \(version 1, 6 samples\).*other shards.*Nothing was"
        ):
            pack(store, folder, out=out)
    assert files(tmp_path) == before
    assert made.verify() == []


def test_the_same_pictures_give_what_is_there(store: Store, folder: Path, tmp_path: Path) -> None:
    made = pack(store, folder)
    before = files(tmp_path)
    assert pack(store, folder) == made
    assert pack(store, folder, out=tmp_path / "elsewhere") == made
    assert files(tmp_path) == before


def test_lost_shards_are_packed_again(store: Store, folder: Path) -> None:
    made = pack(store, folder)
    Path(made.shards[1].uri).unlink()
    assert pack(store, folder) == made
    assert made.verify() == []


def test_other_names_of_folders_are_a_correction(store: Store, folder: Path) -> None:
    made = pack(store, folder)
    (folder / "cat").rename(folder / "bird")
    again = pack(store, folder)
    assert (again.classes, again.key, again.ref) == (("bird", "dog"), made.key, made.ref)
    (folder / "dog").rename(folder / "ant")  # now it is the other one that comes first
    with pytest.raises(DatasetExists, match="other shards"):
        pack(store, folder)


@pytest.mark.parametrize("name", ["../../evil", "/evil", "", "A", "a b", "x" * 101, "a\n"])
def test_a_bad_name_writes_nothing(store: Store, folder: Path, tmp_path: Path, name: str) -> None:
    before = files(tmp_path)
    with pytest.raises(InvalidName):
        pack(store, folder, name)
    assert files(tmp_path) == before


def test_shards_of_another_store_are_not_written_over(store: Store, folder: Path, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    made = pack(other, folder, out=tmp_path / "out")
    picture(folder / "cat" / "more.png", 9)
    with pytest.raises(
        ShardError, match=r"d-000000\.tar already exists and holds other samples; nothing was overwritten"
    ):
        pack(store, folder, out=tmp_path / "out", per_shard=3)
    assert made.verify() == []
    assert not [p for p in (tmp_path / "out").iterdir() if p.suffix != ".tar"]


def test_a_folder_in_the_place_of_a_shard(tmp_path: Path) -> None:
    (tmp_path / "x-000000.tar").mkdir()
    with pytest.raises(ShardError, match="already exists"):
        pack_samples([("a", {"png": b"1"})], tmp_path / "x")


def child(store: Store, folder: Path, *more: object, name: str = "d") -> subprocess.Popen[str]:
    command = [
        sys.executable,
        CHILD,
        store.root.url,
        name,
        folder,
        Path(store.root.url) / "shards" / name / name,
        *more,
    ]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", [0, 2])
def test_killed_packing_goes_on_and_leaves_nothing(store: Store, folder: Path, moment: int) -> None:
    killed = child(store, folder, 2, moment)
    said = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, said
    place = Path(store.root.url) / "shards" / "d"
    assert len([p for p in place.iterdir() if p.suffix == ".tmp"]) == 1
    kept = {p: p.stat().st_mtime_ns for p in place.glob("*.tar")}
    assert len(kept) == moment
    made = pack(store, folder)
    assert (made.samples, len(made.shards), made.verify()) == (6, 3, [])
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert sorted(p.name for p in place.iterdir()) == [f"d-00000{i}.tar" for i in range(3)]


def test_two_at_once(store: Store, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for seed in range(6):
        picture(other / ("cat", "dog")[seed % 2] / f"{seed}.png", seed + 50)
    both = [child(store, folder, 2), child(store, folder, 2), child(store, other, 2)]
    texts = [p.communicate(timeout=120)[1] for p in both]
    answers = [(p.returncode, text) for p, text in zip(both, texts, strict=True)]
    there = store.datasets.get("d")
    assert there.verify() == []
    assert (answers[0][0], answers[1][0]) in ((0, 0), (1, 1)), answers
    assert sorted(code for code, _ in answers) in ([0, 0, 1], [0, 1, 1]), answers
    for code, text in answers:
        assert code == 0 or "already exists" in text


def test_a_writer_at_work_is_left_alone(tmp_path: Path) -> None:
    with NewShard(tmp_path / "x-000000.tar") as working:
        (tmp_path / ".x-000001.tar.abc.tmp").write_bytes(b"left by a killed one")
        pack_samples([("a", {"png": b"1"})], tmp_path / "x")
        working.file.write(b"still there")
        names = sorted(p.name for p in tmp_path.iterdir())
        assert len(names) == 2
        assert names[0].startswith(".x-000000.tar.")
    assert [p.name for p in tmp_path.iterdir()] == ["x-000000.tar"]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    (path,) = pack_samples([("a", {"png": b"1"})], tmp_path / "x")
    before = path.read_bytes()
    assert pack_samples([("a", {"png": b"1"})], tmp_path / "x") == [path]
    with pytest.raises(ShardError, match="already exists"):
        pack_samples([("a", {"png": b"2"})], tmp_path / "x")
    assert path.read_bytes() == before


def test_what_is_skipped_is_named(folder: Path) -> None:
    picture(folder / "cat" / "._0.png")
    picture(folder / "cat" / ".hidden" / "0.png")
    picture(folder / "dog" / "__MACOSX" / "0.png")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "a.heic").write_bytes(b"x")
    (folder / "dog" / "b.HEIC").write_bytes(b"x")
    (folder / "dog" / "notes").write_bytes(b"x")
    (folder / "README.md").write_bytes(b"x")
    os.mkfifo(folder / "cat" / "pipe.png")
    (folder / "cat" / "gone.png").symlink_to("nowhere.png")
    (folder / "cat" / "again").symlink_to(folder / "cat")
    (folder / "empty").mkdir()
    found = find_pictures(folder)
    assert sum(map(len, found.files)) == 6
    assert {(s.why.split(",")[0], s.count) for s in found.skipped} == {
        ("hidden files and folders", 4), ("files of .heic", 2), ("files of no suffix", 1),
        ("links back to a folder", 1),
        ("files beside the classes' folders", 1), ("links that lead nowhere", 2), ("folders without an image", 1),
    }  # fmt: skip
    said = "; ".join(map(str, found.skipped))
    assert all(
        name in said for name in ("cat/._0.png", "cat/a.heic", "dog/notes", "README.md", "'empty'", "cat/pipe.png")
    )


def test_links_to_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "far" / "7.png", 7)
    (folder / "cat" / "more").symlink_to(tmp_path / "far")
    assert sum(map(len, find_pictures(folder).files)) == 7


def test_a_class_of_unknown_files_is_refused(folder: Path) -> None:
    (folder / "emu").mkdir()
    (folder / "emu" / "0.heic").write_bytes(b"x")
    with pytest.raises(ShardError, match=r"emu has no image that can be packed.*files of \.heic.*Convert them"):
        find_pictures(folder)


def test_every_kind_that_is_packed_is_found_and_decoded(store: Store, tmp_path: Path) -> None:
    from tamis.training import SelectionStream

    for suffix in IMAGES:
        for name in ("cat", "dog"):
            path = tmp_path / suffix / name / f"0.{suffix.upper()}"
            path.parent.mkdir(parents=True)
            Image.new("L", (4, 4), 7).save(path, IMAGES[suffix])
        paths, classes = pack_folder(tmp_path / suffix, tmp_path / "out" / suffix)
        made = store.datasets.add(suffix, paths, classes=classes)
        assert made.image == suffix
        (batch,) = SelectionStream(store, made, batch_size=2, shuffle=False).epoch(0)
        assert batch.images.shape == (2, 3, 4, 4)
        assert abs(batch.images.float() - 7).max() <= 1


def test_two_suffixes_of_one_format_are_one_kind(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.jpeg", "2.JPG"):
        picture(tmp_path / "in" / "cat" / name)
    assert find_pictures(tmp_path / "in").kind == "jpg"
    for name in ("0.jpg", "2.JPG"):
        (tmp_path / "in" / "cat" / name).unlink()
    assert find_pictures(tmp_path / "in").kind == "jpeg"


@pytest.mark.parametrize("key", ["a", "x/y/a", "x.y/a", "a_b", "ü", "./a"])
def test_keys_that_are_packed_come_back(store: Store, tmp_path: Path, key: str) -> None:
    paths = pack_samples([(key, {"png": b"1", "cls": b"0"})], tmp_path / "x")
    assert store.datasets.add("d", paths).keys() == [key]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "../a",
        "x/../a",
        "..",
        "a.b",
        "a/",
        "x/.a",
        "__a__",
        "x/__a__",
        "__a__/b",
        "a\0",
        "n" * 5000,
        "a/..",
        "\ud800",
    ],
)
def test_keys_that_would_not_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ShardError, match="not a valid sample key"):
        check_key(key)
    with pytest.raises(ShardError):
        pack_samples([(key, {"png": b"1", "cls": b"0"})], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_plain_tar_holds(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"does not fit into a plain tar.*up to 100 bytes"):
        pack_samples([("n" * 300, {"png": b"1"})], tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


NAMES = ["cat", "Dachshund, braun", "überall"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n \n"])
def test_class_names_in_every_encoding(tmp_path: Path, encoding: str, newline: str, end: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes((newline.join(NAMES) + end).encode(encoding))
    assert read_classes(path) == NAMES


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_bytes("überall\n".encode("latin-1")), r"is not UTF-8 text \(.*at byte 0\).*Save the file"),
        (lambda p: p.write_bytes("cat\ndog".encode("utf-16-le")), r"name of class 0 is 'c\\x00a.*control characters"),
        (lambda p: p.write_bytes(b"cat\n\ndog\n"), r"name of class 1 is empty.*would shift all that follow"),
        (lambda p: p.write_bytes(b"cat\n\x1b[31mred"), r"name of class 1 is '\\x1b\[31mred'"),
        (lambda p: p.write_bytes(b"x" * 1001), "name of class 0 is 'xxx.*1 to 1000 characters"),
        (Path.mkdir, "Is a directory"),
        (pipe, "Is a named pipe"),
        (lambda p: None, "No such file"),
    ],
)  # fmt: skip
def test_class_names_that_are_none(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "classes.txt")
    with pytest.raises(ShardError, match=rf"(?s)classes\.txt.*{message}"):
        read_classes(tmp_path / "classes.txt")


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 10**30])
def test_a_seed_that_no_column_holds(store: Store, folder: Path, seed: int) -> None:
    made = pack(store, folder)
    with pytest.raises(SelectionError, match=r"The seed is -?\d+: expected -2\^63 to 2\^63 - 1"):
        Request(made, "random", 1, seed=seed)


@pytest.mark.parametrize("ref", ["d@" + "9" * 5000, "d@0", "d@-1", "d@1e3", "d@\u0661"])
def test_a_version_that_is_none(store: Store, ref: str) -> None:
    with pytest.raises(InvalidName, match="after '@' comes a version"):
        store.datasets.get(ref)
