"""Searches on real digits: what wins, what is recorded, what resumes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from tamis.flows.configs import Resources
from tamis.flows.runners import Direct
from tamis.flows.searching import adapt
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.overlap import samples_in_common
from tamis.store.errors import DatasetNotFound, PriorityNotFound
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.search import Search, pinned
from tamis.training.adapting.segments import segment
from tamis.training.adapting.trials import final_error, trial_config
from tamis.training.config import InLoop, Span, TrainConfig
from tamis.training.errors import SearchError
from tamis.training.job import find, train

TRAIN: dict[str, Any] = {
    "dataset": "digits", "model": "tiny_model:linear", "channels": 1, "augment": "none", "batch_size": 64, "lr": 0.01,
}  # fmt: skip
EAGER = InLoop(name="selective-backprop", start=0)
NEXT_TO_NOTHING = (0.0, 0.0, 0.0, 0.01)


class Killed(BaseException):
    pass


def config(**given: Any) -> AdaptConfig:
    fields = {name: given.pop(name) for name in list(given) if name in TrainConfig.model_fields}
    options = {"budget_epochs": 1, "trials": 3, "sampler": "random"} | given
    return AdaptConfig(train=TrainConfig(**TRAIN | {"strategy": EAGER} | fields), **options)


def search(store: Store, **given: Any) -> dict[str, Any]:
    return adapt(Direct(), store.root.url, config(**given), Resources())


def trials(store: Store) -> list[dict[str, Any]]:
    """The trials of a store, as SQL tells them."""
    return store.query(
        "select (config->>'trial')::int as trial, config->'proposal' as proposal, status, error, "
        "(metrics->>'value')::double as value, metrics->>'run' as run, metrics->>'state' as state "
        "from runs where kind = 'trial' order by trial"
    ).to_pylist()


def test_the_value_is_the_mean_of_the_last_three_epochs() -> None:
    assert final_error([0.9, 0.5, 0.3, 0.2, 0.1]) == pytest.approx(0.2)
    assert final_error([0.9, 0.5]) == pytest.approx(0.7)
    assert final_error([0.9]) == 0.9


def test_a_function_that_ignores_everything_loses(store: Store, dataset: Dataset) -> None:
    """Trial 0 was begun with it: the search keeps to what is recorded."""
    begun = Search(store, pinned(store, config(budget_epochs=4)))
    begun.begin()
    assert begun.do(0, NEXT_TO_NOTHING)
    answer = search(store, budget_epochs=4)
    shown, run = trials(store), store.runs.get(answer["searches"][0])
    assert [one["trial"] for one in shown] == [0, 1, 2]
    assert shown[0]["value"] > max(one["value"] for one in shown[1:])
    assert shown[0]["value"] > 4 * min(one["value"] for one in shown[1:])
    best = min(shown, key=lambda one: one["value"])
    assert (run.metrics["trial"], run.metrics["value"]) == (best["trial"], best["value"])
    history = store.runs.get(best["run"]).metrics["history"]
    assert best["value"] == pytest.approx(sum(1 - one["accuracy"] for one in history[1:]) / 3)
    assert run.seconds["trials"] == pytest.approx(sum(store.runs.get(one["run"]).seconds["total"] for one in shown))
    found = store.priorities.get("digits-adaptsb")
    assert (found.search, found.trial, found.ref) == (run.key, best["trial"], answer["priorities"][0])
    assert found.function["values"] == store.runs.get(run.key).metrics["priority"]["values"]


def test_a_training_run_names_what_was_found(store: Store, dataset: Dataset) -> None:
    """By name or as JSON it is the same question; and the winner's own run is found by it."""
    search(store, trials=1)
    found = pinned(store, config(trials=1))
    by_json = trial_config(found, 1, store.priorities.get("digits-adaptsb").function)
    assert by_json.strategy is not None
    named = InLoop(**by_json.strategy.model_dump() | {"priority": "digits-adaptsb"})
    run = find(store, by_json.model_copy(update={"strategy": named}))
    assert run is not None
    assert run.key == trials(store)[0]["run"]
    assert run.config["strategy"]["priority"] == by_json.strategy.priority
    with pytest.raises(PriorityNotFound, match="Did you mean 'digits-adaptsb'"):
        train(store, TrainConfig(**TRAIN, strategy=InLoop(name="selective-backprop", priority="digit-adaptsb")))


def test_nothing_is_computed_twice(store: Store, dataset: Dataset) -> None:
    first = search(store, trials=2)
    kept = store.runs.all()
    again = search(store, trials=2)
    assert again == first | {"cached": True}
    longer = search(store, trials=3)
    assert [one["trial"] for one in trials(store)] == [0, 1, 2]
    assert len(store.runs.all()) == len(kept) + 3  # a search, a trial, its training run
    assert longer["searches"] != first["searches"]
    assert search(store, trials=3, name="another")["priorities"] == ["another@1"]


def test_a_killed_search_goes_on_to_the_same(store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of trial 7, the first that the Gaussian process proposes having been trial 6."""
    given: dict[str, Any] = {"sampler": "gp", "startup": 6, "trials": 8}
    undisturbed = Store.create(Path(store.root.url).parent / "undisturbed")
    undisturbed.datasets.add("digits", [shard.uri for shard in dataset.shards])
    search(undisturbed, **given)

    def stop(done: int, total: int) -> None:
        if done == 15:
            raise Killed

    begun = Search(store, pinned(store, config(**given)))
    begun.begin()
    while (left := begun.open()) and left[0][0] < 7:
        assert begun.do(*left[0])
    with pytest.raises(Killed):
        begun.do(*left[0], progress=stop)
    assert trials(store)[7]["status"] == "interrupted"
    search(store, **given)
    told = [{k: v for k, v in one.items() if k != "run"} for one in trials(store)]
    assert told == [{k: v for k, v in one.items() if k != "run"} for one in trials(undisturbed)]
    assert [one["run"] for one in trials(store)] == [one["run"] for one in trials(undisturbed)]


def test_failures_are_recorded_and_the_search_goes_on(store: Store, dataset: Dataset) -> None:
    begun = Search(store, pinned(store, config(trials=3)))
    begun.begin()
    assert begun.do(0, (0.0, 0.0, 0.0, 0.0))
    assert begun.do(1, (0.0, 0.0, 0.0, 1e-9))  # not nothing, and yet none is drawn
    assert not begun.do(1, (0.0, 0.0, 0.0, 1e-9))
    answer = search(store, trials=3)
    shown = trials(store)
    assert [one["status"] for one in shown] == ["failed", "failed", "finished"]
    assert "CurationError: every value is 0" in shown[0]["error"]
    assert store.runs.get(answer["searches"][0]).metrics["failed"] == 2


def test_a_search_in_which_all_fail_says_why(store: Store, dataset: Dataset) -> None:
    with pytest.raises(SearchError, match=r"None of the 2 trials came to an end.*NonFiniteLoss"):
        search(store, trials=2, lr=1e30)
    assert {one["status"] for one in trials(store)} == {"failed"}


def test_a_trial_that_another_is_at_is_left_alone_until_that_is_over(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pinned(store, config(trials=1, patience=3600.0))
    begun = Search(store, asked)
    key = begun.trials.key(0)
    assert store.runs.claim(kind="trial", key=key, dataset=dataset.ref, config={"proposal": [1, 1, 1, 1], "trial": 0})
    assert begun.open() == [(0, (1, 1, 1, 1))]  # with what it was begun with
    assert not begun.do(0, (1, 1, 1, 1))  # this process lives
    monkeypatch.setattr("tamis.store.run.is_gone", lambda process: process is not None)
    assert begun.do(0, (1, 1, 1, 1))


def test_another_machines_trial_is_taken_over_when_patience_ends(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, Any] = {"kind": "trial", "key": "abcd", "dataset": dataset.ref}
    monkeypatch.setattr("tamis.store.runs.events.this_process", lambda: '{"host": "elsewhere", "pid": 1}')
    assert store.runs.claim(**said)
    assert not store.runs.claim(**said, patience=3600)
    assert store.runs.claim(**said, patience=0)
    store.runs.fail("abcd", "so it is")
    assert not store.runs.claim(**said, patience=0)


def test_the_hold_out_is_apart_from_what_is_trained_on(store: Store, dataset: Dataset, digits: Any) -> None:
    fit, held = (store.datasets.get(ref) for ref in _parts(pinned(store, config(holdout="20%"))))
    assert held.samples == pytest.approx(0.2 * dataset.samples, abs=10)
    assert fit.samples + held.samples == dataset.samples
    assert samples_in_common(fit, held) == 0
    with pytest.raises(SearchError, match=r"300 of the 300 samples of the hold-out .* are in digits@1 too"):
        pinned(store, config(holdout=held.ref))
    store.datasets.add("apart", digits["test"])
    assert _parts(pinned(store, config(holdout="apart"))) == ("digits@1", "apart@1")
    with pytest.raises(DatasetNotFound, match="Did you mean 'apart'"):
        pinned(store, config(holdout="aprat"))
    with pytest.raises(SearchError, match="'110%': expected a dataset, or a share"):
        pinned(store, config(holdout="110%"))


def _parts(asked: AdaptConfig) -> tuple[str, str]:
    return asked.train.dataset, asked.holdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget_epochs": None}, "a trial has one budget"),
        ({"budget_seconds": 9}, "not budget_epochs and budget_seconds"),
        ({"budget_epochs": None, "budget_seconds": 9, "sampler": "hyperband"}, "hyperband ends trials"),
        ({"evaluate_on": "digits"}, "leave evaluate_on out"),
        ({"strategy": InLoop(name="stale-sb", beta=1)}, "what is searched for"),
        ({"strategy": InLoop(name="infobatch")}, "the strategy of a search is"),
        ({"segments": 11}, "give each at least one epoch"),
        ({"task": "regression", "strategy": None}, "the error of classification"),
    ],
)
def test_what_cannot_be_searched_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**given)


def test_a_budget_of_backprops_is_the_same_for_all(store: Store, dataset: Dataset) -> None:
    """A function that selects half takes twice the epochs; each stops with the epoch that reaches the budget."""
    budget = 2_000
    search(store, budget_epochs=None, budget_backprops=budget, trials=2)
    for one in trials(store):
        run = store.runs.get(one["run"])
        backprops, epochs = run.metrics["backprops"], len(run.metrics["history"])
        assert budget <= backprops < budget + 1_348  # samples of the training part
        assert run.config["span"] == {"backprops": budget, "begins": 0, "whole": budget / 1_348}
        assert epochs >= 2


def test_hyperband_ends_trials_early_and_chooses_among_the_rest(store: Store, dataset: Dataset) -> None:
    # Of two epochs there is one bracket: after the first, those go on that are among the best third.
    begun = Search(store, pinned(store, config(budget_epochs=2, trials=6, sampler="hyperband", parallel=3)))
    begun.begin()
    assert begun.do(0, (1.0, 1.0, 1.0, 1.0))
    for number in (1, 2):
        assert begun.do(number, (0.5, 0.5, 0.5, 0.5))
    for number in (3, 4, 5):
        assert begun.do(number, NEXT_TO_NOTHING)
    shown = trials(store)
    found = begun.finish()
    assert {one["state"] for one in shown[3:]} == {"pruned"}
    assert {one["run"] for one in shown if one["state"] == "pruned"} == {None}
    assert found.search.metrics["pruned"] == sum(one["state"] == "pruned" for one in shown)
    assert found.priority.function["values"] == [1.0, 1.0, 1.0, 1.0]


def test_segments_are_searched_from_the_weights_before_them(store: Store, dataset: Dataset) -> None:
    answer = search(store, trials=1, segments=3, epochs=4, holdout="10%")
    assert answer["priorities"] == [f"digits-adaptsb-{i}of3@1" for i in (1, 2, 3)]
    runs = [store.runs.get(key) for key in answer["runs"]]
    assert [run.config["epochs"] for run in runs] == [1, 1, 2]
    assert [run.config["span"]["begins"] for run in runs] == [0, 1, 2]
    assert {run.config["span"]["whole"] for run in runs} == {4}
    assert [run.config["init_from"] for run in runs] == [None, runs[0].key, runs[1].key]
    searches = [store.runs.get(key) for key in answer["searches"]]
    assert [run.config["train"]["init_from"] for run in searches] == [None, runs[0].key, runs[1].key]
    assert [run.config["train"]["strategy"].get("start") for run in searches] == [0, 0, 0]
    assert runs[2].metrics["train_loss"] < runs[0].metrics["train_loss"]
    assert search(store, trials=1, segments=3, epochs=4, holdout="10%") == answer | {"cached": True}


def test_later_segments_begin_to_choose_at_once(store: Store, dataset: Dataset) -> None:
    asked = pinned(store, config(segments=2, epochs=5, strategy=None))
    (first, _), (later, trained) = segment(asked, 0, None), segment(asked, 1, "a run")
    assert first.train.strategy == InLoop(name="selective-backprop")
    assert later.train.strategy == InLoop(name="selective-backprop", leaves=None, start=0)
    assert trained.span == Span(begins=2, whole=5)
    assert (trained.epochs, trained.init_from) == (3, "a run")
    assert trained.seed != asked.train.seed
