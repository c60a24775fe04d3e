"""Worker processes: the same batches in the same order, resumed with any number of them; they die, are killed and
interrupted without a hang, and leave nobody behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import active_children, forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered import Write, png
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import ShardChanged
from tamis.training.errors import StateMismatch, WorkerDied
from tamis.training.streaming import spawning
from tamis.training.streaming import workers as pool
from tamis.training.streaming.batches import SHARED, Batch, RawBatch
from tamis.training.streaming.stream import SelectionStream
from tamis.training.streaming.workers import in_workers, worker_context

CHILD = Path(__file__).with_name("streaming_child.py")
SIZE = 4  # of batches: 60 samples are 15 of them
FORMS = ["batches", "samples"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than the machine has cores
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata 0.11 calls it
]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> Iterator[None]:
    """The fork server loads torch once, before the first test waits for it; no test leaves a worker."""
    worker_context()
    yield
    assert active_children() == []


def stream_of(store: Store, dataset: Dataset, **options: Any) -> SelectionStream:
    return SelectionStream(store, dataset, **{"seed": 3, "batch_size": SIZE} | options)


def content(batch: Batch | RawBatch) -> list[object]:
    """All that a batch holds, comparable."""
    data: object
    if isinstance(batch, Batch):
        data = batch.images.tolist()
    else:
        data = {name: [bytes(member) for member in members] for name, members in batch.members.items()}
    return [data, batch.labels.tolist(), batch.weights.tolist(), batch.samples.tolist()]


def numbers(item: Any) -> list[int]:
    """The samples of what a loader gives: a batch, or a list of dicts."""
    return [d["__sample__"] for d in item] if isinstance(item, list) else item.samples.tolist()


def order(store: Store, dataset: Dataset, epoch: int) -> list[int]:
    return [s for batch in stream_of(store, dataset).raw(epoch) for s in batch.samples.tolist()]


@pytest.mark.parametrize("form", ["epoch", "raw"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_batches_are_those_of_no_worker(store: Store, sixty: Dataset, form: str, workers: int) -> None:
    """Also of one rank of two, also more workers than batches."""
    for options in ({}, {"rank": 1, "world": 2, "drop_last": True}, {"batch_size": 50}):
        alone, helped = stream_of(store, sixty, **options), stream_of(store, sixty, **options)
        expected = [(content(b), alone.state_dict()) for b in getattr(alone, form)(1)]
        found = [(content(b), helped.state_dict()) for b in getattr(helped, form)(1, workers=workers)]
        assert found == expected
        assert (helped.samples_read, helped.bytes_read) == (alone.samples_read, alone.bytes_read)


def test_large_raw_batches_come_in_shared_memory(store: Store, tmp_path: Path, write: Write) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 300, 300, 3), np.uint8)
    images = [png(each) for each in noise]
    shard = write(tmp_path / "large.tar", [(f"s{i:02d}", {"png": data}) for i, data in enumerate(images)])
    stream = SelectionStream(store, store.datasets.add("large", [shard], label=None), batch_size=5)
    before = len(os.listdir("/proc/self/fd"))
    batches = list(stream.raw(0, workers=2))
    assert len(os.listdir("/proc/self/fd")) == before, "batches that are kept must not keep files open"
    for batch in batches:
        assert (batch.shared is not None) == (sum(map(len, batch.members["png"])) >= SHARED)
        assert [bytes(m) for m in batch.members["png"]] == [images[s] for s in batch.samples.tolist()]
    assert [len(b.samples) for b in batches] == [5, 5, 2]
    assert batches[0].shared is not None
    assert batches[2].shared is None


def test_images_never_lie_in_dev_shm(store: Store, tmp_path: Path, write: Write) -> None:
    """It has 64 MB in a container, and who finds it full waits for ever. Also with a loader of one's own."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), np.uint8)
    shard = write(tmp_path / "large.tar", [(f"s{i}", {"png": png(each)}) for i, each in enumerate(noise)])
    stream = SelectionStream(
        store, store.datasets.add("large", [shard], label=None), batch_size=2, yields="batches", shuffle=False
    )
    stock = DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context=worker_context())
    for batches in (list(stream.epoch(0, workers=2)), list(stock)):
        images = torch.cat([batch.images for batch in batches])
        assert (images.permute(0, 2, 3, 1).numpy() == noise).all()
        assert all(batch.images.stride() == stream_of_one(stream).stride() for batch in batches)
        assert Path("/proc/self/maps").read_text().count("memfd:tamis") >= 2
        assert "/dev/shm/torch" not in Path("/proc/self/maps").read_text()


def stream_of_one(stream: SelectionStream) -> torch.Tensor:
    """A batch's images as no worker gives them."""
    return next(stream.epoch(0)).images


@pytest.mark.parametrize(("first", "then"), [(2, 0), (0, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("stop", [0, 5, 15])
def test_a_state_goes_on_with_another_number(store: Store, sixty: Dataset, first: int, then: int, stop: int) -> None:
    stream, later = stream_of(store, sixty), stream_of(store, sixty, batch_size=7)
    batches = stream.raw(2, workers=first)
    seen = [s for _ in range(stop) for s in next(batches).samples.tolist()]
    state = stream.state_dict()
    batches.close()
    assert active_children() == []
    if not stop:  # not even begun
        assert state == stream_of(store, sixty).state_dict()
        return
    assert state == {"selection": sixty.key, "seed": 3, "epoch": 2, "samples_consumed": SIZE * stop}
    later.load_state_dict(state)
    assert seen + [s for b in later.epoch(2, workers=then) for s in b.samples.tolist()] == order(store, sixty, 2)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_stock_loader(store: Store, sixty: Dataset, form: str, persistent: bool) -> None:
    stream = stream_of(store, sixty, yields=form)
    loader = DataLoader(stream, num_workers=2, persistent_workers=persistent, **how(form))
    for epoch in (0, 1, 5):
        stream.set_epoch(epoch)
        found = list(loader)
        assert [len(numbers(item)) for item in found] == [SIZE] * 15
        assert [s for item in found for s in numbers(item)] == order(store, sixty, epoch)


def how(form: str) -> dict[str, Any]:
    """What a loader is told besides the number of workers."""
    if form == "batches":
        return {"batch_size": None, "multiprocessing_context": "forkserver"}
    return {"batch_size": SIZE, "collate_fn": as_they_are, "multiprocessing_context": "forkserver"}


def as_they_are(samples: list[dict[str, object]]) -> list[dict[str, object]]:
    return samples


def stateful(store: Store, dataset: Dataset, form: str, workers: int, **more: Any) -> tuple[SelectionStream, Any]:
    stream, options = stream_of(store, dataset, yields=form), how(form) | more
    if not workers:
        del options["multiprocessing_context"]
    return stream, StatefulDataLoader(stream, num_workers=workers, **options)


def stopped(store: Store, dataset: Dataset, form: str, workers: int, stop: int) -> tuple[list[int], dict[str, Any]]:
    """What a loader gave of epoch 1 before it stopped, and the state that it left."""
    stream, loader = stateful(store, dataset, form, workers)
    stream.set_epoch(1)
    items = iter(loader)
    return [s for _ in range(stop) for s in numbers(next(items))], loader.state_dict()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 6, 14, 15])
def test_torchdatas_loader_resumes(store: Store, sixty: Dataset, form: str, workers: int, stop: int) -> None:
    """As it does by itself; and through the stream, with any number of workers or none."""
    seen, state = stopped(store, sixty, form, workers, stop)
    whole = order(store, sixty, 1)
    _, loader = stateful(store, sixty, form, workers)
    loader.load_state_dict(state)
    assert seen + [s for item in loader for s in numbers(item)] == whole

    for other in {0, 3} if form == "batches" else {2 - workers}:
        stream, loader = stateful(store, sixty, form, other)
        stream.load_state_dict(state)
        assert stream.state_dict() == {"selection": sixty.key, "seed": 3, "epoch": 1, "samples_consumed": SIZE * stop}
        assert seen + [s for item in loader for s in numbers(item)] == whole

    stream = stream_of(store, sixty, batch_size=9)
    stream.load_state_dict(state)
    assert seen + [s for batch in stream.epoch(1) for s in batch.samples.tolist()] == whole


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("every", "stop"), [(5, 4), (5, 13), (4, 15), (100, 7)])
def test_a_state_between_two_snapshots_counts_the_steps_since(
    store: Store, sixty: Dataset, workers: int, every: int, stop: int
) -> None:
    """Through the stream, read with any number of workers; the loader takes up its own state by itself."""
    _, loader = stateful(store, sixty, "batches", workers, snapshot_every_n_steps=every)
    items = iter(loader)
    seen = [s for _ in range(stop) for s in numbers(next(items))]
    state, whole = loader.state_dict(), order(store, sixty, 0)
    del items
    stream = stream_of(store, sixty, batch_size=7)
    stream.load_state_dict(state)
    assert stream.state_dict()["samples_consumed"] == SIZE * stop
    assert seen + [s for batch in stream.epoch(0) for s in batch.samples.tolist()] == whole
    stream, other = stateful(store, sixty, "batches", 2 - workers)
    stream.load_state_dict(state)
    assert seen + [s for item in other for s in numbers(item)] == whole


@pytest.mark.parametrize(("batch", "every", "stop"), [(SIZE, 5, 3), (3, 1, 3), (3, 4, 6), (2 * SIZE, 2, 3)])
def test_a_state_whose_steps_are_not_the_streams_batches_is_refused(
    store: Store, sixty: Dataset, batch: int, every: int, stop: int
) -> None:
    """One worker is then ahead of another, or nothing says by how much; the stream would give samples twice."""
    _, loader = stateful(store, sixty, "samples", 2, snapshot_every_n_steps=every, batch_size=batch)
    items = iter(loader)
    for _ in range(stop):
        next(items)
    with pytest.raises(StateMismatch, match="are not known to be whole batches"):
        stream_of(store, sixty).load_state_dict(loader.state_dict())


@pytest.mark.parametrize("workers", [0, 2])
def test_after_a_whole_epoch_torchdatas_loader_begins_the_next(store: Store, sixty: Dataset, workers: int) -> None:
    first, loader = stateful(store, sixty, "batches", workers)
    first.set_epoch(1)
    assert len(list(loader)) == 15
    state = loader.state_dict()
    stream, loader = stateful(store, sixty, "batches", workers)
    stream.set_epoch(2)
    loader.load_state_dict(state)
    assert [s for item in loader for s in numbers(item)] == order(store, sixty, 2)


def test_a_loader_state_of_two_workers_is_not_for_one(store: Store, sixty: Dataset) -> None:
    _, state = stopped(store, sixty, "batches", 2, 3)
    _, loader = stateful(store, sixty, "batches", 1)
    loader.load_state_dict(state)
    with pytest.raises(StateMismatch, match="Worker 0 of 1 got the state of worker 0 of 2: give the loader's whole"):
        list(loader)


def test_an_error_in_a_worker_is_the_error_itself(store: Store, sixty: Dataset) -> None:
    os.truncate(sixty.shards[1].uri, 4096)
    said: list[str] = []
    for workers in (0, 2):
        with pytest.raises(ShardChanged, match=r"sixty-25\.tar") as caught:
            list(stream_of(store, sixty).epoch(0, workers=workers))
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert active_children() == []


@pytest.mark.parametrize("wait", [0, 0.5])  # then the worker is amid its work, or has delivered what it may
def test_a_killed_worker_is_told_and_the_state_goes_on(store: Store, sixty: Dataset, wait: float) -> None:
    stream = stream_of(store, sixty, batch_size=2)
    batches = stream.epoch(0, workers=2)
    seen = [s for _ in range(3) for s in next(batches).samples.tolist()]
    time.sleep(wait)
    [pid, _] = [worker.pid for worker in active_children()]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match=rf"process {pid}, exit code -9\): it was killed, or .* Resume from the last"):
        seen.extend(s for batch in batches for s in batch.samples.tolist())
    assert active_children() == []
    assert 6 <= len(seen) < 60
    later = stream_of(store, sixty)
    later.load_state_dict(stream.state_dict())
    assert seen + [s for batch in later.epoch(0, workers=2) for s in batch.samples.tolist()] == order(store, sixty, 0)


@pytest.mark.parametrize("after", ["ready", "batch 2"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_end_from_outside_leaves_nobody(store: Store, sixty: Dataset, after: str, sent: signal.Signals) -> None:
    """Ctrl-C goes to all processes of the job, SIGKILL here to the main one alone; while workers start and later."""
    command = [sys.executable, CHILD, str(store.root.url), "sixty"]
    job = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert job.stdout is not None
    while (line := job.stdout.readline().strip()) != after:
        assert line or job.poll() is None, job.communicate()
    if sent == signal.SIGINT:
        os.killpg(job.pid, sent)
    else:
        job.kill()
    try:
        _, said = job.communicate(timeout=60)
        assert job.returncode == -sent, said
        _until(lambda: not alive(job.pid))
    finally:
        if alive(job.pid):
            os.killpg(job.pid, signal.SIGKILL)
    if sent == signal.SIGINT:
        assert said.count("Traceback") == 1, said
        assert said.rstrip().endswith("KeyboardInterrupt")


def test_a_worker_that_gives_no_sign_of_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_TICK", 0.2)
    monkeypatch.setattr(pool, "_LEAVING", 0.1)
    results = in_workers([partial(sleeping, 1)], alone, first)
    assert next(results) == 0
    monkeypatch.setattr(spawning, "PATIENCE", 1)
    with pytest.raises(WorkerDied, match=r"process \d+ of the stream gave no sign of life for 1 s"):
        list(results)
    _until(lambda: not active_children())  # killed, and gone once the machine comes to it


def sleeping(count: int) -> Iterator[int]:
    yield from range(count)
    time.sleep(10_000)


def alone(result: Any) -> tuple[Any, None]:
    return result, None


def first(result: Any, _: object) -> Any:
    return result


class Odd(Exception):
    """Cannot be unpickled."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def raising(error: str) -> Iterator[int]:
    yield 1
    if error == "key":
        raise KeyError("no such thing")
    if error == "odd":
        raise Odd("this", "that")
    if error == "exit":
        os._exit(3)
    raise SystemExit("enough")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("key", KeyError, "no such thing"),
        ("odd", WorkerDied, "failed: Odd: this and that"),
        ("exit", WorkerDied, r"exit code 3\): it failed before it could say why here"),
        ("leave", WorkerDied, r"exit code 1\): it failed before it could say why here"),
    ],
)
def test_what_a_worker_raises_keeps_its_text(error: str, kind: type[Exception], words: str) -> None:
    found: list[int] = []
    with pytest.raises(kind, match=words) as caught:
        found.extend(in_workers([partial(raising, error), partial(raising, error)], alone, first))
    assert found == [1, 1]
    assert ("in raising" in "".join(getattr(caught.value, "__notes__", []))) == (error == "key")
    assert active_children() == []


def test_a_worker_starts_no_workers(store: Store, sixty: Dataset) -> None:
    """Python lets daemons have no children; it says so by an assertion."""
    stream = stream_of(store, sixty)
    with pytest.raises(WorkerDied, match=r"cannot start workers: use workers=0"):
        list(in_workers([partial(stream.raw, 0, workers=1)], alone, first))


@pytest.mark.nightly
def test_a_killed_server_is_started_again(store: Store, sixty: Dataset) -> None:
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    found = [s for b in stream_of(store, sixty).raw(0, workers=2) for s in b.samples.tolist()]
    assert found == order(store, sixty, 0)


UNGUARDED = """
import sys
from tamis.store import Store
from tamis.training import SelectionStream
class Mine(SelectionStream):
    pass
store = Store.open({url!r})
stream = Mine(store, store.datasets.get("sixty"), batch_size=8)
found = [s for batch in stream.epoch(0, workers=2) for s in batch.samples.tolist()]
print(sorted(found) == list(range(60)), len(found))
"""
NO_SHM = "mount -t tmpfs -o size=64k,ro none /dev/shm && exec"


@pytest.mark.parametrize(
    ("how", "around"),
    [
        ("- < {file}", ""),
        ("{file}", NO_SHM),
        pytest.param("-m unguarded", "", marks=pytest.mark.nightly),
        pytest.param('-c "$(cat {file})"', "", marks=pytest.mark.nightly),
        pytest.param("{file}", "mount -t tmpfs -o size=4M none /dev/shm && exec", marks=pytest.mark.nightly),
    ],
)
def test_workers_need_nothing_of_the_program(
    store: Store, sixty: Dataset, tmp_path: Path, how: str, around: str
) -> None:
    """A script without `if __name__ == "__main__"`, with a class of its own; where /dev/shm is of no use, too."""
    file = tmp_path / "unguarded.py"
    file.write_text(UNGUARDED.format(url=store.root.url))
    command = ["bash", "-c", f"{around} {sys.executable} {how.format(file=file)}"]
    inside = ["unshare", "-rm", *command] if around else command
    done = subprocess.run(inside, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    if around and done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("no leave to mount here")
    assert (done.returncode, done.stdout.strip()) == (0, "True 60"), done.stderr


@pytest.mark.nightly
def test_what_only_the_program_has_is_named(store: Store, sixty: Dataset, tmp_path: Path) -> None:
    """A loader of one's own with a function out of a program that no worker can import."""
    program = """
from tamis.training.streaming.workers import worker_context
def mine(): pass
worker_context().Process(target=mine).start()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it needs mine, which is defined in the program itself" in done.stderr.strip().splitlines()[-1]


def alive(group: int) -> list[str]:
    """The processes of a group that run."""
    found: list[str] = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = each.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # gone by now
            continue
        if int(its_group) == group and state != "Z":
            found.append(each.parent.name)
    return found


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_have_the_environment_of_now(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fork server has run for long: credentials and folders that were named since must reach its workers."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "elsewhere"))
    stream = SelectionStream(store, dataset)
    (process := worker_context().Process(target=_expect_folder, args=(stream, tmp_path / "elsewhere"))).start()
    process.join()
    assert process.exitcode == 0


def _expect_folder(_: SelectionStream, folder: Path) -> None:
    assert os.environ["TAMIS_CACHE"] == str(folder)
