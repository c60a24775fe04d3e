"""The flow `renew`: only what is new costs anything, and a proxy is trained again by a rule alone."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.curation.errors import CurationError
from tamis.flows.configs import Resources
from tamis.flows.renewal.config import RenewConfig, RenewResult
from tamis.flows.work import run
from tamis.store import Store
from tamis.store.errors import DatasetNotFound, ShardChanged, ShardError

LINEAR: dict[str, Any] = {"model": "tiny_model:linear", "epochs": 1, "augment": "none"}


class Place:
    """A folder in which shards arrive, and a store that has the first three."""

    def __init__(self, path: Path, shards: list[Path]) -> None:
        self.folder, self.coming = path / "shards", shards[3:]
        self.folder.mkdir()
        for shard in shards[:3]:
            shutil.copy2(shard, self.folder)
        self.store = Store.create(path / "store")
        self.store.datasets.add("digits", sorted(self.folder.iterdir()))

    def arrive(self) -> Path:
        """One more shard."""
        return Path(shutil.copy2(self.coming.pop(0), self.folder))

    def renew(self, **more: Any) -> RenewResult:
        asked: dict[str, Any] = {"dataset": "digits", "shards": [str(self.folder / "*.tar")], "proxies": [LINEAR]}
        asked["selections"] = [{"budget": "40%"}]
        config = RenewConfig.model_validate(asked | more)
        return run("renew", self.store.root.url, config, Resources(device="cpu"), runner="direct")


@pytest.fixture
def place(tmp_path: Path, digits: dict[str, list[Path]]) -> Place:
    return Place(tmp_path, digits["train"])


def files(store: Store) -> Mapping[str, float]:
    return {name: changed for name, _, changed in store.root.aged("")}


def test_a_new_shard_costs_itself_and_an_old_proxy_ranks_everything(place: Place) -> None:
    first = place.renew()
    assert (first.proxies[0].decision, first.passes[0].parts_computed) == ("trained", 3)
    place.arrive()
    again = place.renew()
    assert (again.before, again.dataset, again.fresh) == ("digits@1", "digits@2", 1)
    (kept,) = again.proxies
    assert (kept.decision, kept.run, kept.trained_on) == ("kept", first.proxies[0].run, "digits@1")
    assert "pinned for good" in kept.reason
    assert (again.passes[0].parts_computed, again.passes[0].parts) == (1, 4)
    chosen = place.store.selections.get(again.selections[0]["selection"])
    assert chosen.ref == "digits-entropy@2"
    entropy = place.store.runs.scores(again.passes[0].run, "entropy", chosen.size * 5 // 2)
    hardest = np.lexsort((np.arange(len(entropy)), -entropy))[: chosen.size]  # by (score, sample)
    assert chosen.round_at(0)[0].tolist() == hardest.tolist()


def test_nothing_new_writes_nothing(place: Place) -> None:
    more: dict[str, Any] = {"selections": [{"budget": "40%", "measure": "margin"}, {"budget": 9, "method": "random"}]}
    assert not place.renew(**more).nothing_new
    before = files(place.store)
    again = place.renew(**more)
    assert again.nothing_new
    assert [one["created"] for one in again.selections] == [False, False]
    assert files(place.store) == before


def test_a_proxy_is_trained_again_once_the_dataset_has_grown_enough(place: Place) -> None:
    rule = {"retrain": {"growth": "40%"}}
    first = place.renew(**rule)
    place.arrive()
    kept = place.renew(**rule)  # 900 + 300 samples
    assert (kept.proxies[0].decision, kept.proxies[0].run) == ("kept", first.proxies[0].run)
    assert "grown by 33.3%" in kept.proxies[0].reason
    place.arrive()
    due = place.renew(**rule)  # 900 + 598
    assert (due.proxies[0].decision, due.proxies[0].trained_on) == ("retrained", "digits@3")
    assert due.proxies[0].reason == "grown by 66.4%, more than 40%; every shard is scored again"
    assert due.passes[0].parts_computed == 5
    assert place.renew(**rule).nothing_new


def test_methods_that_need_features_or_a_pass_are_renewed_too(place: Place) -> None:
    more: dict[str, Any] = {
        "selections": [{"method": "k-center", "budget": 20}, {"method": "el2n", "budget": 20}],
        "matches": [{"reselect": {"budget": 20, "name": "matched", "head": None}}],
        "layer": "0",
    }
    place.renew(**more)
    place.arrive()
    again = place.renew(**more)
    names = [one["selection"] for one in again.selections]
    assert names == ["digits-k-center@2", "digits-el2n@2", "matched@2"]
    assert {place.store.selections.get(name).dataset for name in names} == {"digits@2"}
    assert [one.parts_computed for one in again.passes] == [1, 1, 1], "uncertainty, el2n, features"
    assert place.renew(**more).nothing_new


def test_a_changed_shard_is_refused_and_a_missing_or_moved_one_is_told(place: Place) -> None:
    place.renew()
    first, second, third = sorted(place.folder.iterdir())
    moved = second.rename(place.folder / "renamed.tar")
    bytes_ = first.read_bytes()
    first.unlink()
    told = place.renew()
    assert (told.dataset, told.fresh, told.moved) == ("digits@1", 0, 1)
    assert told.vanished == (str(first),)
    assert [s.uri for s in place.store.datasets.get("digits").shards] == [str(first), str(moved), str(third)]
    first.write_bytes(bytes_)
    assert place.renew().vanished == ()
    third.write_bytes(bytes_)
    with pytest.raises(ShardChanged, match="changed after it was indexed"):
        place.renew()


def test_a_damaged_shard_leaves_everything_as_it_was(place: Place) -> None:
    place.renew()
    good = place.arrive()
    whole = good.read_bytes()
    good.write_bytes(whole[:700])
    before = files(place.store)
    with pytest.raises(ShardError, match=good.name):
        place.renew()
    assert files(place.store) == before
    good.write_bytes(whole)
    assert place.renew().dataset == "digits@2"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"shards": ["nowhere/*.tar"]}, ShardError, "matches no file"),
        ({"dataset": "digit"}, DatasetNotFound, "Did you mean 'digits'"),
        ({"selections": [{"budget": "140%"}]}, CurationError, "140%"),
        ({"selections": [{"budget": 5, "params": {"per_clas": True}}]}, CurationError, "per_clas"),
        ({"proxies": [LINEAR | {"model": "preact21"}]}, Exception, "preact21"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_done(
    place: Place, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    place.arrive()
    before = files(place.store)
    with pytest.raises(error, match=words):
        place.renew(**more)
    assert files(place.store) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"shards": [""]}, "an empty pattern finds no shard"),
        ({"dataset": "digits@1"}, "without a version"),
        ({"selections": [{"budget": 5, "measure": "entropi"}]}, "Did you mean 'entropy'"),
        ({"selections": [{"budget": 5, "method": "selective-backprop"}]}, "chooses in the training loop"),
        ({"selections": [{"budget": 5, "method": "losses"}]}, "not renewable"),
        ({"selections": [{"budget": 5, "method": "gradmatch"}]}, "describe it in matches"),
        ({"selections": [{"budget": 5, "method": "randomm"}]}, "Did you mean 'random'"),
        ({"selections": [{"budget": 5, "scores": ["abcd"]}]}, "leave out scores"),
        ({"selections": [{"budget": 5, "dataset": "other"}]}, "not of other"),
        ({"selections": [{"budget": 5}, {"budget": 6}]}, "two selections have one name"),
        ({"proxies": []}, "needs scores: give a proxy"),
        ({"proxies": [LINEAR, LINEAR]}, "listed twice"),
        ({"proxies": [LINEAR | {"selection": "some"}]}, "whole dataset"),
        ({"retrain": {"growth": "much"}}, "such as 20%"),
        ({"retrain": {"age": "30"}}, "such as 30d"),
        ({"shards": [], "proxies": [], "selections": []}, "nothing to renew"),
    ],
)
def test_a_config_is_refused_for_what_is_wrong_with_it(more: dict[str, Any], words: str) -> None:
    given = {"dataset": "digits", "shards": ["a.tar"], "proxies": [LINEAR], "selections": [{"budget": 5}]}
    with pytest.raises(ValueError, match=words):
        RenewConfig.model_validate(given | more)


def test_own_methods_and_scorers_are_renewed(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say nothing of renewal: what they need tells."""
    (tmp_path / "mine_renewed.py").write_text(
        "import numpy as np\nfrom tamis.curation import Choice, Method\n"
        "def first(inputs, *, k, generator):\n"
        "    return Choice(np.arange(k), np.ones(k, np.float32))\n"
        "def pixels(outputs, targets, task):\n    return outputs.sum(dim=1)\n"
        "lossy = Method('lossy', 1, 'by losses', first, needs=frozenset({'losses'}))\n"
    )
    monkeypatch.chdir(tmp_path)
    own = {"scorers": ["mine_renewed:pixels"]}
    chosen = [{"method": "mine_renewed:first", "budget": 7}, {"measure": "pixels", "budget": 7}]
    made = place.renew(selections=chosen, **own)
    assert [one["selection"] for one in made.selections] == ["digits-first@1", "digits-pixels@1"]
    assert place.renew(selections=chosen, **own).nothing_new
    for wrong, words in (({"method": "mine_renewed:lossy"}, "not renewable"), ({"measure": "pixel"}, "'pixels'")):
        with pytest.raises(CurationError, match=words):
            place.renew(selections=[wrong | {"budget": 7}], **own)
