"""The model that is kept: that of the best evaluation, whatever came after it, and wherever the run was killed.

Evaluations say what the tests want them to, by how many steps the model has taken.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numbered import Write, numbered
from pydantic import ValidationError
from torch import nn

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.best import Best
from tamis.training.job import TrainConfig, train
from tamis.training.models.registry import ImageClassifier
from tamis.training.planning import plan
from tamis.training.reports.evaluation import evaluate_run
from tamis.training.tasks.contract import Task

STEPS = 8  # of an epoch of 60 samples
QUICK: dict[str, Any] = {
    "dataset": "sixty", "model": "preact8", "channels": 1, "batch_size": 8, "epochs": 4, "schedule": "step",
}  # fmt: skip
CURVE = (0.5, 0.875, 0.875, 0.75)


def epoch_of(model: nn.Module) -> int:
    """BatchNorm counts the steps."""
    assert isinstance(model, ImageClassifier)
    return int(model.network.state_dict()["norm.num_batches_tracked"]) // STEPS


def told(model: nn.Module, *_: Any) -> dict[str, float]:
    accuracy = CURVE[epoch_of(model) - 1]
    return {"accuracy": accuracy, "loss": 1 - accuracy}


@pytest.fixture
def prescribed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Task, "evaluate", lambda _task, model, *_: told(model))


def keeping(**more: Any) -> TrainConfig:
    return TrainConfig(**QUICK | {"keep_model": "best", "evaluate_on": "sixty"} | more)


def weights_after(store: Store, epochs: int) -> str | None:
    """Of the same training, when it has come so far: the schedule does not know its end."""
    return train(store, TrainConfig(**QUICK | {"epochs": epochs}), device="cpu").run.blob


def test_the_first_of_the_best_is_kept(store: Store, sixty: Dataset, prescribed: None) -> None:
    run = train(store, keeping(), device="cpu").run
    assert run.blob == weights_after(store, 2)
    assert run.metrics["kept"] == {"epoch": 2, "step": 2 * STEPS, "on": "sixty@1", "accuracy": 0.875, "loss": 0.125}
    assert run.metrics["accuracy"] == 0.875
    assert [one["accuracy"] for one in run.metrics["history"]] == list(CURVE)
    assert run.metrics["steps"] == 4 * STEPS
    assert not store.root.list("checkpoints")


def test_evaluations_may_be_rarer(store: Store, sixty: Dataset, prescribed: None) -> None:
    """After epochs 3 and 4: .875 and .75."""
    assert train(store, keeping(evaluate_every=3), device="cpu").run.blob == weights_after(store, 3)


def test_a_repetition_confirms_it(store: Store, sixty: Dataset, prescribed: None) -> None:
    first = train(store, keeping(), device="cpu").run
    again = train(store, keeping(), device="cpu", force=True)
    assert (again.run, again.confirmed) == (first, True)
    assert not store.root.list("checkpoints")


def test_chosen_on_other_data_than_it_is_judged_on(
    store: Store, dataset: Dataset, digits: dict[str, list[Path]]
) -> None:
    """With real evaluations: what the metrics say is what the kept model does."""
    store.datasets.add("test", digits["test"])
    store.datasets.split("digits", {"rest": 0.8, "val": 0.2}, seed=1)
    asked = TrainConfig(
        **QUICK | {"dataset": "digits-rest", "lr": 0.4, "batch_size": 64, "epochs": 3},
        keep_model="best",
        select_on="digits-val",
        evaluate_on="test",
    )
    run = train(store, asked).run
    shown = run.metrics["history"]
    assert all("accuracy" not in one for one in shown)  # the test data is looked at once
    best = max(shown, key=lambda one: one["select_accuracy"])
    assert (run.metrics["kept"]["epoch"], run.metrics["kept"]["on"]) == (best["epoch"], "digits-val@1")
    assert evaluate_run(store, run.key, "digits-val").metrics["accuracy"] == best["select_accuracy"]
    assert evaluate_run(store, run.key, "test").metrics["accuracy"] == run.metrics["accuracy"]
    assert evaluate_run(store, run.key, "test").metrics["loss"] == pytest.approx(run.metrics["loss"])


CHILD = """
import sys, time, torch
sys.path.insert(0, sys.argv[3])
from test_keep_best import Task, TrainConfig, Store, told, train
torch.set_num_threads(1)
Task.evaluate = lambda _task, model, *_: told(model)
def progress(done, total):
    if done == 20:
        print("reached", flush=True)
        time.sleep(600)
config = TrainConfig.model_validate_json(sys.argv[2])
train(Store.open(sys.argv[1]), config, device="cpu", checkpoint_every=5, progress=progress)
"""


def test_a_killed_run_keeps_the_best_of_before(store: Store, sixty: Dataset, prescribed: None) -> None:
    """Killed in epoch 3, of which the best model is no longer a checkpoint's: evaluations come after epochs 2 and 4."""
    asked = keeping(evaluate_every=2)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", CHILD, store.root.url, asked.model_dump_json(), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reached\n"
        os.kill(child.pid, signal.SIGKILL)
    words: list[str] = []
    run = train(store, asked, device="cpu", notify=words.append).run
    assert words == [f"Resuming run {run.key[:12]} at epoch 2, step 20."]
    assert run.metrics["kept"]["epoch"] == 2
    assert run.blob == weights_after(store, 2)
    assert not store.root.list("checkpoints")


@pytest.mark.parametrize("where", ["offer", "tidy"])
def test_interrupted_beside_its_checkpoint(
    store: Store, sixty: Dataset, prescribed: None, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Epoch 2's model is written and its checkpoint is not; or both are, and epoch 1's model is not yet removed."""
    usual = getattr(Best, where)

    def interrupted(self: Best, *arguments: Any) -> Any:
        if where == "tidy" and self.at["epoch"] == 2:
            raise KeyboardInterrupt
        found = usual(self, *arguments)
        if where == "offer" and self.at["epoch"] == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Best, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(store, keeping(), device="cpu")
    assert len([name for name, _ in store.root.list("checkpoints") if "best-" in name]) == 2
    monkeypatch.setattr(Best, where, usual)
    words: list[str] = []
    run = train(store, keeping(), device="cpu", notify=words.append).run
    assert words[0].startswith("Resuming run")
    assert (run.blob, run.metrics["kept"]["epoch"]) == (weights_after(store, 2), 2)
    assert not store.root.list("checkpoints")


@pytest.mark.parametrize("damage", [None, b"rubbish"])
def test_a_best_model_that_is_gone_or_damaged_starts_anew(
    store: Store, sixty: Dataset, prescribed: None, damage: bytes | None
) -> None:
    def progress(done: int, _total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, keeping(epochs=2), device="cpu", progress=progress)
    [name] = [name for name, _ in store.root.list("checkpoints") if "best-" in name]
    store.root.delete(name) if damage is None else store.root.put(name, damage)
    words: list[str] = []
    run = train(store, keeping(epochs=2), device="cpu", notify=words.append).run
    assert f"best-{STEPS}.safetensors, is {'damaged' if damage else 'gone'}" in words[0]
    assert run.blob == weights_after(store, 2)
    assert not store.root.list("checkpoints")


def test_the_lowest_loss_where_there_is_no_accuracy(store: Store) -> None:
    best = Best(store.root, "checkpoints/x")
    losses = [float("nan"), 3.0, 1.0, float("inf"), 1.0, 2.0]
    kept = [best.offer({"loss": v}, {"epoch": i, "step": i}, lambda i=i: b"%d" % i) for i, v in enumerate(losses)]
    assert kept == [False, True, True, False, False, False]
    assert (best.model, best.at["epoch"]) == (b"2", 2)
    assert len(store.root.list("checkpoints")) == 2
    best.tidy()
    assert [name for name, _ in store.root.list("checkpoints")] == ["checkpoints/x/best-2.safetensors"]


def test_of_a_regression(store: Store, tmp_path: Path, write: Write) -> None:
    samples = [(f"s{i:02d}", {"png": numbered(i), "txt": b"%d" % (i % 3)}) for i in range(40)]
    store.datasets.add("line", [write(tmp_path / "line.tar", samples)], label="number:txt")
    asked = TrainConfig(
        dataset="line", model="preact8", epochs=3, batch_size=8, task="regression", lr=0.02, keep_model="best",
        evaluate_on="line",
    )  # fmt: skip
    run = train(store, asked).run
    shown = run.metrics["history"]
    assert run.metrics["kept"]["loss"] == run.metrics["loss"] == min(one["loss"] for one in shown)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keep_model": "best"}, "keep_model best needs a dataset to choose on: give select_on"),
        ({"select_on": "sixty"}, "select_on is what keep_model best chooses on"),
        ({"keep_model": "first"}, "'last' or 'best'"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainConfig(**QUICK | fields)


def test_the_key_covers_what_chooses(store: Store, sixty: Dataset, digits: dict[str, list[Path]]) -> None:
    store.datasets.add("test", digits["test"])
    store.datasets.add("other", digits["test"])
    by = [keeping(), keeping(select_on="sixty"), keeping(select_on="test"), TrainConfig(**QUICK, evaluate_on="sixty")]
    assert len({plan(store, config).key for config in by}) == 4
    assert plan(store, keeping(select_on="other")).key == plan(store, keeping(select_on="test")).key
    assert plan(store, keeping(select_on="test@1")).key == plan(store, keeping(select_on="test")).key
