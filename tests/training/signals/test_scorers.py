"""Scorers: each gives the metrics that it declares, says which way is hard, and refuses tasks that are not its own."""

import math
from dataclasses import replace

import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.errors import LabelError, TaskError
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.models.weights import ModelMeta
from tamis.training.signals.outputs import score_shard
from tamis.training.signals.scorers import EL2N, SCORERS, UNCERTAINTY
from tamis.training.signals.scoring import score_key
from tamis.training.tasks import CLASSIFICATION, TASKS
from tamis.training.tasks.classification import Classification

LOGITS = torch.tensor([[5.0, 0.0, 0.0], [1.0, 0.9, 0.8], [0.0, 0.0, 4.0]])


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_gives_what_it_declares(name: str) -> None:
    scorer = SCORERS[name]
    assert scorer.name == name
    assert scorer.tasks <= set(TASKS)
    columns = scorer.score(LOGITS, torch.tensor([0, 1, 2]), CLASSIFICATION)
    assert set(scorer.metrics) <= set(columns)
    if scorer.unlabelled:
        bare = scorer.score(LOGITS, None, CLASSIFICATION)
        assert set(scorer.unlabelled) == set(scorer.metrics) & set(bare)
    else:
        with pytest.raises(LabelError, match="there are none"):
            scorer.score(LOGITS, None, CLASSIFICATION)
    assert all(len(column) == 3 for column in columns.values())


@pytest.mark.parametrize("metric", UNCERTAINTY.metrics)
def test_the_hard_sample_stands_where_the_scorer_says(metric: str) -> None:
    """Sample 1 is the least certain, and wrong: class 0 is its likeliest, by a hair."""
    column = UNCERTAINTY.score(LOGITS, torch.tensor([0, 1, 2]), CLASSIFICATION)[metric].double()
    hardest = column.argmax() if UNCERTAINTY.metrics[metric] == "higher" else column.argmin()
    assert hardest == 1


def test_el2n_is_the_norm_of_p_less_y() -> None:
    """Of p = (1/4, 3/4): from class 0 (-3/4, 3/4), from class 1 (1/4, -1/4); a class that is none has no score."""
    logits = torch.tensor([[0.0, math.log(3)]]).repeat(3, 1)
    found = EL2N.score(logits, torch.tensor([0, 1, 2]), CLASSIFICATION)["el2n"]
    assert found[:2].tolist() == pytest.approx([0.75 * math.sqrt(2), 0.25 * math.sqrt(2)])
    assert (found.dtype, bool(found[2].isnan())) == (torch.float64, True)


def test_keys_hold_name_and_version_alone(store: Store, dataset: Dataset) -> None:
    key = score_key(dataset, "model", {})
    assert key == score_key(dataset, "model", {}, replace(UNCERTAINTY, metrics={}))
    assert key != score_key(dataset, "model", {}, replace(UNCERTAINTY, version=2))
    assert UNCERTAINTY.identity == {"name": "uncertainty", "version": 1}


def test_a_model_of_another_task_is_refused(store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ordering(Classification):
        name = "ordering"

    monkeypatch.setitem(TASKS, "ordering", Ordering())
    meta = ModelMeta("preact8", 10, 1, (0.3,), (0.4,), task="ordering")
    model = ImageClassifier(build_model("preact8", num_classes=10, in_channels=1), meta.mean, meta.std)
    with pytest.raises(
        TaskError, match="uncertainty takes models of classification, but this one was trained for ordering"
    ):
        score_shard(store, dataset, 0, model, meta, device="cpu")
