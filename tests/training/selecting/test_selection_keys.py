"""Keys of selections are what they were before methods had one contract: what is stored is still the answer.

The keys were written down from the version before it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered import Write

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Request, RoundData
from tamis.training.config import GRADMATCH, Reselect, TrainConfig
from tamis.training.planning import plan
from tamis.training.selecting.by_runs import MatchConfig, select_by_runs
from tamis.training.selecting.by_scores import SelectConfig, select

# In full, whatever the defaults of a training run are now.
RECIPE: dict[str, Any] = {"dataset": "ppm", "model": "preact8", "image_size": 8, "epochs": 30, "augment": "none"}
TRAIN, SCORE = "7ea1" + "0" * 28, "5c0e" + "0" * 28
BATCHES: dict[str, Any] = {"kind": "batch", "lam": 1, "every": 3, "head": "net", "target": "ppm"}


@pytest.fixture
def four(store: Store, tmp_path: Path, write: Write) -> Dataset:
    """Four samples, a training run of them whose model is none, and scores."""
    samples = [(f"s{i}", {"ppm": b"image %d" % i, "cls": b"%d" % (i % 2)}) for i in range(4)]
    dataset = store.datasets.add("ppm", [write(tmp_path / "ppm.tar", samples)])
    store.runs.begin(kind="train", key=TRAIN, dataset=dataset.ref, model="preact8", config={"image_size": 8})
    store.runs.finish(TRAIN, model=store.blobs.put(b"no model"))
    store.runs.begin(kind="score", key=SCORE, dataset=dataset.ref, model="preact8", config={})
    scores = {"entropy": [0.1, 0.2, 0.3, 0.4], "margin": [0.1, 0.2, 0.3, 0.4], "correct": [1, 1, 1, 0]}
    store.runs.put_scores(SCORE, scores, [0, 1, 2, 3])
    store.runs.finish(SCORE)
    return dataset


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"method": "random"}, "5d80b16f491b897d66b1ae943f3ab661"),
        (
            {"method": "random", "params": {"per_class": True}, "rounds": 2, "every": 3, "seed": 4},
            "c76883d777b4cd1fa474a63a29f48de6",
        ),
        ({"method": "random-pb", "params": {"batch_size": 2}}, "5649adb954b7cf8d39a944d612ac0305"),
        ({}, "1eb2e16799db949b86ea49f9514876ab"),
        (
            {"budget": "50%", "measure": "margin", "params": {"per_class": True, "correct_only": True}, "seed": 9},
            "063b9c74a73b9990def50c6fd89470bf",
        ),
    ],
)
def test_of_methods_that_choose_from_scores(store: Store, four: Dataset, asked: dict[str, Any], key: str) -> None:
    assert select(store, SelectConfig(**{"dataset": "ppm", "budget": 2, **asked})).selection.key == key


@pytest.mark.parametrize(
    ("reselect", "run", "selection"),
    [
        ({}, "c0061df7f4e3569bf7a65d94d9a885ba", "a402c7c2cc2a4ed3a0cc2a26a8a50302"),
        ({**BATCHES, "warm": 0.5, "name": "n"}, "9e22a08a3bdefe3ab0f6696a36356627", "e4f2a09a35a55d1cc8060908b84e3182"),
    ],
)
def test_of_runs_that_reselect(store: Store, four: Dataset, reselect: dict[str, Any], run: str, selection: str) -> None:
    made = plan(store, TrainConfig(**RECIPE, reselect=Reselect(budget=2, **reselect)))
    assert made.draft is not None
    assert (made.key, made.draft.key) == (run, selection)


@pytest.mark.parametrize(
    ("reselect", "params", "key"),
    [
        (
            {},
            {"every": 20, "kind": "class-gradient", "lam": 0.5, "head": None, "target": None},
            "b88ffb541c5cf4568041a50081fb7d72",
        ),
        (BATCHES, {**BATCHES, "lam": 1.0}, "b305c9b2c67638562b5a9b24b2d70978"),
    ],
)
def test_what_was_matched_before_is_the_answer(
    store: Store, four: Dataset, reselect: dict[str, Any], params: dict[str, Any], key: str
) -> None:
    """There is no model that could be asked again."""
    if params["target"] is not None:
        params = params | {"target": four.key}
    before = Request(four, "gradmatch", 1, {"k": 2, "batch_size": 128, **params}, [TRAIN])
    store.selections.publish(before, "ppm-gradmatch", [RoundData([0, 1])], seconds=1.0)
    config = MatchConfig(dataset="ppm", runs=(TRAIN,), reselect=Reselect(budget=2, **reselect))
    made = select_by_runs(store, config)
    assert (made.created, made.selection.key) == (False, key)


@pytest.mark.parametrize("other", [{"spare": 0}, {"tolerance": 0.1}, {"part_size": 1}, {"surplus": 3}])
def test_parameters_that_came_later_enter_where_they_differ(store: Store, four: Dataset, other: dict[str, Any]) -> None:
    usual, changed = (
        plan(store, TrainConfig(dataset="ppm", reselect=Reselect(budget=2, **more))) for more in ({}, other)
    )
    assert usual.draft is not None
    assert changed.draft is not None
    assert not set(other) & set(usual.draft.request.params)
    assert other.items() <= changed.draft.request.params.items()
    assert (usual.key, usual.draft.key) != (changed.key, changed.draft.key)
    assert Reselect.model_validate(changed.config.reselect.model_dump()) == changed.config.reselect


def test_the_defaults_are_those_of_the_method() -> None:
    """Both are written down: one for the method, one for what a run is asked."""
    own = Reselect().params(batch_size=128)
    assert own == {"kind": "class-gradient", "lam": 0.5, "batch_size": 128}
    assert Reselect(spare=0.0).params(64) == own | {"spare": 0.0, "batch_size": 64}


def test_what_chooses_by_a_model_is_not_asked_of_the_store(store: Store, four: Dataset) -> None:
    with pytest.raises(ValueError, match=r"gradmatch needs gradients, which are not in the store: .*select gradmatch"):
        select(store, SelectConfig(dataset="ppm", budget=2, method=GRADMATCH.name))


def test_models_of_another_task_are_refused(store: Store, four: Dataset) -> None:
    other = "7ea2" + "0" * 28
    store.runs.begin(kind="train", key=other, dataset=four.ref, model="line", config={"task": "regression"})
    store.runs.finish(other, model=store.blobs.put(b"a line"))
    with pytest.raises(ValueError, match="gradmatch is made for classification, and the model is one of regression"):
        select_by_runs(store, MatchConfig(dataset="ppm", runs=(other,)))


def test_features_are_read_where_a_method_needs_them(store: Store, four: Dataset) -> None:
    """On a line at 0, 1, 2, 9: the mean is 3, nearest to it 2, and 9 lies farthest from that."""
    asked = SelectConfig(dataset="ppm", budget=2, method="k-center")
    with pytest.raises(KeyError, match=r"no features of ppm@1 yet. .*score features --dataset ppm@1"):
        select(store, asked)
    for key, line in (("fea7" + "0" * 28, [0, 1, 2, 9]), ("fea8" + "0" * 28, [9, 2, 1, 0])):
        store.runs.begin(kind="features", key=key, dataset=four.ref, model="preact8", config={})
        store.runs.put_features(key, iter([(np.arange(4), np.array(line, np.float32)[:, None])]))
        store.runs.finish(key, seconds={"total": 2.5})
    made = select(store, asked).selection
    assert (made.round_at(0)[0].tolist(), made.inputs) == ([1, 0], ("fea8" + "0" * 28,))
    assert (made.rounds[0].objective, made.stats["seconds"]["score"]) == (2, 2.5)
    older = select(store, asked.model_copy(update={"features": "fea7" + "0" * 28}))
    assert (older.created, older.selection.round_at(0)[0].tolist()) == (True, [2, 3])
    with pytest.raises(KeyError, match="is a score of ppm@1, not features of ppm@1"):
        select(store, asked.model_copy(update={"features": SCORE}))
