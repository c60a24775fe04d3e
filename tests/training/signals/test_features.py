"""Features: a vector is what the layer made of that sample, kept once, found again, and read as an array or by SQL."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tamis.flows import work
from tamis.flows.configs import FeaturesConfig, Resources
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.runs import Run
from tamis.training.errors import HeadError
from tamis.training.job import TrainConfig, train
from tamis.training.signals.features import Question, compute_parts, finish_features
from tamis.training.signals.outputs import load_model
from tamis.training.streaming.batches import Chosen, load_batches
from tamis.training.streaming.lookup import Index


@pytest.fixture
def trained(store: Store, dataset: Dataset) -> Run:
    return train(store, TrainConfig(dataset="digits", model="preact8", epochs=1, batch_size=64)).run


def asking(
    store: Store, dataset: Dataset, trained: Run, layer: str = "penultimate", dtype: Any = "float32"
) -> Question:
    assert trained.blob is not None
    return Question(store, dataset, trained.blob, layer, dtype)


def made(asked: Question, **options: Any) -> Run:
    compute_parts(asked, asked.missing(), **options)
    return finish_features(asked, name="preact8")


def test_vectors_are_what_enters_the_last_layer(store: Store, dataset: Dataset, trained: Run) -> None:
    """The head's weights on them give the logits that the model gives."""
    run = made(asking(store, dataset, trained), batch_size=100)
    vectors = store.runs.features(run.key, dataset)
    assert (vectors.shape[0], vectors.dtype) == (1498, np.float32)
    assert not vectors.flags.writeable
    model, _ = load_model(store, trained.blob or "")
    head = [m for m in model.network.modules() if isinstance(m, nn.Linear)][-1]
    some = np.asarray([0, 299, 300, 1497])
    (loaded,) = load_batches(Index.open(store, dataset), [Chosen(some, np.ones(4, np.float32))])
    with torch.no_grad():
        expected = model(loaded.batch.images)
        assert torch.allclose(head(torch.tensor(vectors[some])), expected, atol=1e-4)


def test_maps_are_averaged(store: Store, dataset: Dataset, trained: Run) -> None:
    """By hand: the stem's 16 maps of the first image, each to its mean."""
    vectors = store.runs.features(made(asking(store, dataset, trained, "stem")).key, dataset)
    model, _ = load_model(store, trained.blob or "")
    seen: list[torch.Tensor] = []
    model.network.get_submodule("stem").register_forward_hook(lambda _, __, out: seen.append(out))
    (loaded,) = load_batches(Index.open(store, dataset), [Chosen(np.asarray([0]), np.ones(1, np.float32))])
    with torch.no_grad():
        model(loaded.batch.images)
    assert vectors.shape == (1498, 16)
    assert np.allclose(vectors[0], seen[0].mean(dim=(2, 3))[0].numpy(), atol=1e-5)


def test_half_precision_is_kept_to_its_last_bit(store: Store, dataset: Dataset, trained: Run) -> None:
    whole = store.runs.features(made(asking(store, dataset, trained)).key, dataset)
    run = made(asking(store, dataset, trained, dtype="float16"))
    half = store.runs.features(run.key, dataset)
    assert half.dtype == np.float16
    assert np.array_equal(half, whole.astype(np.float16))
    blocks = list(store.runs.feature_blocks(run.key))
    assert np.array_equal(
        np.concatenate([v for _, v in blocks])[np.argsort(np.concatenate([s for s, _ in blocks]))], half
    )


def test_sql_sees_finished_runs_alone(store: Store, dataset: Dataset, trained: Run) -> None:
    asked = asking(store, dataset, trained)
    compute_parts(asked, [0, 1])
    assert store.query("select count(*) as n from features").to_pylist() == [{"n": 0}]
    run = made(asked)
    rows = store.query(
        "select sample, len(vector) as e, list_sum(vector) as total from features where run = $1 order by sample",
        [run.key],
    )
    vectors = store.runs.features(run.key, dataset)
    assert rows["sample"].to_pylist() == list(range(1498))
    assert set(rows["e"].to_pylist()) == {vectors.shape[1]}
    assert np.allclose(rows["total"].to_numpy(), vectors.sum(axis=1, dtype=np.float64), atol=1e-3)


def test_a_pass_goes_on_and_an_appended_shard_costs_only_itself(
    store: Store, trained: Run, digits: dict[str, list[Path]], tmp_path: Path, dataset: Dataset
) -> None:
    few = store.datasets.add("few", digits["train"][:2])
    config = FeaturesConfig(dataset="few", run=trained.key)
    first = work.run("features", store.root.url, config, Resources(), runner="direct")
    assert (first.cached, first.parts_computed, first.parts) == (False, 2, 2)
    again = work.run("features", store.root.url, config, Resources(), runner="direct")
    assert (again.cached, again.run, again.parts_computed) == (True, first.run, 0)
    more = store.datasets.add("few", digits["train"][:3], append=True)
    second = work.run("features", store.root.url, config, Resources(workers=2), runner="direct")
    assert (second.parts_computed, second.parts) == (1, 3)
    assert second.run != first.run
    old, new = store.runs.features(first.run, few), store.runs.features(second.run, more)
    assert np.array_equal(new[: few.samples], old)
    with pytest.raises(SelectionError, match="another version"):
        store.runs.features(first.run, more)


def test_a_lost_part_is_computed_again(store: Store, dataset: Dataset, trained: Run) -> None:
    asked = asking(store, dataset, trained)
    compute_parts(asked, range(5))
    store.root.put(asked.part(dataset.shards[3]), b"damaged")
    run = finish_features(asked, name=None)
    assert store.runs.features(run.key, dataset).any(axis=1).all()


@pytest.mark.parametrize(("layer", "said"), [("nowhere", "no layer 'nowhere'.*penultimate"), ("", "no layer ''")])
def test_layers_that_are_none(store: Store, dataset: Dataset, trained: Run, layer: str, said: str) -> None:
    with pytest.raises(HeadError, match=said):
        compute_parts(asking(store, dataset, trained, layer), [0])


def test_vectors_that_are_not_finite_are_null(store: Store, dataset: Dataset) -> None:
    vectors = np.arange(1498 * 2, dtype=np.float32).reshape(1498, 2)
    vectors[7, 1], vectors[9, 0] = np.nan, np.inf
    run = store.runs.begin(kind="features", key="ab" * 16, dataset="digits@1")
    store.runs.put_features(run.key, iter([(np.arange(1000), vectors[:1000]), (np.arange(1000, 1498), vectors[1000:])]))
    with pytest.raises(RunNotFound, match="not a finished run with features"):
        store.runs.features(run.key, dataset)
    store.runs.finish(run.key)
    kept = store.runs.features(run.key, dataset)
    bad = [7, 9]
    assert np.isnan(kept[bad]).all()
    assert np.array_equal(np.delete(kept, bad, 0), np.delete(vectors, bad, 0))
    null = store.query("select sample from features where vector is null order by sample")["sample"].to_pylist()
    assert null == bad


def test_blocks_of_other_shapes_are_refused(store: Store, dataset: Dataset) -> None:
    run = store.runs.begin(kind="features", key="ab" * 16, dataset="digits@1").key
    for second in (np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float16), np.zeros(2, np.float32)):
        blocks = iter([(np.arange(1), np.zeros((1, 2), np.float32)), (np.arange(1, 2), second)])
        with pytest.raises(ValueError, match="1 of 2 numbers each"):
            store.runs.put_features(run, blocks)
    with pytest.raises(RunNotFound):
        store.runs.features(run, dataset)
