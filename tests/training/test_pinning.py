"""Which run of a recipe counts on a dataset that grows, and when it is due to be replaced."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.store.runs import Run
from tamis.training.job import TrainConfig, train
from tamis.training.pinning import Pin, Retrain, pinned

DAY = 86_400.0
RECIPE = TrainConfig(dataset="digits", model="tiny_model:linear", epochs=1, augment="none")


@pytest.fixture
def grown(store: Store, digits: dict[str, list[Path]]) -> Store:
    """digits@1 and digits@2."""
    store.datasets.add("digits", digits["train"][:4])
    store.datasets.add("digits", digits["train"][4:], append=True)
    return store


def trained(store: Store, **changed: Any) -> Run:
    return train(store, RECIPE.model_copy(update={"dataset": "digits@1", **changed}), device="cpu").run


def test_the_run_on_the_newest_version_counts_whatever_was_trained_later(grown: Store) -> None:
    assert pinned(grown, "digits", RECIPE) is None
    trained(grown, seed=7)
    assert pinned(grown, "digits", RECIPE) is None, "another recipe"
    old = trained(grown)
    found = pinned(grown, "digits", RECIPE)
    assert found is not None
    assert (found.run.key, found.samples) == (old.key, 1200)
    assert 0 <= found.age < 3600
    newest = trained(grown, dataset="digits@2")
    trained(grown, seed=8)
    for recipe in (RECIPE, RECIPE.model_copy(update={"dataset": "digits@1"})):
        found = pinned(grown, "digits", recipe)
        assert found is not None
        assert found.run.key == newest.key


def test_what_a_recipe_is_evaluated_on_may_grow_and_its_source_may_not_change(
    grown: Store, digits: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (Path(__file__).parents[1] / "tiny_model.py").read_text()
    (tmp_path / "own_pinned.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    grown.datasets.add("judge", digits["test"])
    recipe = RECIPE.model_copy(update={"model": "own_pinned:linear", "evaluate_on": "judge"})
    run = trained(grown, model="own_pinned:linear", evaluate_on="judge")
    grown.datasets.add("judge", digits["train"][:1], append=True)
    found = pinned(grown, "digits", recipe)
    assert found is not None
    assert found.run.key == run.key
    (tmp_path / "own_pinned.py").write_text(f"{source}\n# another source\n")
    assert pinned(grown, "digits", recipe) is None


@pytest.mark.parametrize(
    ("rule", "samples", "age", "due"),
    [
        ({}, 10_000, 9e9, None),
        ({"growth": "20%"}, 1200, 0, None),  # by exactly a fifth
        ({"growth": "20%"}, 1201, 0, "grown by 20.1%, more than 20%"),
        ({"growth": 0.2}, 1300, 0, "grown by 30%, more than 20%"),
        ({"growth": 0}, 1001, 0, "grown by 0.1%, more than 0%"),
        ({"age": "30d"}, 1001, 30 * DAY, None),
        ({"age": "30d"}, 1001, 31 * DAY, "31.0 days old, more than 30d"),
        ({"age": "12h"}, 1001, DAY, "1.0 days old, more than 12h"),
        ({"growth": "50%", "age": "2w"}, 1001, 15 * DAY, "15.0 days old, more than 2w"),
    ],
)
def test_growth_or_age_alone_make_a_run_due(
    store: Store, digits: dict[str, list[Path]], rule: dict[str, Any], samples: int, age: float, due: str | None
) -> None:
    dataset = store.datasets.add("digits", digits["test"])
    grown = replace(dataset, version=2, samples=samples)
    pin = Pin(Run("a" * 32, "train", "digits@1", "m", {}, None, "finished"), 1000, age)
    assert pin.due(Retrain.model_validate(rule), grown) == due
    same = replace(pin, run=replace(pin.run, dataset="digits@2"))
    assert same.due(Retrain.model_validate(rule), grown) is None, "the same question has the same answer"
