"""A candidate whose process is killed goes on at its epoch, and comes out to the bit as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builds import asked
from torch import Tensor

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.mainstream.trainer.building import Build
from tamis.training.mainstream.trainer.candidates import Tuned, fine_tune
from tamis.training.mainstream.trainer.checkpoints import Saved

CHILD = Path(__file__).with_name("candidate_child.py")
BRANCH = 4
RECIPE = {"epochs": 5, "patience": 5, "image_size": 8}


def tuned(build: Build, saved: Saved | None, seen: list[int], stop: int = 0) -> tuple[Tuned, dict[str, Tensor]]:
    """Fine-tuned, with the epochs that were trained here; stopped after some of them."""

    def after(done: int, _: int) -> None:
        seen.append(done)
        if done == stop:
            raise InterruptedError

    train, _ = build._features("cpu", 64)
    rest = build.split.specialised(BRANCH, 10)
    told = fine_tune(rest, BRANCH, train, build.data.fit, build.data.validation, build.config, after, saved=saved)
    return told, rest.state_dict()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_goes_on_to_the_bit(store: Store, few: Dataset, tmp_path: Path, optimizer: str) -> None:
    build = Build(store, asked(tmp_path, optimizer=optimizer, **RECIPE))
    build.prepare()
    straight, weights = tuned(build, None, [])
    seen, saved = list[int](), Saved(store.root, "c", every=0.0)
    with pytest.raises(InterruptedError):
        tuned(build, saved, seen, stop=3)
    again, resumed = tuned(build, saved, seen)
    assert seen == [1, 2, 3, 4, 5]
    assert again.history == straight.history
    assert (again.epoch, again.loss) == (straight.epoch, straight.loss)
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    saved.forget()
    tuned(build, saved, seen)
    assert seen[5:] == [1, 2, 3, 4, 5]


def test_a_checkpoint_that_is_damaged_or_of_others_is_left_aside(store: Store, few: Dataset, tmp_path: Path) -> None:
    build = Build(store, asked(tmp_path, **RECIPE | {"epochs": 2}))
    build.prepare()
    straight, weights = tuned(build, None, [])
    saved = Saved(store.root, "c", every=0.0)
    tuned(build, saved, [])
    data = store.root.get("checkpoints/c/candidate.pt")
    assert data is not None
    for damaged in (data[:-1], b"", data.replace(b"candidate", b"condidate")):
        store.root.put("checkpoints/c/candidate.pt", damaged)
        seen = list[int]()
        assert tuned(build, saved, seen)[0].history == straight.history
        assert seen == [1, 2]
    store.root.put("checkpoints/d/candidate.pt", data)
    found, again = tuned(build, Saved(store.root, "d"), seen := list[int]())
    assert seen == [1, 2]
    assert found.history == straight.history
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_one_whose_process_is_killed(store: Store, few: Dataset, tmp_path: Path) -> None:
    config = asked(tmp_path, **RECIPE | {"epochs": 3})
    build = Build(store, config)
    build.prepare()
    command = [sys.executable, str(CHILD), store.root.path, config.model_dump_json(), str(BRANCH), "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == -9, ended.stderr
    assert build.candidates() == []
    name = f"checkpoints/{build.key(BRANCH)}/candidate.pt"
    assert store.root.get(name) is not None
    seen = list[int]()
    made = build.train(BRANCH, progress=lambda done, _: seen.append(done))
    assert seen == [3]
    assert store.root.get(name) is None
    straight, _ = tuned(build, None, [])
    assert made.metrics["history"] == list(straight.history)
