"""Stopping by seconds: after which step, what is counted, what is kept, and what can be confirmed.

The clock is the tests' own: a step takes a second, an evaluation a hundred.
"""

from typing import Any

import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.job import TrainConfig, train
from tamis.training.planning import plan
from tamis.training.tasks.contract import Task

STEPS = 24  # of an epoch of digits
QUICK: dict[str, Any] = {"dataset": "digits", "model": "preact8", "channels": 1, "batch_size": 64, "epochs": 3}


class Clock:
    """Seconds that pass when a step is done, told by `progress`."""

    def __init__(self, start: float = 0.0, step: float = 1.0) -> None:
        self.now, self._step = start, step

    def __call__(self) -> float:
        return self.now

    def progress(self, _done: int, _total: int) -> None:
        self.now += self._step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made, evaluate = Clock(), Task.evaluate

    def slowly(*arguments: Any) -> dict[str, float]:
        made.now += 100
        return evaluate(*arguments)

    monkeypatch.setattr("tamis.training.trainer.perf_counter", made)
    monkeypatch.setattr(Task, "evaluate", slowly)
    return made


def stopping(seconds: float, **more: Any) -> TrainConfig:
    return TrainConfig(**QUICK | {"evaluate_on": "digits", "evaluate_every": 1, "stop_after": seconds} | more)


@pytest.mark.parametrize(
    ("seconds", "steps", "epoch"), [(5, 5, 5 * 64 / 1498), (30, 30, 1 + 6 * 64 / 1498), (23.5, 24, 1.0), (48, 48, 2.0)]
)
def test_stops_after_the_step_that_reaches_it(
    store: Store, dataset: Dataset, clock: Clock, seconds: float, steps: int, epoch: float
) -> None:
    run = train(store, stopping(seconds, record_losses=True), progress=clock.progress).run
    assert run.status == "finished"
    assert run.metrics["stopped"] == {"seconds": steps, "epoch": pytest.approx(epoch), "step": steps}
    assert run.metrics["steps"] == steps
    assert run.metrics["backprops"] == round(epoch * dataset.samples)
    assert run.metrics["samples_read"] == max(run.metrics["backprops"], 1024)  # so many are read for mean and deviation
    shown = run.metrics["history"]
    assert [one["epoch"] for one in shown] == pytest.approx([*range(1, -(-steps // STEPS)), epoch])
    assert shown[-1]["seconds"] == steps  # evaluations left out
    assert run.metrics["accuracy"] == shown[-1]["accuracy"]
    rows = store.query("select count(*) n from losses")["n"].to_pylist()
    assert rows == [round(epoch * dataset.samples)]
    assert not store.root.list("checkpoints")


def test_a_run_that_ends_before_is_as_any_other(store: Store, dataset: Dataset, clock: Clock) -> None:
    """The second in which the last step ends is not too late."""
    plain = TrainConfig(**QUICK | {"epochs": 1})
    for seconds in (24, 1000):
        run = train(store, stopping(seconds, epochs=1), progress=clock.progress).run
        assert "stopped" not in run.metrics
        assert run.blob == train(store, plain).run.blob
        assert plan(store, stopping(seconds)).key != plan(store, stopping(seconds + 1)).key


def test_seconds_of_earlier_tries_count(store: Store, dataset: Dataset, clock: Clock) -> None:
    def interrupted(done: int, total: int) -> None:
        clock.progress(done, total)
        if done == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, stopping(40), checkpoint_every=5, progress=interrupted)
    clock.now = 7000.0
    run = train(store, stopping(40), progress=clock.progress).run
    assert run.metrics["stopped"]["step"] == 40 + 1  # a checkpoint of step 25 was written before that second was over
    assert run.metrics["stopped"]["seconds"] == 40


def test_a_stopped_run_is_kept_and_force_does_not_confirm_it(store: Store, dataset: Dataset, clock: Clock) -> None:
    first, told = train(store, stopping(5), progress=clock.progress), list[str]()
    again = train(store, stopping(5), force=True, notify=told.append)
    assert (again.run, again.cached, again.confirmed) == (first.run, True, None)
    [words] = told
    assert "stopped by the clock, which no repetition can confirm" in words


def test_a_repetition_that_the_clock_stops_confirms_nothing(store: Store, dataset: Dataset, clock: Clock) -> None:
    asked, told = stopping(30, epochs=1), list[str]()
    first = train(store, asked, progress=clock.progress)
    same = train(store, asked, force=True, progress=clock.progress, notify=told.append)
    assert (same.confirmed, told) == (True, [])

    def slow(done: int, total: int) -> None:
        clock.now += 10

    other = train(store, asked, force=True, progress=slow, notify=told.append)
    assert (other.run, other.cached, other.confirmed) == (first.run, False, None)
    assert len(told) == 1


@pytest.mark.parametrize("name", ["selective-backprop", "infobatch"])
def test_a_strategy_leaves_what_it_came_to(store: Store, dataset: Dataset, clock: Clock, name: str) -> None:
    asked = stopping(35, strategy={"name": name}, epochs=4)
    run = train(store, asked, progress=clock.progress).run
    assert 1 < run.metrics["stopped"]["epoch"] < 4
    sizes = [one.size for one in store.selections.get(f"digits-{name}").rounds]
    assert len(sizes) == 2
    if name == "selective-backprop":  # what was queued is trained on, too
        assert sum(sizes) == run.metrics["backprops"]
    assert not store.root.list("checkpoints")
    assert not store.root.list("drafts")
