"""Training as a question with a key: answered once, exact when it was interrupted, clear when it cannot be answered."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import Select, Write, numbered
from pydantic import ValidationError
from strict import STRICT

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import DatasetNotFound, SelectionError, SelectionNotFound, ShardChanged
from tamis.training.devices import describe, pick_device
from tamis.training.errors import DeviceError, LabelError, ModelFailed, NonFiniteLoss, UnknownModelError, WrongKind
from tamis.training.job import TrainConfig, TrainResult, find, train
from tamis.training.models.weights import pack_checkpoint
from tamis.training.planning import model_code, plan
from tamis.training.signals.outputs import load_model

QUICK = TrainConfig(dataset="digits", model="preact8", epochs=2, batch_size=64, channels=1, augment="crop-flip")


@pytest.fixture
def judged(store: Store, dataset: Dataset, digits: dict[str, list[Path]]) -> Dataset:
    return store.datasets.add("digits-test", digits["test"])


def changed(config: TrainConfig, **fields: object) -> TrainConfig:
    return TrainConfig(**(config.model_dump() | fields))


def checkpoints(store: Store) -> list[str]:
    return [name for name, _ in store.root.list("checkpoints")]


@pytest.fixture
def spoken() -> list[str]:
    return []


def test_learns_digits_and_keeps_the_books(store: Store, dataset: Dataset, judged: Dataset, spoken: list[str]) -> None:
    config = changed(QUICK, evaluate_on="digits-test", augment="none", record_losses=True, epochs=3)
    seen: list[tuple[int, int]] = []
    result = train(store, config, progress=lambda *at: seen.append(at), notify=spoken.append)
    run = result.run
    steps = -(-dataset.samples // 64)
    assert (result.cached, result.confirmed, spoken) == (False, None, [])
    assert (run.kind, run.dataset, run.model, run.status) == ("train", "digits@1", "preact8", "finished")
    assert run.metrics["accuracy"] > 0.9
    assert run.metrics["device"] == describe(pick_device("auto"))
    assert run.metrics["steps"] == 3 * steps
    assert run.metrics["samples_read"] == 3 * dataset.samples
    assert 0 < run.metrics["bytes_read"] < 3 * dataset.extents().size.sum()
    assert seen == [(i, 3 * steps) for i in range(1, 3 * steps + 1)]
    assert 0 < run.seconds["train"] + run.seconds["evaluate"] <= run.seconds["total"]
    assert 0 < run.seconds["stream"] < run.seconds["train"]
    assert checkpoints(store) == []
    found = store.query(
        "select epoch, count(*) n, min(sample) a, max(sample) b, avg(loss) l from losses group by 1 order by 1"
    )
    rows = found.to_pylist()
    assert [(r["epoch"], r["n"], r["a"], r["b"]) for r in rows] == [
        (e, dataset.samples, 0, dataset.samples - 1) for e in range(3)
    ]
    assert rows[2]["l"] == pytest.approx(run.metrics["train_loss"], rel=1e-5)
    assert rows[0]["l"] > rows[2]["l"]


def test_a_second_call_answers_at_once(store: Store, dataset: Dataset) -> None:
    first = train(store, QUICK)
    seen: list[tuple[int, int]] = []
    again = train(store, QUICK, progress=lambda *at: seen.append(at))
    assert again == TrainResult(first.run, cached=True)
    assert seen == []
    assert find(store, QUICK) == first.run
    assert find(store, changed(QUICK, seed=1)) is None


def test_a_cached_answer_loads_no_torch(store: Store, dataset: Dataset) -> None:
    train(store, changed(QUICK, epochs=1))
    code = (
        "import sys; from tamis.store import Store; from tamis.training.job import TrainConfig, train;"
        "config = TrainConfig.model_validate_json(sys.argv[2]);"
        "assert train(Store.open(sys.argv[1]), config).cached; assert 'torch' not in sys.modules"
    )
    config = changed(QUICK, epochs=1).model_dump_json()
    subprocess.run([*STRICT, "-c", code, store.root.url, config], check=True)


def test_force_trains_again_and_confirms(store: Store, dataset: Dataset) -> None:
    first = train(store, QUICK)
    again = train(store, QUICK, force=True)
    assert again == TrainResult(first.run, cached=False, confirmed=True)
    assert len(store.runs.all()) == 1
    assert checkpoints(store) == []


def test_force_on_something_new_just_trains(store: Store, dataset: Dataset) -> None:
    result = train(store, changed(QUICK, epochs=1), force=True)
    assert (result.cached, result.confirmed, result.run.status) == (False, None, "finished")


def test_the_key_covers_what_matters_and_nothing_else(store: Store, dataset: Dataset, judged: Dataset) -> None:
    key = plan(store, QUICK).key
    assert plan(store, changed(QUICK, dataset="digits@1")).key == key
    others = [
        {"seed": 1}, {"epochs": 3}, {"lr": 0.05}, {"model": "preact20"}, {"evaluate_on": "digits-test"},
        {"record_losses": True}, {"dataset": "digits-test"}, {"image_size": 8}, {"weight_decay": 0.0}, {"channels": 3},
    ]  # fmt: skip
    keys = {plan(store, changed(QUICK, **other)).key for other in others}
    assert len(keys | {key}) == len(others) + 1


def test_the_key_covers_a_users_own_code(
    store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_code_for_a_test.py"
    path.write_text("raise SystemExit('finding it must not run it')")
    config = changed(QUICK, model="own_code_for_a_test:make")
    first = plan(store, config).key
    path.write_text("# another")
    assert plan(store, config).key != first
    assert model_code("preact20") is model_code("no_such_module:make") is model_code(":x") is None


@pytest.fixture
def half(dataset: Dataset, select: Select):
    return select(dataset, (0, list(range(0, 1200, 2))), weights=[1.0 + i % 3 for i in range(600)])


def test_trains_on_a_selection_alone(store: Store, dataset: Dataset, half) -> None:
    config = changed(QUICK, selection=half.ref, record_losses=True)
    run = train(store, config).run
    assert run.selection == half.key
    assert run.metrics["samples_read"] == 2 * 600
    # Nothing but the chosen images: every second sample has no neighbour whose gap could be read along.
    assert run.metrics["bytes_read"] == 2 * int(dataset.locations().size[0:1200:2].sum())
    found = store.query("select distinct sample from losses order by 1")["sample"].to_numpy()
    assert np.array_equal(found, np.arange(0, 1200, 2))


def test_weights_change_what_is_learned(store: Store, dataset: Dataset, half, select: Select) -> None:
    even = select(
        dataset,
        (
            0,
            list(range(0, 1200, 2)),
        ),
        (5, [0]),
        weights=None,
    )
    assert even.key != half.key
    blobs = {train(store, changed(QUICK, selection=s.ref, epochs=1)).run.blob for s in (half, even)}
    assert len(blobs) == 2


def test_a_selection_of_another_dataset_is_refused(store: Store, sixty: Dataset, half) -> None:
    with pytest.raises(SelectionError, match=r"is of digits@1, not of sixty"):
        train(store, changed(QUICK, dataset="sixty", selection=half.ref))


CHILD = """
import sys, time, torch
from tamis.store import Store
from tamis.training.job import TrainConfig, train
torch.set_num_threads(1)
stop = int(sys.argv[3])
def progress(done, total):
    if done == stop:
        print("reached", flush=True)
        time.sleep(600)
config = TrainConfig.model_validate_json(sys.argv[2])
train(Store.open(sys.argv[1]), config, device="cpu", checkpoint_every=5, progress=progress)
"""


def kill_at(store: Store, config: TrainConfig, step: int) -> None:
    """Train in a process of its own and kill it, with no chance to clean up, in the middle of a step's callback."""
    command = [sys.executable, "-c", CHILD, store.root.url, config.model_dump_json(), str(step)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reached\n"
        os.kill(child.pid, signal.SIGKILL)


# 24 steps an epoch: before the first checkpoint, in mid-epoch, twice in one run, in the last epoch.
@pytest.mark.parametrize("stops", [[3], [32], [7, 41], [48]])
def test_killed_and_run_again_gives_the_same_weights(
    store: Store, dataset: Dataset, tmp_path: Path, digits: dict[str, list[Path]], stops: list[int], spoken: list[str]
) -> None:
    config = changed(QUICK, record_losses=True, evaluate_on="digits")
    calm = Store.create(tmp_path / "calm")
    calm.datasets.add("digits", digits["train"])
    expected = train(calm, config, device="cpu").run
    for stop in stops:
        kill_at(store, config, stop)
        assert find(store, config) is None
    seen: list[int] = []
    run = train(store, config, device="cpu", progress=lambda done, _: seen.append(done), notify=spoken.append).run
    # The first 1,024 samples are read at once, for mean and deviation: there is no checkpoint among them.
    resumed = stops[-1] // 5 * 5 if stops[-1] > 16 else 0
    assert seen == list(range(resumed + 1, 49))
    epoch = resumed // 24  # of 24 steps
    assert spoken == ([f"Resuming run {run.key[:12]} at epoch {epoch}, step {resumed}."] if resumed else [])
    assert run.blob == expected.blob
    assert run.metrics == expected.metrics
    losses = [s.query("select epoch, sample, loss from losses order by all") for s in (store, calm)]
    assert losses[0].equals(losses[1])
    assert checkpoints(store) == []


def interrupt_at(store: Store, config: TrainConfig, step: int) -> None:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, config, device="cpu", checkpoint_every=4, progress=progress)


def test_an_interrupted_training_is_no_failure_and_goes_on(store: Store, dataset: Dataset) -> None:
    interrupt_at(store, QUICK, 30)
    [run] = store.runs.all()
    assert run.status == "running"
    assert len(checkpoints(store)) == 1
    assert train(store, QUICK).run.status == "finished"


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.witness),)


def signed(payload: bytes) -> bytes:
    head = pack_checkpoint({})
    return head[: head.index(b"\n") + 1] + hashlib.sha256(payload).digest() + payload


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "rubbish", "another run's", "another shape", "pickle"])
def test_a_bad_checkpoint_is_ignored_with_a_notice(
    store: Store, dataset: Dataset, damage: str, tmp_path: Path, spoken: list[str]
) -> None:
    config = changed(QUICK, epochs=1)
    expected = train(store, config).run
    other = Store.create(tmp_path / "other")
    other.datasets.add("digits", [s.uri for s in dataset.shards])
    interrupt_at(other, config, 22)
    [name] = checkpoints(other)
    good = other.root.get(name)
    assert good is not None
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {
        "empty": b"",
        "cut": good[:-100],
        "flipped": bytes(flipped),
        "rubbish": os.urandom(5000),
        "another run's": pack_checkpoint({"run": "0" * 32}),
        "another shape": pack_checkpoint({"run": expected.key, "stream": {}}),
        "pickle": signed(pickle.dumps(Evil(tmp_path / "witness"), protocol=2)),
    }
    other.root.put(name, bad[damage])
    run = train(other, config, notify=spoken.append).run
    assert run.blob == expected.blob
    assert len(spoken) == 1
    assert "is ignored; restarting from scratch" in spoken[0]
    assert not (tmp_path / "witness").exists()


def test_a_diverging_training_is_marked_failed(store: Store, dataset: Dataset) -> None:
    config = changed(QUICK, lr=1e30)
    with pytest.raises(NonFiniteLoss, match=r"losses are NaN or infinite in epoch 0, step \d+"):
        train(store, config)
    [run] = store.runs.all()
    assert run.status == "failed"
    assert run.error is not None
    assert run.error.startswith("NonFiniteLoss: ")
    assert find(store, config) is None
    with pytest.raises(NonFiniteLoss):
        train(store, config, checkpoint_every=2)


def test_a_shard_that_changed_fails_the_run_and_can_be_put_back(store: Store, sixty: Dataset) -> None:
    config = TrainConfig(dataset="sixty", model="preact8", epochs=1, batch_size=8)
    path = Path(sixty.shards[1].uri)
    kept, stat = path.read_bytes(), path.stat()
    os.truncate(path, 2048)
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar"):
        train(store, config)
    assert store.runs.all()[0].status == "failed"
    path.write_bytes(kept)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert train(store, config).run.metrics["samples_read"] == 60


def test_a_shard_with_a_pickle_trains_without_loading_it(store: Store, tmp_path: Path, write: Write) -> None:
    witness = tmp_path / "witness"
    poison = pickle.dumps(Evil(witness))
    samples = [(f"s{i}", {"png": numbered(i), "cls": b"%d" % (i % 2), "pkl": poison}) for i in range(20)]
    store.datasets.add("poisoned", [write(tmp_path / "poisoned.tar", samples)])
    run = train(store, TrainConfig(dataset="poisoned", model="preact8", epochs=1, evaluate_on="poisoned")).run
    assert run.metrics["samples_read"] == 20
    assert not witness.exists()


def test_the_model_carries_its_description(store: Store, dataset: Dataset) -> None:
    run = train(store, QUICK).run
    assert run.blob is not None
    model, meta = load_model(store, run.blob)
    assert (meta.model, meta.num_classes, meta.in_channels, meta.image_size) == ("preact8", 10, 1, None)
    assert meta.mean == pytest.approx([0.305], abs=0.01)
    assert meta.std == pytest.approx([0.376], abs=0.01)
    assert meta.classes == dataset.classes
    assert not model.training


def test_names_that_are_not_there(store: Store, dataset: Dataset) -> None:
    for fields, error in (
        ({"dataset": "digit"}, DatasetNotFound),
        ({"selection": "nothing"}, SelectionNotFound),
        ({"evaluate_on": "digits@7"}, DatasetNotFound),
        ({"model": "resnet19"}, UnknownModelError),
    ):
        with pytest.raises(error):
            train(store, changed(QUICK, **fields))
    assert store.runs.all() == []


def test_labels_are_needed_and_must_fit(store: Store, tmp_path: Path, write: Write) -> None:
    def add(name: str, labels: list[int] | None) -> None:
        count = 3 if labels is None else len(labels)
        members = [{"png": numbered(i)} | ({} if labels is None else {"cls": b"%d" % labels[i]}) for i in range(count)]
        samples = [(f"s{i}", m) for i, m in enumerate(members)]
        store.datasets.add(name, [write(tmp_path / f"{name}.tar", samples)], label=None if labels is None else "cls")

    add("bare", None)
    add("two", [0, 1, 1])
    add("four", [0, 3, 1])
    with pytest.raises(LabelError, match="bare@1 has samples without a class number"):
        train(store, TrainConfig(dataset="bare", model="preact8", epochs=1))
    with pytest.raises(LabelError, match="four@1 has a label 3, and a model of two@1 knows classes 0 to 1"):
        train(store, TrainConfig(dataset="two", evaluate_on="four", model="preact8", epochs=1))
    assert (
        train(store, TrainConfig(dataset="four", evaluate_on="two", model="preact8", epochs=1)).run.metrics["steps"]
        == 1
    )


def test_one_sample_is_enough(store: Store, sixty: Dataset, select: Select) -> None:
    selection = select(sixty, (0, [7]))
    run = train(store, TrainConfig(dataset="sixty", selection=selection.ref, model="preact8", epochs=2)).run
    assert run.metrics["samples_read"] == 2


def test_mixed_precision_without_a_gpu_says_so(store: Store, sixty: Dataset, spoken: list[str]) -> None:
    config = TrainConfig(dataset="sixty", model="preact8", epochs=1, precision="bf16")
    train(store, config, device="cpu", notify=spoken.append)
    assert spoken == ["bf16 needs a GPU: this run computes in fp32 on the cpu."]


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 0}, {"lr": 0}, {"lr": float("nan")}, {"lr": float("inf")}, {"batch_size": 0}, {"momentum": 1},
        {"momentum": 0}, {"weight_decay": -1}, {"schedule": "linear"}, {"step_size": 0}, {"gamma": 0}, {"seed": -1},
        {"augment": "mixup"}, {"precision": "fp8"}, {"channels": 2}, {"image_size": 0}, {"learning_rate": 1},
    ],
)  # fmt: skip
def test_bad_configurations_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(**({"dataset": "d"} | fields))


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        QUICK.lr = 1.0


def test_checkpoint_every_is_checked(store: Store, sixty: Dataset) -> None:
    with pytest.raises(ValueError, match="checkpoint_every is 0"):
        train(store, TrainConfig(dataset="sixty", model="preact8", epochs=1), checkpoint_every=0)


def test_the_callers_random_state_is_left_alone(store: Store, sixty: Dataset) -> None:
    before = torch.get_rng_state()
    train(store, TrainConfig(dataset="sixty", model="preact8", epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


FORWARD = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(7, 10)
    def forward(self, images):
        return self.last(images.flatten(1))
def make(): return Net()
"""


def test_a_model_that_raises_while_it_is_trained_is_told_in_a_few_lines(
    store: Store, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forward_for_a_test.py").write_text(FORWARD)
    monkeypatch.chdir(tmp_path)
    config = changed(QUICK, model="forward_for_a_test:make")
    with pytest.raises(ModelFailed, match="shapes cannot be multiplied") as caught:
        train(store, config)
    assert str(caught.value).splitlines()[-1].strip() == "return self.last(images.flatten(1))"
    assert len(str(caught.value).splitlines()) <= 3
    [run] = store.runs.all()
    assert run.status == "failed"


def test_a_wrong_device_is_refused_before_anything_is_written(store: Store, dataset: Dataset) -> None:
    for device in ("cuda:999", "gpu"):
        with pytest.raises(DeviceError):
            train(store, QUICK, device=device)
    assert store.runs.all() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 2**63}, {"seed": -1}, {"epochs": 10**9}, {"epochs": 0}, {"batch_size": 2**63}, {"step_size": 2**40},
        {"image_size": 10**6}, {"evaluate_every": 2**63, "evaluate_on": "digits"}, {"reselect": {"every": 2**63}},
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="or equal to"):
        changed(QUICK, **fields)


@pytest.mark.parametrize("config", ["digits", {"dataset": "digits"}, None])
def test_something_else_than_a_config_is_refused(store: Store, dataset: Dataset, config: object) -> None:
    for ask in (train, find):
        with pytest.raises(WrongKind, match=r"config is .*: expected a TrainConfig"):
            ask(store, config)
    with pytest.raises(WrongKind, match=r"expected a Store. Pass Store.open\('somewhere'\)"):
        train("somewhere", QUICK)
