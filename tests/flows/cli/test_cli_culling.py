"""`tamis score culling` and `tamis select culling`: both stages over stored boxes, and one line for bad input."""

from typing import Any

import numpy as np

from tamis.store import Store
from tamis.store.boxes import Frames, starts
from tamis.store.datasets import Dataset


def put(store: Store, dataset: Dataset, key: str, scores: dict[int, float], looked: list[int], classes: Any) -> None:
    """A box of a score in some frames, none in the others that were looked at."""
    count = np.array([int(sample in scores) for sample in looked], np.int64)
    some = [scores[sample] for sample in looked if sample in scores]
    corners = np.tile(np.array([0, 0, 40, 40], np.float32), (len(some), 1))
    made = Frames(
        np.array(looked), starts(count), np.zeros(len(some), np.int32), np.array(some, np.float32), corners,
        np.full((len(looked), 2), 100, np.int32), [None] * len(looked),
    )  # fmt: skip
    store.runs.begin(kind="detect", key=key, dataset=dataset.ref, model=key, config={"classes": classes})
    store.runs.put_boxes(key, iter([made]))
    store.runs.finish(key)


def test_both_stages(tamis: Any, store: Store, dataset: Dataset) -> None:
    """The student looks at all but the last; the teacher calls cars buses and sees one of the two unsure frames."""
    put(store, dataset, "5" * 32, {3: 0.5, 4: 0.6, 9: 1.0}, list(range(dataset.samples - 1)), ["car"])
    put(store, dataset, "7" * 32, {3: 1.0}, [3, 4], ["bus"])
    first = tamis("score", "culling", "--dataset", "digits", "--student", "5555", "--json")
    assert first.code == 0, first.err
    assert first.json["metrics"] == ["confidence_loss", "entropy"]
    assert "The student has not looked at 1 samples" in first.err
    assert tamis("score", "culling", "--dataset", "digits", "--student", "5555", "--json").json["cached"]
    chosen = tamis("select", "culling", "--dataset", "digits", "--budget", 2, "--json")
    assert chosen.code == 0, chosen.err
    assert store.selections.get(chosen.json["selection"]).round_at(0)[0].tolist() == [3, 4]
    asked = ["score", "culling", "--dataset", "digits", "--student", "5555", "--teacher", "7777"]
    refused = tamis(*asked)
    assert refused.code != 0
    assert "the classes differ: bus and car" in refused.err
    shown = tamis(*asked, "--map", "bus=car")
    assert shown.code == 0, shown.err
    assert f"The teacher has not looked at {dataset.samples - 2} samples" in shown.err
    by = ["select", "culling", "--dataset", "digits", "--measure", "precision_loss", "--budget", 2, "--name", "wrong"]
    chosen = tamis(*by, "--json")
    assert chosen.code == 0, chosen.err
    # Both have a loss of 2: a perfect match, and one box where nothing is. Equal ones come by sample.
    assert store.selections.get("wrong").round_at(0)[0].tolist() == [3, 4]


def test_a_mapping_that_is_none_is_refused(tamis: Any, store: Store, dataset: Dataset) -> None:
    put(store, dataset, "5" * 32, {}, [0], ["car"])
    refused = tamis("score", "culling", "--dataset", "digits", "--student", "5555", "--map", "bus")
    assert refused.code != 0
    assert "expected TEACHER=STUDENT" in refused.err
