"""Selective-Backprop and StaleSB: how much they choose, by which losses, what they read, what they leave, and kills."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.training.config import InLoop, Plan
from tamis.training.errors import NonFiniteLoss, StrategyError
from tamis.training.job import TrainConfig, train
from tamis.training.loop import At, Looked
from tamis.training.planning import plan
from tamis.training.strategies import get_strategy
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream

RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 4, "batch_size": 64, "lr": 0.05, "channels": 1,
    "record_losses": True,
}  # fmt: skip


def config(name: str, **parameters: Any) -> TrainConfig:
    given = {key: parameters.pop(key) for key in list(parameters) if key in TrainConfig.model_fields}
    return TrainConfig(**RECIPE | given, strategy=InLoop(name=name, **parameters))


def made(store: Store, name: str, **parameters: Any) -> Any:
    """A strategy as it is before its first epoch, with batches of 128."""
    found: Plan = plan(store, config(name, batch_size=128, **parameters))
    return get_strategy(name)(store, found, torch.device("cpu"))


def history(store: Store, run: str) -> dict[int, dict[str, np.ndarray[Any, Any]]]:
    """The loss history by epoch: columns by sample."""
    columns = ("sample", "loss", "loss_epoch", "probability", "selected")
    found = store.query(f"select epoch, {', '.join(columns)} from losses where run = $run order by 1, 2", {"run": run})
    epochs = found["epoch"].to_numpy()
    arrays = {name: found[name].to_numpy(zero_copy_only=False) for name in columns}
    return {int(e): {name: values[epochs == e] for name, values in arrays.items()} for e in np.unique(epochs)}


def batch_of(samples: list[int]) -> Batch:
    count = len(samples)
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(samples) % 256
    return Batch(images, torch.tensor(samples) % 10, torch.ones(count), torch.tensor(samples))


def looked(losses: list[float]) -> Looked:
    return Looked(torch.tensor(losses, dtype=torch.float32), None)


class Killed(BaseException):
    pass


def killed_at(step: int, store: Store, asked: TrainConfig) -> None:
    def stop(done: int, total: int) -> None:
        if done >= step:
            raise Killed

    with pytest.raises(Killed):
        train(store, asked, checkpoint_every=1, progress=stop)


@pytest.mark.parametrize(
    ("given", "share"), [({"beta": 1.0}, 1 / 2), ({"beta": 3.0}, 1 / 4), ({"selectivity": 0.33}, 0.33)]
)
def test_losses_of_one_distribution_are_chosen_at_the_rate_of_the_thesis(
    store: Store, dataset: Dataset, given: dict[str, float], share: float
) -> None:
    """P = share ** beta of a uniform share has the mean 1 / (beta + 1); 3 standard deviations of a binomial count."""
    strategy, generator = made(store, "selective-backprop", start=0, **given), np.random.default_rng(7)
    strategy.before_epoch(0, None)
    drawn, chosen = 0, 0
    for step in range(200):
        losses = generator.exponential(size=128).astype(np.float32)
        weights, _ = strategy.weigh(At(0, 0, step), np.arange(128), losses, generator)
        if step >= 8:  # the history of 1,024 is full
            drawn, chosen = drawn + 128, chosen + int((weights > 0).sum())
    assert abs(chosen - share * drawn) < 3 * math.sqrt(drawn * share * (1 - share)) + 0.005 * drawn


def test_a_batch_enters_the_history_before_its_shares_are_taken(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "selective-backprop", start=0, beta=1.0)
    _, probability = strategy.weigh(At(0, 0, 0), np.arange(4), np.float32([4, 1, 3, 2]), np.random.default_rng(0))
    assert probability.tolist() == [1.0, 0.25, 0.75, 0.5]  # shares at most itself: the highest is always chosen
    strict = made(store, "selective-backprop", start=0, beta=1.0, strict=True)
    _, probability = strict.weigh(At(0, 0, 0), np.arange(4), np.float32([4, 1, 3, 2]), np.random.default_rng(0))
    assert probability.tolist() == [0.75, 0.0, 0.5, 0.25]


def test_chosen_samples_wait_for_a_full_batch_and_an_epoch_keeps_its_own(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "selective-backprop", start=0, selectivity=0.5)
    strategy.before_epoch(0, None)
    trained: list[int] = []
    for step in range(6):
        samples = list(range(step * 128, step * 128 + 128))
        losses = [float(i % 7) for i in samples]
        found = strategy.take(
            At(0, step * 128, step), batch_of(samples), looked(losses), torch.Generator().manual_seed(step)
        )
        for one in found:
            assert len(one.samples) == 128
            assert (one.images[:, 0, 0, 0].numpy() == one.samples.numpy() % 256).all()  # each with its own image
            assert (one.labels == one.samples % 10).all()
            trained += one.samples.tolist()
    for one in strategy.rest(At(0, 768, 6)):
        trained += one.samples.tolist()
    chosen = np.flatnonzero(strategy.after_epoch(0).selected).tolist()
    assert sorted(trained) == chosen
    assert len(set(trained)) == len(trained)


def test_a_pool_larger_than_a_batch_fills_several(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "selective-backprop", start=0, selectivity=1.0, pool=300)
    strategy.before_epoch(0, None)
    found = [
        len(b.samples)
        for b in strategy.take(At(0, 0, 0), batch_of(list(range(300))), looked([1.0] * 300), torch.Generator())
    ]
    assert found == [128, 128]
    assert [len(b.samples) for b in strategy.rest(At(0, 300, 2))] == [44]
    run = train(store, config("selective-backprop", selectivity=0.5, pool=256)).run
    assert run.metrics["samples_read"] == 4 * dataset.samples


def test_selective_backprop_reads_everything_and_trains_on_a_part(store: Store, dataset: Dataset) -> None:
    run = train(store, config("selective-backprop", selectivity=0.33)).run
    left = store.selections.get("digits-selective-backprop")
    shown = history(store, run.key)
    assert run.selection == left.key
    assert run.metrics["samples_read"] == 4 * dataset.samples
    assert run.metrics["backprops"] == sum(r.size for r in left.rounds)
    assert [r.first_epoch for r in left.rounds] == [0, 1, 2, 3]
    assert left.rounds[0].size == dataset.samples  # epoch 0 is on everything
    for number in (1, 2, 3):
        samples, weights = left.read_round(number)
        epoch = shown[number]
        assert sorted(samples.tolist()) == epoch["sample"][epoch["selected"].astype(bool)].tolist()
        assert set(weights.tolist()) == {1.0}
        assert len(epoch["sample"]) == dataset.samples
        assert (epoch["loss_epoch"] == number).all()
        assert epoch["probability"].min() >= 0
        assert epoch["probability"].max() == 1
        hard = epoch["loss"] > np.median(epoch["loss"])
        selected = epoch["selected"].astype(bool)
        assert selected[hard].mean() > 2 * selected[~hard].mean()
    assert {"selection_forward", "training_forward", "backward", "stream", "train"} <= set(run.seconds)


def test_stale_with_a_pass_every_epoch_is_selective_backprop_to_the_bit(store: Store, dataset: Dataset) -> None:
    selective = train(store, config("selective-backprop", selectivity=0.4)).run
    stale = train(store, config("stale-sb", selectivity=0.4, every=1)).run
    assert stale.blob == selective.blob
    ours, theirs = history(store, stale.key), history(store, selective.key)
    for epoch, columns in ours.items():
        assert all(
            np.array_equal(values, theirs[epoch][name], equal_nan=name in ("loss", "probability"))
            for name, values in columns.items()
        )


def test_reuse_epochs_read_only_what_they_draw_by_each_samples_own_loss(store: Store, dataset: Dataset) -> None:
    run = train(store, config("stale-sb", selectivity=0.33, every=3, epochs=5, start=1)).run
    left, shown = store.selections.get("digits-stale-sb"), history(store, run.key)
    sizes = [r.size for r in left.rounds]
    reused = [2, 3]  # epochs 1 and 4 have passes
    assert run.metrics["samples_read"] == 3 * dataset.samples + sizes[2] + sizes[3]
    assert run.metrics["backprops"] == sum(sizes)
    for epoch in reused:
        there, passed = shown[epoch], shown[1]
        assert (there["loss_epoch"] == 1).all()
        assert np.array_equal(there["loss"], passed["loss"])  # each sample's own
        shares = np.searchsorted(np.sort(passed["loss"]), passed["loss"], "right") / dataset.samples
        beta = 1 / 0.33 - 1
        assert there["probability"] == pytest.approx(shares**beta, abs=1e-6)
        expected, spread = float(np.sum(shares**beta)), float(np.sqrt(np.sum(shares**beta * (1 - shares**beta))))
        assert abs(sizes[epoch] - expected) < 4 * spread
        assert expected == pytest.approx(0.33 * dataset.samples, rel=0.01)
    drawn = [set(left.read_round(number)[0].tolist()) for number in reused]
    assert drawn[0] != drawn[1]  # a fresh draw each epoch


def test_bytes_read_in_a_reuse_epoch_are_those_of_the_drawn_samples(store: Store, dataset: Dataset) -> None:
    run = train(store, config("stale-sb", selectivity=0.33, every=3, epochs=3)).run
    left = store.selections.get("digits-stale-sb")

    def read(what: Dataset | Selection, epoch: int) -> int:
        stream = SelectionStream(store, what, members=(), channels=1)
        assert sum(len(batch.samples) for batch in stream.epoch(epoch)) == stream.size(epoch)
        return stream.bytes_read

    assert run.metrics["bytes_read"] == 2 * read(dataset, 0) + read(left, 2)


@pytest.mark.parametrize(("name", "more"), [("selective-backprop", {}), ("stale-sb", {"every": 2})])
@pytest.mark.parametrize("step", [35, 42])
def test_a_killed_run_goes_on_to_the_bit(
    store: Store, dataset: Dataset, name: str, more: dict[str, Any], step: int
) -> None:
    asked = config(name, selectivity=0.33, **more)
    killed_at(step, store, asked)
    told: list[str] = []
    run = train(store, asked, notify=told.append).run
    assert told[0].startswith("Resuming run")
    assert train(store, asked, force=True).confirmed
    left = store.selections.get(f"digits-{name}")
    assert [r.first_epoch for r in left.rounds] == [0, 1, 2, 3]
    assert run.metrics["backprops"] == sum(r.size for r in left.rounds)
    assert not store.root.list("drafts")


def test_what_it_leaves_is_replayed_by_others(store: Store, dataset: Dataset) -> None:
    train(store, config("stale-sb", selectivity=0.33, every=2))
    left = store.selections.get("digits-stale-sb")
    replay = train(
        store, TrainConfig(**RECIPE | {"lr": 0.01, "optimizer": "adam", "nesterov": False}, selection="digits-stale-sb")
    ).run
    assert replay.metrics["samples_read"] == sum(r.size for r in left.rounds)
    assert "select" not in replay.seconds


def test_a_loss_that_is_not_finite_is_named_recorded_and_not_chosen(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "selective-backprop", start=0, selectivity=1.0)
    told: list[str] = []
    strategy.notify = told.append
    strategy.before_epoch(0, None)
    losses = [1.0, math.nan, 2.0, math.inf, 3.0]
    found = list(strategy.take(At(0, 0, 0), batch_of([5, 6, 7, 8, 9]), looked(losses), torch.Generator()))
    assert not found
    assert [b.samples.tolist() for b in strategy.rest(At(0, 5, 0))] == [[5, 7, 9]]
    signals = strategy.after_epoch(0)
    assert told == ["Epoch 0: 2 samples had a loss that is NaN or infinite, and were skipped: 6, 8."]
    selected = dict(zip(signals.samples.tolist(), signals.selected.tolist(), strict=True))
    assert selected == {5: True, 6: False, 7: True, 8: False, 9: True}
    assert np.isfinite(signals.losses).tolist() == [True, False, True, False, True]


def test_the_run_stops_at_such_a_loss_by_choice_and_where_all_are(store: Store, dataset: Dataset) -> None:
    stopping = made(store, "selective-backprop", start=0, nonfinite="stop")
    stopping.before_epoch(0, None)
    with pytest.raises(NonFiniteLoss, match="samples 6"):
        stopping.take(At(0, 0, 3), batch_of([5, 6]), looked([1.0, math.nan]), torch.Generator())
    going = made(store, "selective-backprop", start=0)
    going.before_epoch(0, None)
    with pytest.raises(NonFiniteLoss, match="2 of 2 losses"):
        going.take(At(0, 0, 3), batch_of([5, 6]), looked([math.nan, math.nan]), torch.Generator())


def test_equal_losses_are_all_chosen_and_the_run_ends(store: Store, dataset: Dataset) -> None:
    strategy = made(store, "selective-backprop", start=0, beta=3.0)
    weights, _ = strategy.weigh(At(0, 0, 0), np.arange(128), np.full(128, 0.5, np.float32), np.random.default_rng(0))
    assert weights.all()


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("selective-backprop", {"beta": 0}, "beta"),
        ("selective-backprop", {"selectivity": 0}, "selectivity"),
        ("selective-backprop", {"selectivity": 1.5}, "selectivity"),
        ("selective-backprop", {"selectivity": 0.5, "beta": 2}, "selectivity and beta"),
        ("selective-backprop", {"history": 0}, "history"),
        ("selective-backprop", {"priority": "{"}, "Its parameters are"),
        ("selective-backprop", {"every": 2}, "every"),
        ("stale-sb", {"every": 0}, "every"),
        ("selectiv", {}, "did you mean|Did you mean"),
    ],
)
def test_wrong_parameters_are_one_line(
    store: Store, dataset: Dataset, name: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(StrategyError, match=words) as refused:
        plan(store, config(name, **given))
    assert "\n" not in str(refused.value)


def test_keys_cover_the_parameters_in_full(store: Store, dataset: Dataset) -> None:
    def key(**given: Any) -> str:
        return plan(store, config("selective-backprop", **given)).key

    assert key() == key(history=1024, start=1)
    assert len({key(), key(beta=1.0), key(selectivity=1 / 3), key(strict=True), key(leaves="other"), key(start=0)}) == 6
    plain = TrainConfig(**RECIPE)
    assert plan(store, plain).key == plan(store, plain.model_copy(update={"rate_by": "epochs"})).key


def test_any_function_of_the_share_takes_the_place_of_the_power(store: Store, dataset: Dataset) -> None:
    from tamis.curation.selective.priority import Priority

    middle = json.dumps(Priority.linear((0.0, 1.0, 1.0, 0.0)).to_json())
    strategy = made(store, "selective-backprop", start=0, priority=middle)
    _, probability = strategy.weigh(At(0, 0, 0), np.arange(4), np.float32([1, 2, 3, 4]), np.random.default_rng(0))
    assert probability == pytest.approx([0.5, 1.0, 1.0, 0.0])


def test_the_rate_follows_backprops_by_choice(store: Store, dataset: Dataset) -> None:
    by_epochs = train(store, config("selective-backprop", selectivity=0.33)).run
    by_backprops = train(store, config("selective-backprop", selectivity=0.33, rate_by="backprops")).run
    assert by_epochs.blob != by_backprops.blob


def test_the_command_line_asks_the_same_question(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from tamis.flows.cli.app import cli

    options = ["--strategy", "stale-sb", "--selectivity", "0.33", "--every", "2"]
    recipe = [
        "--dataset",
        "digits",
        "--model",
        "preact8",
        "--epochs",
        "4",
        "--batch-size",
        "64",
        "--lr",
        "0.05",
        "--channels",
        "1",
    ]
    run = train(store, config("stale-sb", selectivity=0.33, every=2)).run
    answer = CliRunner().invoke(
        cli, ["--store", store.root.url, "train", *recipe, "--record-losses", *options, "--json"]
    )
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["run"] == run.key
    wrong = CliRunner().invoke(cli, ["--store", store.root.url, "train", *recipe, "--every", "2"])
    assert wrong.exit_code == 2
    assert "--every is a parameter of stale-sb: give one of them as --strategy" in wrong.output


def test_reused_activations_give_the_step_that_a_second_forward_pass_gives(store: Store, dataset: Dataset) -> None:
    """Everything chosen from batches of the batch's size: training mode, one forward and one backward pass each."""
    assert dataset.samples % 107 == 0  # an epoch's rest is trained on at its end, at the rate of that
    reused = train(store, config("selective-backprop", batch_size=107, selectivity=1.0, start=0, reuse=True)).run
    plain = train(store, TrainConfig(**RECIPE | {"batch_size": 107})).run
    assert reused.metrics["activation_bytes"] > 64 * 64  # the images of a batch at the least
    assert reused.blob == plain.blob  # the same order, augmentation and batches: the same weights to the bit
    assert "training_forward" not in reused.seconds


def test_reuse_updates_on_all_that_was_chosen_since_and_survives_a_kill(store: Store, dataset: Dataset) -> None:
    asked = config("selective-backprop", selectivity=0.4, reuse=True)
    killed_at(36, store, asked)
    told: list[str] = []
    run = train(store, asked, notify=told.append).run
    assert told[0].startswith("Resuming run")
    assert train(store, asked, force=True).confirmed
    assert run.metrics["backprops"] == sum(r.size for r in store.selections.get("digits-selective-backprop").rounds)
