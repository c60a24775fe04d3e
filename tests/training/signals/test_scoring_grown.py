"""Scores of a dataset that has grown: those of the version before are taken over, and only new shards are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.roots.roots import Root
from tamis.store.runs import Run
from tamis.training.job import TrainConfig, train
from tamis.training.signals.scorers import EL2N, UNCERTAINTY, Scorer
from tamis.training.signals.scoring import finish_scores, missing_parts, score_parts

RECIPE = TrainConfig(dataset="digits@1", model="tiny_model:linear", epochs=1, augment="none")


def scored(store: Store, ref: str, model: str, scorer: Scorer) -> tuple[Run, list[int]]:
    dataset = store.datasets.get(ref)
    missing = missing_parts(store, dataset, model, scorer)
    score_parts(store, dataset, missing, model, device="cpu", scorer=scorer)
    return finish_scores(store, dataset, model, name="m", scorer=scorer), missing


def rows(store: Store, run: str) -> list[Any]:
    query = f"select metric, sample, value from scores where run = '{run}' order by all"
    return store.query(query).to_pylist()


@pytest.mark.parametrize("scorer", [UNCERTAINTY, EL2N], ids=lambda one: one.name)
def test_the_scores_are_those_of_scoring_everything_and_only_new_parts_are_read(
    digits: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scorer: Scorer
) -> None:
    stores = [Store.create(tmp_path / name) for name in ("grown", "whole")]
    for store in stores:
        store.datasets.add("digits", digits["train"][:3])
        store.datasets.add("digits", digits["train"][3:4], append=True)
        store.datasets.add("digits", digits["train"][4:], append=True)
    grown, whole = stores
    model, same = (train(store, RECIPE, device="cpu").run.blob for store in stores)
    assert model == same
    assert model is not None
    assert scored(grown, "digits@1", model, scorer)[1] == [0, 1, 2]
    read = list[str]()
    get = Root.get

    def noted(root: Root, name: str) -> bytes | None:
        read.extend([name] if name.startswith("parts/") else [])
        return get(root, name)

    monkeypatch.setattr(Root, "get", noted)
    ours, missing = scored(grown, "digits@3", model, scorer)  # digits@2 was never scored
    assert missing == [3, 4]
    assert len(set(read)) == 2
    theirs, everything = scored(whole, "digits@3", model, scorer)
    assert everything == [0, 1, 2, 3, 4]
    assert ours.key == theirs.key
    assert ours.metrics == theirs.metrics
    assert rows(grown, ours.key) == rows(whole, theirs.key)
    assert np.isfinite(ours.seconds["total"])


def test_samples_without_a_number_stay_counted(digits: dict[str, list[Path]], tmp_path: Path) -> None:
    """A model that is not finite somewhere: what was counted in the version before is counted on."""
    store = Store.create(tmp_path / "store")
    store.datasets.add("digits", digits["train"][:1])
    store.datasets.add("digits", digits["train"][1:2], append=True)
    model = train(store, RECIPE, device="cpu").run.blob
    assert model is not None
    blind = Scorer("blind", 1, {"seen": "higher"}, ("seen",), frozenset({"classification"}), _seen)
    first, _ = scored(store, "digits@1", model, blind)
    second, missing = scored(store, "digits@2", model, blind)
    assert missing == [1]
    assert (first.metrics["nonfinite"], second.metrics["nonfinite"]) == (300, 600)
    assert second.metrics["nonfinite_samples"] == list(range(10))


def _seen(outputs: Any, *_: Any) -> Any:
    return {"seen": outputs[:, 0].cpu().double() * float("nan")}
