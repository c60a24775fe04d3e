"""The stream: the same global order for any world, exact coverage, resume anywhere, and nothing read but what was
chosen."""

import contextlib
import os
import pickle
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st
from numbered import SIDE, Select, Write, numbered, open_shards, png, read_number
from torch.utils.data import DataLoader

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError, ShardChanged
from tamis.store.selections import Selection
from tamis.training.errors import DecodeError, DecoderRefused, StateMismatch, WrongKind
from tamis.training.export.materialize import materialize
from tamis.training.reports import priority as looking
from tamis.training.streaming import advice as planner
from tamis.training.streaming.resume import Position, Share
from tamis.training.streaming.shuffle import WINDOW, EpochOrder
from tamis.training.streaming.states import canonical
from tamis.training.streaming.stream import SelectionStream

CHOSEN = [5, 59, 0, 17, 18, 19, 33, 41, 2, 58, 24, 25, 44]


@pytest.fixture
def thirteen(sixty: Dataset, select: Select) -> Selection:
    return select(sixty, (0, CHOSEN))


def global_order(streams: list[SelectionStream], epoch: int, start: int | None = None) -> list[tuple[int, float]]:
    """(sample, weight) by global position, as `streams` (one a rank) give them; all must give equally many batches."""
    ranks = [list(s.epoch(epoch, start)) for s in streams]
    assert len({tuple(len(b.samples) for b in batches) for batches in ranks}) == 1
    shares = [
        [(int(s), float(w)) for b in batches for s, w in zip(b.samples, b.weights, strict=True)] for batches in ranks
    ]
    return [share[i] for i in range(len(shares[0])) for share in shares]


def streams_of(store: Store, chosen: Selection | Dataset, world: int, **options: int) -> list[SelectionStream]:
    return [SelectionStream(store, chosen, rank=r, world=world, **options) for r in range(world)]


def test_a_batch_holds_images_labels_weights_and_samples(store: Store, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen, seed=3, batch_size=5)
    batches = list(stream.epoch(0))
    assert [len(b.samples) for b in batches] == [5, 5, 3]
    assert stream.batches(0) == 3
    for batch in batches:
        assert batch.images.shape[1:] == (3, SIDE, SIDE)
        assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.int64)
        assert (batch.weights.dtype, batch.samples.dtype) == (torch.float32, torch.int64)
        assert read_number(batch.images) == batch.samples.tolist()
        assert batch.labels.tolist() == [s % 3 for s in batch.samples.tolist()]
        assert batch.weights.tolist() == [s + 1 for s in batch.samples.tolist()]
    assert sorted(torch.cat([b.samples for b in batches]).tolist()) == sorted(CHOSEN)


def test_epochs_and_seeds_give_other_orders_and_repeat_exactly(store: Store, sixty: Dataset) -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        [stream] = streams_of(store, sixty, 1, seed=seed)
        return tuple(s for s, _ in global_order([stream], epoch))

    orders = {(seed, epoch): order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    assert all(sorted(o) == list(range(60)) for o in orders.values())
    assert order(1, 2) == orders[1, 2]


def test_without_shuffling_the_order_is_the_selections(store: Store, sixty: Dataset, thirteen: Selection) -> None:
    for chosen, expected in ((thirteen, CHOSEN), (sixty, list(range(60)))):
        stream = SelectionStream(store, chosen, shuffle=False, batch_size=7)
        assert [s for b in stream.epoch(1) for s in b.samples.tolist()] == expected


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_world_has_the_same_global_order(store: Store, thirteen: Selection, world: int, batch_size: int) -> None:
    whole = global_order(streams_of(store, thirteen, 1, seed=1, batch_size=batch_size), 2)
    found = global_order(streams_of(store, thirteen, world, seed=1, batch_size=batch_size), 2)
    assert found[:13] == whole
    # What fills up the last batch stands at the beginning too, and weighs nothing.
    padding = found[13:]
    assert len(padding) < world
    assert padding == [(whole[i % 13][0], 0.0) for i in range(len(padding))]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_dropping_the_last_batch_leaves_whole_batches(store: Store, thirteen: Selection, world: int) -> None:
    whole = global_order(streams_of(store, thirteen, 1), 0)
    streams = [
        SelectionStream(store, thirteen, rank=r, world=world, batch_size=3, drop_last=True) for r in range(world)
    ]
    found = global_order(streams, 0)
    assert found == whole[: 13 // (3 * world) * 3 * world]
    assert {s.batches() for s in streams} == {13 // (3 * world)}


def delivered(
    n: int, share: Share, workers: int, begin: int, batches: int | None, every: int = 1
) -> tuple[list[list[int]], dict[str, int]]:
    """The first batches that one rank's loader gives, its workers in turn, and the state that it saves then."""
    count = max(workers, 1)
    at = [Position(0, begin, 0, worker, count) for worker in range(count)]
    each = [[b for block in share.blocks(n, one) for b in block] for one in at]
    found: list[list[int]] = []
    snapshot, since = list(at), 0
    for number in range(-(-share.own(n, begin) // share.batch_size) if batches is None else batches):
        worker = number % count
        batch = each[worker][number // count]
        found.append(batch.tolist())
        at[worker], since = at[worker].after(len(batch)), since + 1
        if len(found) % every == 0:
            snapshot, since = list(at), 0
    identity = {"selection": "k", "seed": 0}
    saved = {
        f"worker_{one.worker}": {"dataset_state": identity | one.state(share, n, share.batch_size)} for one in snapshot
    }
    main = {"_sampler_iter_state": None, "_sampler_iter_yielded": len(found) - since}
    state = {"_snapshot": {"_main_snapshot": main, "_worker_snapshots": saved}, "_steps_since_snapshot": since}
    return found, dict(canonical({"loader": state}, identity, lambda epoch: n))


@given(
    n=st.integers(1, 200),
    first=st.tuples(st.integers(1, 8), st.integers(0, 4)),
    then=st.tuples(st.integers(1, 8), st.integers(0, 4)),
    batch=st.integers(1, 20),
    stop=st.integers(0, 30),
    every=st.integers(1, 12),
)
def test_what_is_left_is_what_was_not_consumed(
    n: int, first: tuple[int, int], then: tuple[int, int], batch: int, stop: int, every: int
) -> None:
    """Any world size and number of workers, stopped anywhere, goes on at any other: each position once.

    Also between two snapshots of a loader that takes one every few steps.
    """
    ranks = [Share(rank, first[0], batch) for rank in range(first[0])]
    stop = min(stop, -(-ranks[0].own(n) // batch))
    parts = [delivered(n, share, first[1], 0, stop, every) for share in ranks]
    seen = [p for found, _ in parts for b in found for p in b if p < n]
    consumed = min(n, stop * batch * first[0])
    assert {state["samples_consumed"] for _, state in parts} == {consumed}
    assert sorted(seen) == list(range(consumed))
    rest = [delivered(n, Share(rank, then[0], batch), then[1], consumed, None)[0] for rank in range(then[0])]
    assert len({len(found) for found in rest}) == 1, "a rank with more batches than another would wait for ever"
    assert {tuple(map(len, found)) for found in rest} == {tuple(map(len, rest[0]))}
    assert sorted(p for found in rest for b in found for p in b if p < n) == list(range(consumed, n))


@given(n=st.integers(1, 100), workers=st.integers(1, 4), batch=st.integers(1, 9), taken=st.integers(0, 40))
def test_a_worker_goes_on_where_it_was(n: int, workers: int, batch: int, taken: int) -> None:
    for worker in range(workers):
        share, at = Share(0, 1, batch), Position(0, 0, 0, worker, workers)
        whole = [p for block in share.blocks(n, at) for b in block for p in b.tolist()]
        rest = [p for block in share.blocks(n, at.after(min(taken, len(whole)))) for b in block for p in b.tolist()]
        assert rest == whole[taken:]


@pytest.mark.parametrize(("first", "then"), [(1, 3), (2, 1), (2, 3), (4, 2), (3, 3)])
def test_resumes_in_mid_epoch_at_another_world_size(store: Store, sixty: Dataset, first: int, then: int) -> None:
    whole = global_order(streams_of(store, sixty, 1, seed=5), 1)
    streams = streams_of(store, sixty, first, seed=5, batch_size=4)
    states: list[dict[str, str | int]] = []
    for stream in streams:
        batches = stream.epoch(1)
        next(batches), next(batches), next(batches)
        states.append(stream.state_dict())
        batches.close()
    consumed = 3 * 4 * first
    assert states == [{"selection": sixty.key, "seed": 5, "epoch": 1, "samples_consumed": consumed}] * first
    later = streams_of(store, sixty, then, seed=5, batch_size=7)
    for stream in later:
        stream.load_state_dict(states[0])
        assert stream.state_dict() == states[0]
    assert global_order(later, 1)[: 60 - consumed] == whole[consumed:]
    assert global_order(later, 2)[:60] == global_order(streams_of(store, sixty, 1, seed=5), 2)


def test_a_state_of_something_else_is_refused(store: Store, sixty: Dataset, thirteen: Selection) -> None:
    state = SelectionStream(store, sixty, seed=1).state_dict()
    for other in (SelectionStream(store, thirteen, seed=1), SelectionStream(store, sixty, seed=2)):
        with pytest.raises(StateMismatch, match="same selection with the same seed"):
            other.load_state_dict(state)
    with pytest.raises(StateMismatch):
        SelectionStream(store, sixty, seed=1).load_state_dict({"selection": sixty.key, "seed": 1})


HUGE = 10**5000


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "1"}, {"epoch": 1.0}, {"epoch": True}, {"epoch": -1}, {"epoch": 2**63}, {"epoch": HUGE},
        {"samples_consumed": -1}, {"samples_consumed": None}, {"samples_consumed": 61}, {"samples_consumed": 2**62},
        {"samples_consumed": [4]}, {"selection": 5}, {"seed": "5"}, {"seed": HUGE}, {"order": "given"}, {"extra": 1},
        {"worker": 0}, {"worker": 2, "workers": 2, "begin": 0, "taken": 0},
        {"worker": 0, "workers": 2, "begin": 20, "taken": 0}, {"worker": 0, "workers": HUGE, "begin": 0, "taken": 0},
    ],
)  # fmt: skip
def test_a_tampered_state_is_refused(store: Store, sixty: Dataset, change: dict[str, object]) -> None:
    stream = SelectionStream(store, sixty, seed=5)
    state = {"selection": sixty.key, "seed": 5, "epoch": 0, "samples_consumed": 12}
    with pytest.raises(StateMismatch, match="not a state of") as caught:
        stream.load_state_dict(state | change)
    assert len(str(caught.value)) < 1_000
    assert stream.state_dict()["samples_consumed"] == 0, "a refused state leaves the stream where it was"
    stream.load_state_dict(state)
    assert stream.state_dict() == state


@pytest.mark.parametrize("state", [None, 3, "epoch", [], {}, {"epoch": 1}, {1: {2: 3}}])
def test_what_is_no_state_is_refused(store: Store, sixty: Dataset, state: object) -> None:
    with pytest.raises(StateMismatch, match="is not a state of this stream"):
        SelectionStream(store, sixty).load_state_dict(state)


def test_a_state_without_end_is_refused(store: Store, sixty: Dataset) -> None:
    state: dict[str, object] = {}
    state["again"] = state
    with pytest.raises(StateMismatch, match="is not a state of this stream"):
        SelectionStream(store, sixty).load_state_dict(state)


def test_reads_only_what_was_chosen(store: Store, sixty: Dataset, select: Select) -> None:
    apart = list(range(0, 60, 3))  # no two of them are neighbours, so no gap between neighbours is read
    stream = SelectionStream(store, select(sixty, (0, apart)), batch_size=6)
    for _ in stream.epoch(0):
        pass
    assert stream.samples_read == 20
    assert stream.bytes_read == int(sixty.locations().size[apart].sum())
    everything = SelectionStream(store, sixty)
    for _ in everything.epoch(0):
        pass
    extents = sixty.extents()
    assert everything.bytes_read <= int(extents.size.sum())


def test_only_the_shards_that_are_needed_are_opened(store: Store, sixty: Dataset, select: Select) -> None:
    Path(sixty.shards[1].uri).unlink()
    stream = SelectionStream(store, select(sixty, (0, [0, 24, 50])))
    assert sum(len(b.samples) for b in stream.epoch(0)) == 3


def test_rounds_take_turns_by_epoch(store: Store, sixty: Dataset, select: Select) -> None:
    stream = SelectionStream(store, select(sixty, (1, [1, 2, 3]), (4, [10, 11])), batch_size=2)
    for epoch, expected in ((1, [1, 2, 3]), (3, [1, 2, 3]), (4, [10, 11]), (9, [10, 11])):
        assert sorted(s for b in stream.epoch(epoch) for s in b.samples.tolist()) == expected
        assert stream.size(epoch) == len(expected)
    with pytest.raises(SelectionError, match="begins at epoch 1"):
        next(stream.epoch(0))


def threads() -> int:
    return sum(t.name.startswith("tamis") for t in threading.enumerate())


@pytest.mark.parametrize("leave", ["break", "raise", "throw away"])
def test_leaving_early_leaves_no_thread_and_no_open_file(store: Store, sixty: Dataset, leave: str) -> None:
    stream = SelectionStream(store, sixty, batch_size=2)

    def use(batches):
        for _ in batches:
            assert threads() == 1
            assert open_shards() > 0
            if leave == "break":
                break
            if leave == "raise":
                raise KeyError("mine")
            return

    with contextlib.suppress(KeyError):
        use(stream.epoch(0))
    assert threads() == 0
    assert open_shards() == 0
    assert stream.samples_read == 2  # what was read ahead and not used is not counted


def test_a_replaced_shard_stops_the_stream_by_name(store: Store, sixty: Dataset) -> None:
    os.truncate(sixty.shards[1].uri, 4096)
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar"):
        list(SelectionStream(store, sixty, batch_size=4).epoch(0))
    assert threads() == 0


def test_a_damaged_image_is_named(store: Store, tmp_path: Path, write: Write) -> None:
    shard = write(tmp_path / "bad.tar", [("good", {"png": numbered(0)}), ("bad", {"png": b"\x89PNG rubbish" * 9})])
    dataset = store.datasets.add("bad", [shard], label=None)
    with pytest.raises(DecodeError, match=r"Sample bad \(number 1\)"):
        list(SelectionStream(store, dataset, batch_size=1).epoch(0))


def test_images_of_several_sizes_are_scaled_on_request(store: Store, tmp_path: Path, write: Write) -> None:
    sizes = [(4, 9), (30, 12), (7, 7)]
    samples = [(f"s{i}", {"png": png(np.full(size, 9 * i, np.uint8))}) for i, size in enumerate(sizes)]
    dataset = store.datasets.add("mixed", [write(tmp_path / "mixed.tar", samples)], label=None)
    with pytest.raises(DecodeError, match="image_size"):
        list(SelectionStream(store, dataset).epoch(0))
    [batch] = SelectionStream(store, dataset, image_size=6, channels=1, shuffle=False).epoch(0)
    assert batch.images.shape == (3, 1, 6, 6)
    assert batch.images[:, 0, 3, 3].tolist() == [0, 9, 18]
    assert batch.labels.tolist() == [-1, -1, -1]


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "witness"


@pytest.fixture
def poisoned(store: Store, tmp_path: Path, write: Write, witness: Path) -> Dataset:
    """Shards in which every sample has a pickle that would leave a file behind if it were loaded."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return os.mkdir, (str(witness),)

    def sample(i: int) -> tuple[str, dict[str, bytes]]:
        return f"s{i}", {"png": numbered(i), "cls": b"1", "pkl": pickle.dumps(Evil()), "pyd": pickle.dumps(Evil())}

    return store.datasets.add("poisoned", [write(tmp_path / "poisoned.tar", [sample(i) for i in range(4)])])


def test_pickles_are_never_read(store: Store, poisoned: Dataset, witness: Path) -> None:
    stream = SelectionStream(store, poisoned, batch_size=2)
    assert sum(len(b.samples) for b in stream.epoch(0)) == 4
    decoded = list(wds.DataPipeline(stream, wds.decode("pil")))
    assert all(set(d) == {"__key__", "__url__", "png", "cls", "__sample__", "__weight__"} for d in decoded)
    for member in ("pkl", "pyd", "x.PICKLE", "pth"):
        with pytest.raises(DecoderRefused, match="pickles run code"):
            SelectionStream(store, poisoned, members=["png", member])
    assert not witness.exists()
    pickle.loads(poisoned_pickle(poisoned))  # noqa: S301  # it would have worked
    assert witness.exists()


def poisoned_pickle(dataset: Dataset) -> bytes:
    where = dataset.locations("pkl")
    data = Path(dataset.shards[0].uri).read_bytes()
    return data[where.offset[0] : where.offset[0] + where.size[0]]


def test_samples_are_webdataset_dicts(store: Store, sixty: Dataset, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen, seed=2, batch_size=5)
    found = list(stream)
    order = [s for b in SelectionStream(store, thirteen, seed=2).epoch(0) for s in b.samples.tolist()]
    assert [d["__sample__"] for d in found] == order
    for made in found:
        sample = made["__sample__"]
        assert isinstance(sample, int)
        assert made == {
            "__key__": f"s{sample:03d}",
            "__url__": sixty.shards[min(sample // 25, 2)].uri,
            "png": numbered(sample),
            "cls": b"%d" % (sample % 3),
            "__sample__": sample,
            "__weight__": float(sample + 1),
        }


def test_stock_webdataset_stages_work_behind_it(store: Store, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen, seed=2)
    pipeline = wds.DataPipeline(
        stream,
        wds.shuffle(4, initial=2),
        wds.decode("pil"),
        wds.rename(image="png", label="cls", weight="__weight__", sample="__sample__"),
        wds.to_tuple("image", "label", "weight", "sample"),
        wds.map_tuple(np.asarray),
        wds.batched(5, partial=True),
    )
    batches = list(pipeline)
    assert [len(b[0]) for b in batches] == [5, 5, 3]
    for images, labels, weights, samples in batches:
        assert images.shape[1:] == (SIDE, SIDE, 3)
        assert images[:, 0, 0, 0].tolist() == samples.tolist()
        assert labels.tolist() == [s % 3 for s in samples]
        assert weights.tolist() == [s + 1 for s in samples]
    assert sorted(s for b in batches for s in b[3]) == sorted(CHOSEN)


def test_iterating_goes_on_with_the_next_epoch(store: Store, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen)
    twice = [[d["__sample__"] for d in stream], [d["__sample__"] for d in stream]]
    orders = [[s for b in stream.epoch(e) for s in b.samples.tolist()] for e in (0, 1)]
    assert twice == orders
    stream.set_epoch(0)
    assert [d["__sample__"] for d in stream] == orders[0]


def test_iterating_resumes_at_a_sample(store: Store, thirteen: Selection) -> None:
    streams = streams_of(store, thirteen, 2, batch_size=3)
    whole = [s for s, _ in global_order(streams_of(store, thirteen, 1), 0)]
    for stream in streams:
        samples = iter(stream)
        for _ in range(4):
            next(samples)
    assert streams[0].state_dict()["samples_consumed"] == 8
    [alone] = streams_of(store, thirteen, 1)
    alone.load_state_dict(streams[1].state_dict())
    assert [d["__sample__"] for d in alone] == whole[8:]


def test_a_stream_travels_to_another_process(store: Store, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen, seed=1)
    copy = pickle.loads(pickle.dumps(stream))  # noqa: S301  # made in this line, by us
    assert list(copy) == list(stream)


def test_members_can_be_named(store: Store, thirteen: Selection) -> None:
    assert {tuple(d) for d in SelectionStream(store, thirteen, members=["cls"])} == {
        ("__key__", "__url__", "cls", "__sample__", "__weight__")
    }
    assert {tuple(d) for d in SelectionStream(store, thirteen, members=())} == {
        ("__key__", "__url__", "__sample__", "__weight__")
    }


def as_they_are(samples: list[dict[str, object]]) -> list[dict[str, object]]:
    return samples


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_workers_keep_the_order(store: Store, thirteen: Selection, workers: int, world: int) -> None:
    found: list[list[object]] = []
    for stream in streams_of(store, thirteen, world, batch_size=2):
        # Spawned: where a Prefect flow has run, as in tests beside this one, there are threads that no fork survives.
        context = "spawn" if workers else None
        loader = DataLoader(
            stream, batch_size=2, num_workers=workers, collate_fn=as_they_are, multiprocessing_context=context
        )
        found.append([d["__sample__"] for batch in loader for d in batch])
    whole = [s for s, _ in global_order(streams_of(store, thirteen, 1), 0)]
    assert [share[i] for i in range(len(found[0])) for share in found][:13] == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2"),
        ({"rank": 0}, "give both or neither"),
        ({"channels": 2}, "channels is 2"),
        ({"image_size": 0}, "image size is 0"),
        ({"near": 0}, "near is 0"),
        ({"yields": "tensors"}, "yields is 'tensors': expected one of samples, batches, raw"),
        ({"reading": "all"}, "reading is 'all'"),
        ({"check": "no"}, "check is 'no'"),
    ],
)
def test_bad_options_are_refused(store: Store, sixty: Dataset, options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SelectionStream(store, sixty, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed is -1: expected 0 to 2\\^63 - 1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"seed": HUGE}, "seed is a number of 16610 bits"),
        ({"seed": 1.5}, "seed is 1.5: expected a whole number"),
        ({"seed": True}, "seed is True: expected a whole number"),
        ({"batch_size": 2**63}, "batch_size is 9223372036854775808: expected 1 to 16777216"),
        ({"batch_size": "8"}, "batch_size is '8': expected a whole number"),
        ({"near": 2**60}, "near is 1152921504606846976"),
        ({"rank": 0, "world": 2**40}, "world is 1099511627776"),
        ({"image_size": 10**6}, "image size is 1000000"),
    ],
)
def test_numbers_out_of_range_are_refused(store: Store, sixty: Dataset, options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, WrongKind), match=words):
        SelectionStream(store, sixty, **options)


@pytest.mark.parametrize("epoch", [-1, 2**63, pytest.param(HUGE, id="huge"), "0", None, 0.5])
def test_an_epoch_out_of_range_is_refused(store: Store, sixty: Dataset, epoch: Any) -> None:
    stream = SelectionStream(store, sixty)
    for ask in (stream.set_epoch, lambda e: next(stream.epoch(e)), lambda e: next(stream.raw(e, workers=1))):
        with pytest.raises((ValueError, WrongKind), match="epoch is "):
            ask(epoch)
    assert [b.samples.tolist() for b in stream.raw(2**63 - 1)] != [b.samples.tolist() for b in stream.raw(2**63 - 2)]


def test_the_largest_numbers_are_numbers(store: Store, sixty: Dataset) -> None:
    stream = SelectionStream(store, sixty, seed=np.int64(2**63 - 1), batch_size=2**24, near=2**40)
    stream.set_epoch(2**63 - 2)
    state = stream.state_dict()
    assert state["seed"] == 2**63 - 1
    assert sorted(s for batch in stream.raw(2**63 - 2) for s in batch.samples.tolist()) == list(range(60))
    stream.load_state_dict(state)


@pytest.mark.parametrize("chosen", ["sixty", "chosen@1", b"sixty", None, 5, {"name": "sixty"}])
def test_a_name_in_place_of_a_selection_says_how_it_is_looked_up(store: Store, sixty: Dataset, chosen: Any) -> None:
    found: list[str] = []
    for ask in (
        lambda: SelectionStream(store, chosen),
        lambda: materialize(store, chosen),
        lambda: planner.plan(store, chosen),
        lambda: looking.priority(chosen, 60),
    ):
        with pytest.raises(WrongKind, match=re.escape(f"is {chosen!r}, ")) as caught:
            ask()
        found.append(str(caught.value))
    named = isinstance(chosen, str)
    assert all((f"store.selections.get({chosen!r})" in words) == named for words in found)


@pytest.mark.parametrize("start", [-1, 61])
def test_a_start_outside_the_epoch_is_refused(store: Store, sixty: Dataset, start: int) -> None:
    with pytest.raises(ValueError, match="positions 0 to 60"):
        next(SelectionStream(store, sixty).epoch(0, start))


def test_torch_distributed_gives_rank_and_world(store: Store, sixty: Dataset, tmp_path: Path) -> None:
    early = SelectionStream(store, sixty)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        stream = SelectionStream(store, sixty)
        assert (stream.rank, stream.world) == (0, 1)
        assert sum(len(b.samples) for b in early.epoch(0)) == 60  # 0 of 1 it was, 0 of 1 it is
    finally:
        torch.distributed.destroy_process_group()


def test_raw_batches_hold_the_members_as_they_lie_in_the_shard(store: Store, thirteen: Selection) -> None:
    stream = SelectionStream(store, thirteen, batch_size=5)
    raw, decoded = list(stream.raw(0)), list(stream.epoch(0))
    assert [len(batch.samples) for batch in raw] == [5, 5, 3]
    for one, other in zip(raw, decoded, strict=True):
        assert one.members == {"png": [numbered(n) for n in one.samples.tolist()]}
        for mine, theirs in zip(
            (one.samples, one.labels, one.weights), (other.samples, other.labels, other.weights), strict=True
        ):
            assert np.array_equal(mine, theirs.numpy())


@pytest.mark.parametrize("form", ["batches", "raw"])
def test_iterating_can_give_batches(store: Store, thirteen: Selection, form: str) -> None:
    stream = SelectionStream(store, thirteen, batch_size=5, yields=form)
    epochs = [[np.asarray(batch.samples).tolist() for batch in stream] for _ in range(2)]
    assert epochs == [[batch.samples.tolist() for batch in stream.epoch(e)] for e in range(2)]


@given(n=st.integers(1, 3000), near=st.integers(1, 500), seed=st.integers(0, 5))
def test_a_near_order_holds_everything_once(n: int, near: int, seed: int) -> None:
    order = EpochOrder("k", n, seed, 0, near=near)
    assert np.array_equal(np.sort(order.at(np.arange(n))), np.arange(n))
    assert np.array_equal(order.at(np.arange(n))[::7], order.at(np.arange(0, n, 7)))


def test_a_near_order_reads_few_places_and_tells_no_class() -> None:
    """A dataset sorted by 10 classes: what 1,024 positions in a row want lies in 16 places, of about as many classes
    as 16 places drawn at random have (10 * (1 - .9^16) = 8.1), never of one or two."""
    n, near = 100_000, 64
    found = EpochOrder("k", n, 0, 3, near=near).at(np.arange(50 * 1024, 51 * 1024))
    turned = np.sort(found)
    assert (np.diff(turned) > 1).sum() <= WINDOW + 1
    assert len(np.unique(found // (n // 10))) >= 5
    assert len(np.unique(found[:128] // (n // 10))) >= 4


def test_a_state_says_how_the_order_was_made(store: Store, thirteen: Selection) -> None:
    near = SelectionStream(store, thirteen, near=3)
    assert near.state_dict() == {
        "selection": thirteen.key, "seed": 0, "order": "near 3", "epoch": 0, "samples_consumed": 0,
    }  # fmt: skip
    with pytest.raises(StateMismatch):
        SelectionStream(store, thirteen).load_state_dict(near.state_dict())
    assert sorted(n for b in near.epoch(0) for n in read_number(b.images)) == sorted(thirteen.round_at(0)[0].tolist())


def test_headers_tell_a_member_that_is_not_the_one(store: Store, sixty: Dataset) -> None:
    """The shard's time and size are those of the index, its members are not."""
    assert list(SelectionStream(store, sixty, check="headers"))
    path = Path(sixty.shards[1].uri)
    stamp, data = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    data[0:100] = b"other.png".ljust(100, b"\0")
    path.write_bytes(data)
    os.utime(path, ns=(stamp, stamp))
    assert list(SelectionStream(store, sixty).epoch(0))
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar has no member of s025 \(number 25\)"):
        list(SelectionStream(store, sixty, check="headers").epoch(0))
    with pytest.raises(ShardChanged, match=r"sixty-25\.tar"):
        list(SelectionStream(store, sixty, check="digest").epoch(0))


@pytest.mark.parametrize("damage", [b"garbage", b"", None])
def test_flat_copies_are_made_again_when_damaged(store: Store, thirteen: Selection, damage: bytes | None) -> None:
    before = [d["__sample__"] for d in SelectionStream(store, thirteen)]
    for path in (Path(store.root.url) / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert [d["__sample__"] for d in SelectionStream(store, thirteen)] == before


def test_a_store_that_cannot_be_written_streams(store: Store, thirteen: Selection) -> None:
    """Nothing can be made where the flat copies belong: the process keeps them to itself."""
    before = [d["__sample__"] for d in SelectionStream(store, thirteen)]
    cache = Path(store.root.url) / "cache"
    shutil.rmtree(cache)
    cache.touch()
    assert [d["__sample__"] for d in SelectionStream(store, thirteen)] == before
