"""Reading byte ranges: the bytes of what was asked for, few calls, and clear words when a shard is not what it was."""

import gc
import os
import resource
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered import Write, numbered, open_shards

from tamis.store import Store
from tamis.store.datasets import Dataset, Locations
from tamis.store.errors import ShardChanged
from tamis.training.errors import SchemeRefused
from tamis.training.streaming import files
from tamis.training.streaming.local import LocalReader, merge
from tamis.training.streaming.readers import Media, open_reader

ranges = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000), st.integers(0, 300)), max_size=40)


def reader_of(dataset: Dataset, **options: int) -> LocalReader:
    return LocalReader(dataset.shards, lambda s: dataset.keys([s])[0], **options)


def locations(found: list[tuple[int, int, int]]) -> Locations:
    table = np.array(found, np.int64).reshape(-1, 3)
    return Locations(table[:, 0].astype(np.int32), table[:, 1], table[:, 2])


@given(found=ranges, gap=st.integers(0, 500))
def test_merged_ranges_hold_every_member_once(found: list[tuple[int, int, int]], gap: int) -> None:
    where = locations(found)
    plan = merge(where, gap)
    read = list(zip(plan.shards.tolist(), plan.offsets.tolist(), plan.lengths.tolist(), strict=True))
    laid = np.array([(shard, byte) for shard, a, n in read for byte in range(a, a + n)], np.int64).reshape(-1, 2)
    for (shard, offset, size), start in zip(found, plan.starts.tolist(), strict=True):
        assert laid[start : start + size, 0].tolist() == [shard] * size
        assert laid[start : start + size, 1].tolist() == list(range(offset, offset + size))
    assert len(np.unique(laid, axis=0)) == len(laid)  # no byte is read twice
    assert read == sorted(read)
    assert all(a[0] != b[0] or b[1] - a[1] - a[2] > gap for a, b in pairwise(read))


def test_reads_members_in_any_order_and_repeatedly(sixty: Dataset) -> None:
    samples = np.array([59, 3, 3, 30, 0, 4])
    where = sixty.locations()
    with reader_of(sixty) as reader:
        found = reader.read(samples, Locations(where.shard[samples], where.offset[samples], where.size[samples]))
    for sample, view in zip(samples, found.views(), strict=True):
        data = Path(sixty.shards[where.shard[sample]].uri).read_bytes()
        assert view.tobytes() == data[where.offset[sample] : where.offset[sample] + where.size[sample]]


def test_readers_of_a_process_share_its_limit(sixty: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one reader does not use is closed for another, and opened again when it is read again."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(files, "SHARE", 2.5 / soft)  # two open shards
    where, every = sixty.locations(), np.array([0, 30, 55])
    some = Locations(where.shard[every], where.offset[every], where.size[every])
    expected = [Path(sixty.shards[where.shard[s]].uri).read_bytes()[where.offset[s] :][: where.size[s]] for s in every]
    with reader_of(sixty) as one, reader_of(sixty) as other:
        for _ in range(2):
            for reader in (one, other):
                assert reader.each(every, some) == expected
                assert open_shards() <= 2
    assert open_shards() == 0


def test_large_members_are_mapped_only_while_maps_are_few(
    store: Store, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each map costs a descriptor for as long as what was read lives."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(files, "SHARE", 8.5 / soft)  # four maps
    data = [np.random.default_rng(i).bytes(20_000) for i in range(8)]
    shards = [write(tmp_path / f"large-{i}.tar", [(f"s{i}", {"png": data[i]})]) for i in range(8)]
    dataset = store.datasets.add("large", shards, label=None)
    where, kept = dataset.locations(), list[bytes | memoryview]()
    with reader_of(dataset) as reader:
        for sample in range(8):
            one = np.array([sample])
            kept += reader.views(one, Locations(where.shard[one], where.offset[one], where.size[one]))
    assert [bytes(each) for each in kept] == data
    assert open_shards() <= 4
    del kept
    gc.collect()
    assert open_shards() == 0


CHILD = """
import gc, sys
from tamis.store import Store
from tamis.training import SelectionStream
store = Store.open(sys.argv[1])
data = store.datasets.get("many")
streams = [iter(SelectionStream(store, data, batch_size=50, seed=seed).raw(0)) for seed in range(3)]
found = [[s for step in range(6) for s in next(stream).samples.tolist()] for stream in streams]
print([sorted(each) == list(range(300)) for each in found])
"""


def test_more_shards_than_files_may_be_open(store: Store, tmp_path: Path, write: Write) -> None:
    """Three streams at once over 300 shards, where a process may have 64 files open."""
    shards = [write(tmp_path / f"m{i:03d}.tar", [(f"s{i:03d}", {"png": numbered(i), "cls": b"0"})]) for i in range(300)]
    store.datasets.add("many", shards, digests=False)
    command = f'ulimit -n 64; exec "{sys.executable}" -c \'{CHILD}\' "{store.root.url}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[True, True, True]"), done.stderr


def read_all(dataset: Dataset) -> None:
    with reader_of(dataset) as reader:
        reader.read(np.arange(dataset.samples), dataset.locations())


def test_a_missing_shard_is_named(sixty: Dataset) -> None:
    Path(sixty.shards[1].uri).unlink()
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar is missing"):
        read_all(sixty)


def test_a_replaced_shard_is_named(sixty: Dataset) -> None:
    path = Path(sixty.shards[1].uri)
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar changed"):
        read_all(sixty)


def test_a_shard_that_was_only_touched_is_read(sixty: Dataset) -> None:
    os.utime(sixty.shards[1].uri, ns=(1, 1))
    read_all(sixty)


def test_a_shard_of_another_size_is_named(sixty: Dataset) -> None:
    os.truncate(sixty.shards[2].uri, 5000)
    with pytest.raises(ShardChanged, match=r"sixty-50\.tar.*has 5000"):
        read_all(sixty)


def test_a_shard_cut_short_while_it_is_open_names_shard_and_sample(sixty: Dataset) -> None:
    where = sixty.locations()
    first = np.array([0])
    with reader_of(sixty) as reader:
        reader.read(first, Locations(where.shard[first], where.offset[first], where.size[first]))
        os.truncate(sixty.shards[0].uri, int(where.offset[20]) + 10)
        with pytest.raises(ShardChanged, match=r"sixty-0\.tar ends at byte \d+, and sample s020 \(number 20\)"):
            reader.read(np.arange(60), where)


@pytest.mark.parametrize(
    "uri", ["pipe:touch witness", "http://host/a.tar", "s3:bucket/a.tar;ls", "file:///a.tar", "relative.tar", ""]
)
def test_other_addresses_are_refused(sixty: Dataset, uri: str) -> None:
    shards = (*sixty.shards[:2], replace(sixty.shards[2], uri=uri))
    with pytest.raises(SchemeRefused, match="not opened"):
        open_reader(shards, str, Media())


def test_one_reader_reads_one_medium(sixty: Dataset) -> None:
    shards = (*sixty.shards[:2], replace(sixty.shards[2], uri="s3://bucket/a.tar"))
    with pytest.raises(SchemeRefused, match="several media"):
        open_reader(shards, str, Media())


@pytest.fixture
def large(store: Store, tmp_path: Path, write: Write) -> tuple[Dataset, list[bytes]]:
    """12 members of 20,000 bytes in two shards; text, for nobody decodes them."""
    data = [np.random.default_rng(i).bytes(20_000) for i in range(12)]
    shards = [
        write(tmp_path / f"large-{a}.tar", [(f"s{i:02d}", {"png": data[i]}) for i in range(a, a + 6)]) for a in (0, 6)
    ]
    return store.datasets.add("large", shards, label=None), data


def says_what_is_in_memory(path: str | Path) -> bool:
    """Whether the operating system says of a file's first byte that it is in memory; asking may bring it there."""
    with open(path, "rb") as file:
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except OSError:
            return False


def forget(path: str | Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_large_members_in_memory_are_mapped_and_outlive_the_reader(large: tuple[Dataset, list[bytes]]) -> None:
    """Where the file system cannot say what is in memory, they are copied."""
    dataset, data = large
    expected = memoryview if says_what_is_in_memory(dataset.shards[0].uri) else bytes
    with reader_of(dataset) as reader:
        found = reader.views(np.arange(12), dataset.locations())
        assert {type(one) for one in found} == {expected}
        assert reader.bytes_read == 12 * 20_000
        assert all(one.readonly for one in found if isinstance(one, memoryview))
    assert [bytes(one) for one in found] == data


def test_large_members_on_the_disk_are_read(large: tuple[Dataset, list[bytes]], tmp_path: Path) -> None:
    dataset, data = large
    (tmp_path / "probe").write_bytes(bytes(4096))
    forget(tmp_path / "probe")
    if says_what_is_in_memory(tmp_path / "probe"):
        pytest.skip("this file system keeps in memory what it was told to forget: nothing lies on a disk only")
    for shard in dataset.shards:
        forget(shard.uri)
    with reader_of(dataset) as reader:
        found = reader.views(np.arange(12), dataset.locations())
        assert {type(one) for one in found} == {bytes}
    assert found == data


def test_a_mapped_shard_cut_short_is_named_and_not_touched(large: tuple[Dataset, list[bytes]]) -> None:
    dataset, _ = large
    with reader_of(dataset) as reader:
        reader.views(np.arange(12), dataset.locations())
        os.truncate(dataset.shards[1].uri, 60_000)
        with pytest.raises(ShardChanged, match=r"large-6\.tar ends at byte 60000, and sample s08 \(number 8\)"):
            reader.views(np.arange(12), dataset.locations())


def test_small_members_are_copied(sixty: Dataset) -> None:
    with reader_of(sixty) as reader:
        assert {type(one) for one in reader.views(np.arange(60), sixty.locations())} == {bytes}
