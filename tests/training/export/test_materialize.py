"""Curated shards: stock webdataset reads what was chosen, the same bytes everywhere, whole or not there at all."""

import gzip
import io
import itertools
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from curating_child import SIZE
from numbered import Select, Write, numbered
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_samples
from tamis.store.errors import SelectionError, ShardChanged, ShardError, StoreExists
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.errors import DecoderRefused, DestinationTaken
from tamis.training.export.manifest import Curated
from tamis.training.export.materialize import materialize
from tamis.training.streaming.stream import SelectionStream

CHILD = Path(__file__).with_name("curating_child.py")
EXAMPLE = Path(__file__).parents[3] / "docs/examples/webdataset_curated.py"
# Stock webdataset leaves the files that it has read to the collector.
STOCK = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def pick(store: Store, dataset: Dataset, count: int = 600) -> Selection:
    """Some samples of a dataset with weights that are no round numbers."""
    samples = np.random.default_rng(5).permutation(dataset.samples)[:count]
    weights = np.random.default_rng(6).random(count)
    request = Request(dataset, "by-hand", 1, {"count": count})
    return store.selections.publish(request, "some", [RoundData(samples, weights)], seconds=0.0).selection


@pytest.fixture
def some(store: Store, dataset: Dataset) -> Selection:
    return pick(store, dataset)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(m.name, (tar.extractfile(m) or io.BytesIO()).read()) for m in tar]


def stock(curated: Curated) -> list[dict[str, Any]]:
    """What stock webdataset makes of the shards, in their order."""
    return list(wds.WebDataset(curated.pattern, shardshuffle=False).decode("l8"))


def refuses(name: Path, work: Callable[[], object]) -> None:
    before = tree(name.parent)
    with pytest.raises(DestinationTaken, match=rf"{name.name}.*Nothing was replaced"):
        work()
    assert before.items() <= tree(name.parent).items()


@STOCK
def test_stock_webdataset_reads_what_was_chosen(store: Store, dataset: Dataset, some: Selection) -> None:
    seen: list[tuple[int, int]] = []
    curated = materialize(store, some, shard_size=SIZE, progress=lambda *at: seen.append(at))
    assert (curated.samples, curated.cached, curated.kept, curated.left_out) == (600, False, 0, {})
    assert curated.url == f"{store.root.url}/curated/{curated.key}"
    assert len(curated.shards) == 7
    assert sum(s.samples for s in curated.shards) == 600
    assert seen[-1] == (600, 600)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    samples, weights = some.round_at(0)
    keys, labels, where = dataset.keys(), dataset.labels(), dataset.locations()
    read = stock(curated)
    assert sorted(s["tamis.json"]["rank"] for s in read) == list(range(600))
    for got in read:
        added = got["tamis.json"]
        sample = int(samples[added["rank"]])
        assert (added["sample"], np.float32(added["weight"])) == (sample, weights[added["rank"]])
        assert (got["__key__"], got["cls"]) == (keys[sample], labels[sample])
        with Path(dataset.shards[where.shard[sample]].uri).open("rb") as file:
            file.seek(where.offset[sample])
            image = Image.open(io.BytesIO(file.read(where.size[sample])))
        assert np.array_equal(got["png"], np.asarray(image))


def test_bytes_are_the_same_for_any_workers_in_any_store(
    store: Store, some: Selection, tmp_path: Path, digits: dict[str, list[Path]]
) -> None:
    other = Store.create(tmp_path / "other")
    copies = [Path(shutil.copy(p, tmp_path / f"other-{p.name}")) for p in digits["train"]]  # of another time
    same = pick(other, other.datasets.add("digits", copies))
    made = [materialize(store, some, str(tmp_path / f"{n}"), shard_size=SIZE, workers=n) for n in (1, 2, 3)]
    made.append(materialize(other, same, str(tmp_path / "4"), shard_size=SIZE))
    assert len({m.key for m in made}) == 1
    assert len({m.shards for m in made}) == 1
    first, *rest = (tree(tmp_path / f"{n}") for n in (1, 2, 3, 4))
    assert all(it == first for it in rest)
    assert set(first) == {"curated.json", *(s.name for s in made[0].shards)}


def test_bytes_are_what_they_were(store: Store, tmp_path: Path, write: Write, select: Select) -> None:
    """Where keys or bytes change, finished sets are not found again: raise `VERSION` of `training.export.manifest`."""
    samples = [(f"s{i}", {"png": b"image %d" % i, "cls": b"%d" % (i % 2), "txt": b"text" * i}) for i in range(9)]
    dataset = store.datasets.add("fixed", [write(tmp_path / "fixed.tar", samples)])
    curated = materialize(store, select(dataset, (0, [8, 1, 5, 2, 7])), shard_size=8000)
    assert curated.key == "c30af1c6613f167360062ad3c1994604"
    assert " ".join(s.sha256[:12] for s in curated.shards) == "bf6071b0f8cb cf9fb404aff4 a6e1761f67b4"


def test_shards_are_plain_tars_with_nothing_of_this_machine(store: Store, some: Selection) -> None:
    path = Path(materialize(store, some).paths()[0])
    with tarfile.open(path) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.isreg()) == (0o644, True)
    listed = subprocess.run(["tar", "tf", str(path)], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert len(listed.stdout.splitlines()) == 3 * 600


def test_the_manifest_says_what_lies_there(store: Store, dataset: Dataset, some: Selection) -> None:
    curated = materialize(store, some, shard_size=SIZE)
    said = json.loads((Path(curated.url) / "curated.json").read_bytes())
    weights = some.round_at(0)[1]
    assert (said["selection"], said["selection_key"], said["round"]) == ("some@1", some.key, 0)
    assert (said["dataset"], said["dataset_key"], said["dataset_bytes"]) == ("digits@1", dataset.key, dataset.bytes)
    assert said["weights"] == pytest.approx({"min": weights.min(), "max": weights.max(), "mean": weights.mean()})
    assert said["bytes"] == sum(p.stat().st_size for p in Path(curated.url).glob("*.tar"))
    for shard in said["shards"]:
        path = Path(curated.url) / shard["name"]
        assert path.stat().st_size == shard["bytes"]
        digest = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout
        assert digest.startswith(shard["sha256"])
        assert len(members(path)) == 3 * shard["samples"]


def test_shards_are_even_and_not_sorted_by_class(store: Store, tmp_path: Path, select: Select) -> None:
    """Chosen class by class, as per-class quotas do; every shard has every class, and no long run of one."""
    samples = [(f"s{i:04d}", {"png": numbered(i), "cls": b"%d" % (i // 100)}) for i in range(1000)]
    dataset = store.datasets.add("sorted", pack_samples(samples, tmp_path / "sorted"))
    curated = materialize(store, select(dataset, (0, range(1000))), shard_size=400_000)
    sizes = [s.bytes for s in curated.shards]
    assert max(sizes) <= 400_000 + 4096
    assert max(sizes) - min(sizes) <= 4096
    for path in curated.paths():
        labels = [int(data) for name, data in members(Path(path)) if name.endswith(".cls")]
        assert set(labels) == set(range(10))
        assert sum(a == b for a, b in itertools.pairwise(labels)) < len(labels) / 4


@pytest.mark.parametrize(("shard_size", "shards"), [(1, 60), (4096, 45), (1 << 32, 1)])
def test_any_size_and_one_sample(store: Store, sixty: Dataset, select: Select, shard_size: int, shards: int) -> None:
    every = materialize(store, select(sixty, (0, range(60))), shard_size=shard_size)
    assert len(every.shards) == shards  # a sample is 3,072 bytes
    assert sum(s.samples for s in every.shards) == 60
    assert all(s.samples for s in every.shards)
    one = materialize(store, select(sixty, (0, [7])), shard_size=shard_size)
    (path,) = one.paths()
    assert one.pattern == path
    assert [name for name, _ in members(Path(path))] == ["s007.png", "s007.cls", "s007.tamis.json"]


def test_sizes_and_workers_that_make_no_sense(store: Store, sixty: Dataset, select: Select) -> None:
    chosen = select(sixty, (0, [7]))
    for wrong in ({"shard_size": 0}, {"shard_size": 5 << 30}, {"workers": 0}):
        with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
            materialize(store, chosen, **wrong)


def test_asked_again_no_source_is_read(store: Store, sixty: Dataset, select: Select) -> None:
    chosen = select(sixty, (0, range(60)))
    first = materialize(store, chosen, shard_size=30_000)
    for shard in sixty.shards:
        Path(shard.uri).unlink()
    again = materialize(store, chosen, shard_size=30_000, workers=3)
    assert (again.cached, again.kept, again.shards) == (True, len(first.shards), first.shards)
    with pytest.raises(ShardChanged, match="missing"):
        materialize(store, chosen, shard_size=20_000)


def test_what_was_removed_is_made_again(store: Store, some: Selection) -> None:
    first = materialize(store, some, shard_size=SIZE)
    folder = Path(first.url)
    before = tree(folder)
    (folder / first.shards[2].name).unlink()
    again = materialize(store, some, shard_size=SIZE)
    assert (again.cached, again.kept) == (False, len(first.shards) - 1)
    assert tree(folder) == before


def child(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(CHILD), *map(str, arguments)], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("calls", [0, 1, 2, 7, 14, 15, 16, 20])
def test_killed_in_the_middle_and_asked_again(store: Store, some: Selection, tmp_path: Path, calls: int) -> None:
    """SIGKILL before any of the writes: what is visible is whole, and the next call makes the rest."""
    whole = materialize(store, some, str(tmp_path / "whole"), shard_size=SIZE)
    wanted, total = tree(tmp_path / "whole"), len(whole.shards)
    assert total == 7
    with child(store.root.url, "some", tmp_path / "killed", 1, calls) as killed:
        killed.communicate()
    left = tree(tmp_path / "killed") if calls else {}
    assert killed.returncode == -signal.SIGKILL
    shards = {name: data for name, data in left.items() if name.endswith(".tar")}
    assert len(shards) == min(total, (calls + 1) // 2)
    assert all(wanted[name] == data for name, data in shards.items())
    assert ("curated.json" in left) == (calls > 2 * total)
    again = materialize(store, some, str(tmp_path / "killed"), shard_size=SIZE)
    assert again.kept == min(total, calls // 2)
    assert again.cached == ("curated.json" in left)
    assert tree(tmp_path / "killed") == wanted


def test_killed_at_any_moment(store: Store, some: Selection, tmp_path: Path) -> None:
    """Wherever it happens to be: every name that ends in .tar has all its bytes."""
    materialize(store, some, str(tmp_path / "whole"), shard_size=SIZE)
    wanted, rng, killed = tree(tmp_path / "whole"), random.Random(0), tmp_path / "killed"
    for _ in range(4):
        with child(store.root.url, "some", killed, 2) as process:
            while process.poll() is None and not killed.exists():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            process.communicate()
        left = {name: data for name, data in tree(killed).items() if name.endswith((".tar", "curated.json"))}
        assert left.items() <= wanted.items()
    materialize(store, some, str(killed), shard_size=SIZE)
    assert wanted.items() <= tree(killed).items()
    assert materialize(store, some, str(killed), shard_size=SIZE).cached


def test_two_processes_at_once_leave_one_set(store: Store, some: Selection, tmp_path: Path) -> None:
    whole = materialize(store, some, str(tmp_path / "whole"), shard_size=SIZE)
    for place in range(3):
        both = [child(store.root.url, "some", tmp_path / f"{place}", workers) for workers in (1, 2)]
        for process in both:
            with process:
                assert process.communicate()[1] == ""
            assert process.returncode == 0
        assert tree(tmp_path / f"{place}") == tree(Path(whole.url))


def test_full_medium(store: Store, some: Selection, tmp_path: Path) -> None:
    with child(store.root.url, "some", tmp_path / "full", 2, "full") as process:
        said = process.communicate()[1]
    assert process.returncode == 0, said


def test_destination_with_other_things(store: Store, some: Selection, tmp_path: Path, select: Select) -> None:
    def write(folder: Path, **more: Any) -> Curated:
        return materialize(store, some, str(folder), **{"shard_size": SIZE, **more})

    for n, (name, data) in enumerate(
        (("curated-000001.tar", b"mine"), ("curated.json", b"{}"), ("curated.json", b"[1"))
    ):
        folder = tmp_path / f"{n}"
        folder.mkdir()
        (folder / name).write_bytes(data)
        refuses(folder / name, lambda folder=folder: write(folder))
        (folder / name).unlink()
        write(folder)
    refuses(folder / "curated.json", lambda: write(folder, shard_size=2 * SIZE))
    changed = folder / "curated-000003.tar"
    changed.write_bytes(changed.read_bytes()[:-1])
    refuses(changed, lambda: write(folder))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreExists, match="file"):
        write(tmp_path / "file")


def test_other_files_are_left_alone(store: Store, some: Selection, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    others = {
        "notes.txt": b"n",
        "train-000000.tar": b"t",
        "train-000000.json": b"j",
        "curated-000000.json": b"not ours",
    }
    for name, data in others.items():
        (tmp_path / "out" / name).write_bytes(data)
    curated = materialize(store, some, str(tmp_path / "out"), shard_size=1 << 30)
    assert {k: v for k, v in tree(tmp_path / "out").items() if k in list(others)[:3]} == dict(list(others.items())[:3])
    assert [s.name for s in curated.shards] == ["curated-000000.tar"]


def test_bytes_that_changed_in_a_finished_shard_are_noticed(store: Store, some: Selection, tmp_path: Path) -> None:
    with child(store.root.url, "some", tmp_path / "out", 1, 6) as killed:
        killed.communicate()
    shard = tmp_path / "out" / "curated-000001.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    refuses(shard, lambda: materialize(store, some, str(tmp_path / "out"), shard_size=SIZE))


def test_source_that_changed_is_refused(store: Store, sixty: Dataset, select: Select) -> None:
    chosen, source = select(sixty, (0, range(60))), Path(sixty.shards[1].uri)
    good = source.read_bytes()
    source.write_bytes(good[:-512])
    with pytest.raises(ShardChanged, match=source.name):
        materialize(store, chosen, shard_size=20_000)
    (folder,) = (Path(store.root.url) / "curated").iterdir()
    assert not (folder / "curated.json").exists()
    source.write_bytes(good)
    assert not materialize(store, chosen, shard_size=20_000).cached


@pytest.mark.parametrize("check", ["headers", "digest"])
def test_source_that_changed_under_its_old_size_and_time(
    store: Store, sixty: Dataset, select: Select, tmp_path: Path, check: Any
) -> None:
    chosen, source = select(sixty, (0, range(60))), Path(sixty.shards[1].uri)
    whole = materialize(store, chosen, str(tmp_path / "whole"), shard_size=20_000, check=check)
    stat, data = source.stat(), bytearray(source.read_bytes())
    data[: len(data) // 2 // 512 * 512] = data[len(data) // 2 // 512 * 512 :][: len(data) // 2 // 512 * 512]
    source.write_bytes(data)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ShardChanged, match=source.name):
        materialize(store, chosen, shard_size=20_000, check=check)
    assert materialize(store, chosen, whole.url, shard_size=20_000, check=check).cached


def test_rounds(store: Store, sixty: Dataset, select: Select) -> None:
    rounds = select(sixty, (2, [1, 2, 3]), (5, [4, 5]))
    first, second = materialize(store, rounds), materialize(store, rounds, epoch=9)
    assert (first.round, first.first_epoch, first.samples) == (0, 2, 3)
    assert (second.round, second.first_epoch, second.samples) == (1, 5, 2)
    assert first.url != second.url
    assert materialize(store, rounds, epoch=4).cached
    with pytest.raises(SelectionError, match="has no round at epoch 1"):
        materialize(store, rounds, epoch=1)


@STOCK
def test_curated_shards_are_a_dataset_too(store: Store, some: Selection, tmp_path: Path) -> None:
    curated = materialize(store, some, shard_size=SIZE)
    again = store.datasets.add("curated", curated.paths())
    assert (again.samples, again.image, again.label) == (600, "png", "cls")
    order = [s["tamis.json"]["sample"] for s in stock(curated)]
    assert again.labels().tolist() == store.datasets.get("digits").labels()[order].tolist()
    assert sum(len(b.samples) for b in SelectionStream(store, again, channels=1).epoch(0)) == 600
    # A selection of it has weights of its own, and only those.
    second = materialize(store, pick(store, again, 50))
    assert second.left_out == {"tamis.json": 50}
    weights = store.selections.get("some@2").round_at(0)[1]
    assert {s["tamis.json"]["rank"]: np.float32(s["tamis.json"]["weight"]) for s in stock(second)} == dict(
        enumerate(weights)
    )


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return (os.symlink, ("went off", str(self.path)))


@STOCK
def test_pickles_are_left_out(store: Store, tmp_path: Path, write: Write, select: Select) -> None:
    """Stock decoders unpickle these; they would leave a link when they go off."""
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    more = {"pkl": bomb, "a.pyd": bomb, "PKL.gz": gzip.compress(bomb), "pth": bomb, "pt.txt": b"texto", "json": b"[1]"}
    samples = [(f"s{i}", {"png": numbered(i), "cls": b"1", **more}) for i in range(3)]
    dataset = store.datasets.add("traps", [write(tmp_path / "traps.tar", samples)])
    curated = materialize(store, select(dataset, (0, [2, 0])))
    assert curated.left_out == {"pkl": 2, "a.pyd": 2, "pkl.gz": 2, "pth": 2}
    read = stock(curated)
    assert [sorted(k for k in s if not k.startswith("__")) for s in read] == [
        ["cls", "json", "png", "pt.txt", "tamis.json"]
    ] * 2
    assert [(s["pt.txt"], s["json"]) for s in read] == [("texto", [1])] * 2
    assert not mark.is_symlink()
    with pytest.raises(DecoderRefused, match=r"pkl\.gz"):
        SelectionStream(store, dataset, members=["png", "pkl.gz"])
    bad = store.datasets.add("bad", [tmp_path / "traps.tar"], image="pkl")
    with pytest.raises(DecoderRefused, match=r"\.pkl of bad@1"):
        materialize(store, select(bad, (0, [1])))


def test_names_of_all_kinds(store: Store, tmp_path: Path, select: Select) -> None:
    """Folders, dots in folders, text that is no ASCII, names too long for a plain header, empty members."""
    keys = ["a", "folder/b", "v1.2/c", "größe/é", "long/" + "x" * 150]
    with tarfile.open(tmp_path / "names.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for i, key in enumerate(keys):
            for suffix, data in (("png", numbered(i)), ("cls", b"%d" % i), ("left.txt", b"")):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mtime, info.uname = len(data), 12345.5, "somebody"
                tar.addfile(info, io.BytesIO(data))
    dataset = store.datasets.add("names", [tmp_path / "names.tar"])
    curated = materialize(store, select(dataset, (0, range(5))))
    got = dict(members(Path(curated.paths()[0])))
    for i, key in enumerate(keys):
        assert (got[f"{key}.png"], got[f"{key}.cls"], got[f"{key}.left.txt"]) == (numbered(i), b"%d" % i, b"")
        assert json.loads(got[f"{key}.tamis.json"])["sample"] == i
    assert sorted(store.datasets.add("again", curated.paths()).keys()) == sorted(keys)


def test_two_members_of_one_name(store: Store, tmp_path: Path, write: Write, select: Select) -> None:
    twice = [("a", {"png": numbered(0), "txt": b"1", "TXT": b"2"}), ("b", {"png": numbered(1)})]
    dataset = store.datasets.add("twice", [write(tmp_path / "twice.tar", twice)], label=None)
    with pytest.raises(ShardError, match="Sample a of twice@1 has two members of one name"):
        materialize(store, select(dataset, (0, [0, 1])))
    assert materialize(store, select(dataset, (0, [1]))).samples == 1


def test_the_example_trains_without_tamis(store: Store, some: Selection) -> None:
    source = EXAMPLE.read_text()
    assert "import tamis" not in source
    assert "from tamis" not in source
    paths = materialize(store, some, shard_size=SIZE).paths()
    command = [sys.executable, str(EXAMPLE), *paths, "--epochs", "6", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(" samples")[0] for line in lines] == [f"epoch {n}: 600" for n in range(6)]
    assert float(lines[-1].split(",")[1].split("%")[0]) > 60


@pytest.mark.parametrize("key", ["../up", "../../etc/up", "/etc/up", "a/../up", "a/b/../../../up", "//up", "/../up"])
def test_names_that_lead_out_of_a_folder_are_refused(
    store: Store, tmp_path: Path, write: Write, select: Select, key: str
) -> None:
    members = {"png": numbered(0), "cls": b"0"}
    shard = write(tmp_path / "out.tar", [("fine", members), (key, members)])
    dataset = store.datasets.add("out", [shard])
    with pytest.raises(ShardError, match=re.escape(f"Sample {key!r} of out@1 is not copied")):
        materialize(store, select(dataset, (0, [0, 1])), str(tmp_path / "curated"))
    assert not list(tmp_path.glob("curated/*.tar"))
    made = materialize(store, select(dataset, (0, [0])), str(tmp_path / "curated"))
    assert made.samples == 1


def test_names_that_only_look_like_it_are_kept(store: Store, tmp_path: Path, write: Write, select: Select) -> None:
    keys = ["./a", "b/./c", "...d/e", "f/..g/h", "C:j", "k..l/m"]
    samples = [(key, {"png": numbered(0), "cls": b"0"}) for key in keys]
    dataset = store.datasets.add("odd", [write(tmp_path / "odd.tar", samples)])
    made = materialize(store, select(dataset, (0, range(len(keys)))))
    with tarfile.open(made.paths()[0]) as tar:
        tar.extractall(tmp_path / "extracted", filter="data")
    assert len(list((tmp_path / "extracted").rglob("*.cls"))) == len(keys)


def test_many_members_in_one_sample(store: Store, tmp_path: Path, write: Write, select: Select) -> None:
    """As many as there are, each under its name."""
    members = {"png": numbered(0), "cls": b"0"} | {f"m{i}": b"%d" % i for i in range(20_000)}
    dataset = store.datasets.add("many", [write(tmp_path / "many.tar", [("s", members)])])
    made = materialize(store, select(dataset, (0, [0])))
    with tarfile.open(made.paths()[0]) as tar:
        found = {one.name.removeprefix("s."): one.size for one in tar}
    assert found.pop("tamis.json") > 0
    assert found == {name: len(data) for name, data in members.items()}
