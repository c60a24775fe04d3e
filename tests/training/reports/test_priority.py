"""How often samples were chosen, which most and least, overlaps by hand, and contact sheets whose pixels tell."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered import Write, numbered, png
from PIL import Image
from s3kit import S3Server

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError, ShardChanged
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.errors import DecodeError, ReportError
from tamis.training.reports.drawing.contact_sheet import contact_sheet
from tamis.training.reports.drawing.plots import draw_histogram
from tamis.training.reports.priority import histogram, least, most, overlap, priority

Publish = Callable[..., Selection]


@pytest.fixture
def publish(store: Store) -> Publish:
    """Publishes rounds of (samples, weights) under a name."""

    def publish_rounds(name: str, dataset: Dataset, *rounds: tuple[list[int], list[float] | None]) -> Selection:
        data = [RoundData(samples, weights, first_epoch=i) for i, (samples, weights) in enumerate(rounds)]
        request = Request(dataset, "by-hand", 1, {"name": name})
        return store.selections.publish(request, name, data, seconds=0.0).selection

    return publish_rounds


@pytest.fixture
def three(publish: Publish, sixty: Dataset) -> Selection:
    """Three rounds behind a warm start: 7 in all of them, 3 and 9 in two, 40 in one."""
    everything = list(range(60))
    return publish(
        "three", sixty, (everything, None), ([9, 7], [2, 1]), ([7, 3], [1, 1]), ([3, 9, 7, 40], [3, 3, 1, 9])
    )


def test_priority(three: Selection) -> None:
    found = priority(three, 60)
    assert (found.rounds, found.left_out) == (3, 1)
    assert {i: int(n) for i, n in enumerate(found.times) if n} == {3: 2, 7: 3, 9: 2, 40: 1}
    assert {i: w for i, w in enumerate(found.weight.tolist()) if w} == {3: 4, 7: 3, 9: 5, 40: 9}
    assert found.rank[[9, 7, 3, 40, 0]].tolist() == [0, 0, 0, 3, 60]


def test_rounds_of_everything_count_where_there_are_no_others(publish: Publish, sixty: Dataset) -> None:
    found = priority(publish("all", sixty, (list(range(60)), None)), 60)
    assert (found.rounds, found.left_out, set(found.times.tolist())) == (1, 0, {1})


def test_most_and_least(three: Selection) -> None:
    found = priority(three, 60)
    assert most(found, 10).tolist() == [7, 9, 3, 40]  # 9 before 3: as often, and heavier
    assert most(found, 2).tolist() == [7, 9]
    assert most(found, 0).tolist() == least(found, 0).tolist() == []
    never = sorted(set(range(60)) - {3, 7, 9, 40})
    order = least(found, 60)
    assert sorted(order[:56].tolist()) == never
    assert order[56:].tolist() == [40, 3, 9, 7]
    assert np.array_equal(order[:20], least(found, 20))
    assert not np.array_equal(order[:20], least(found, 20, seed=1))
    assert order[:20].tolist() != never[:20]  # drawn, not the first of the dataset


def test_a_single_ranking_is_shown_in_its_order(publish: Publish, sixty: Dataset) -> None:
    ranked = publish("ranked", sixty, ([50, 3, 22, 9], None))
    assert most(priority(ranked, 60), 3).tolist() == [50, 3, 22]


def test_histogram_by_hand() -> None:
    times = np.array([0, 0, 3, 1, 1, 2, 7])
    assert [(b.text, b.samples) for b in histogram(times)] == [
        ("0", 2), ("1", 2), ("2", 1), ("3", 1), ("4", 0), ("5", 0), ("6", 0), ("7", 1),
    ]  # fmt: skip
    assert [(b.text, b.samples) for b in histogram(times, most=3)] == [("0", 2), ("1 to 3", 4), ("4 to 6", 0), ("7", 1)]
    assert [(b.text, b.samples) for b in histogram(np.array([0.0, 0.5, 4.0]), most=2)] == [
        ("0", 1), ("0 to 2", 1), ("2 to 4", 1),
    ]  # fmt: skip
    assert [(b.text, b.samples) for b in histogram(np.zeros(5))] == [("0", 5)]


numbers = st.lists(st.integers(0, 400), min_size=1, max_size=50).map(np.array)
weights = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=1, max_size=50).map(np.array)


@given(numbers | weights, st.integers(1, 30))
def test_a_histogram_holds_every_sample_once(values: Any, count: int) -> None:
    bins = histogram(values, most=count)
    assert sum(b.samples for b in bins) == len(values)
    assert len(bins) <= count + 1
    assert bins[0].samples == (values == 0).sum()
    assert [b.low for b in bins[1:]] == sorted(b.low for b in bins[1:])


def test_overlap_over_all_rounds(publish: Publish, sixty: Dataset, three: Selection) -> None:
    other = publish("other", sixty, ([3, 9], [8, 10]), ([7, 50], [6, 1]))
    even = publish("even", sixty, ([1, 2], None))
    found = overlap([three, other, even], lambda _: 60)
    assert (found.names, found.sizes) == (("three@1", "other@1", "even@1"), (4, 4, 2))
    assert found.jaccard == ((1, 3 / 5, 0), (3 / 5, 1, 0), (0, 0, 1))
    assert found.weight_correlation[0][1] == pytest.approx(1)  # 3: 4, 8; 7: 3, 6; 9: 5, 10
    assert found.weight_correlation[0][2] is found.weight_correlation[2][2] is None
    assert [list(row) for row in found.weight_correlation] == [
        list(c) for c in zip(*found.weight_correlation, strict=True)
    ]


def test_overlap_in_an_epoch_and_between_rounds(
    publish: Publish, sixty: Dataset, three: Selection, store: Store
) -> None:
    other = publish("other", sixty, ([3, 9], [8, 10]), ([7, 50], [6, 1]))
    at_one = overlap([three, other], lambda _: 60, epoch=1)
    assert at_one.jaccard[0][1] == store.selections.diff(three, other, 1).jaccard == 1 / 3
    rounds = overlap([three], lambda _: 60)
    assert rounds.names[1:] == ("round 1 (epoch 1)", "round 2 (epoch 2)", "round 3 (epoch 3)")
    assert rounds.jaccard[1] == (2 / 60, 1, 1 / 3, 1 / 2)
    assert overlap([three, three], lambda _: 60).jaccard == ((1, 1), (1, 1))


def test_overlaps_that_say_nothing_are_refused(
    publish: Publish, sixty: Dataset, three: Selection, store: Store, tmp_path: Path, write: Write
) -> None:
    single = publish("single", sixty, ([1, 2], None))
    with pytest.raises(SelectionError, match="single@1 is a single selection, of 1 rounds"):
        overlap([single], lambda _: 60)
    shard = write(tmp_path / "foreign.tar", [("s0", {"png": numbered(0), "cls": b"0"})])
    foreign = publish("foreign", store.datasets.add("foreign", [shard]), ([0], None))
    with pytest.raises(SelectionError, match="mean different samples"):
        overlap([three, single, foreign], lambda _: 60)


def test_a_drawn_histogram_is_the_same_each_time(three: Selection, tmp_path: Path) -> None:
    bins = {"three@1": histogram(priority(three, 60).times)}
    files = [draw_histogram(bins, str(tmp_path / name)).read_bytes() for name in ("a.png", "b.png", "c.svg")]
    assert files[0] == files[1]
    assert files[2].startswith(b"<?xml")


def test_a_contact_sheet_shows_the_images(store: Store, three: Selection) -> None:
    sheet = contact_sheet(store, three, most_often=4, least_often=3, tile=8, columns=2)
    assert [(one.sample, one.times, one.label, one.key) for one in sheet.most] == [
        (7, 3, "1", "s007"), (9, 2, "0", "s009"), (3, 2, "0", "s003"), (40, 1, "1", "s040"),
    ]  # fmt: skip
    assert (sheet.rounds, sheet.never) == (3, 56)
    assert [one.times for one in sheet.least] == [0, 0, 0]
    pixels = np.asarray(sheet.image)
    # An image of 4 x 4 fills a tile of 8 with pixels of 2 x 2; the first two are the sample's number.
    for i, one in enumerate(sheet.most):
        left, top = 4 + 12 * (i % 2), 4 + 22 + 38 * (i // 2)
        assert (pixels[top : top + 2, left : left + 2] == one.sample).all()
        assert (pixels[top + 2 : top + 8, left : left + 8] == 7).all()
    again = contact_sheet(store, three, most_often=4, least_often=3, tile=8, columns=2)
    assert again.image.tobytes() == sheet.image.tobytes()


def test_a_sheet_from_an_object_store_is_the_same(
    store: Store, three: Selection, sixty: Dataset, s3: S3Server, publish: Publish
) -> None:
    bucket = s3.bucket()
    far = store.datasets.add("far", [s3.upload(Path(s.uri), f"{bucket}/{Path(s.uri).name}") for s in sixty.shards])
    there = publish("three", far, *((samples.tolist(), weights.tolist()) for samples, weights in three.read_rounds()))
    tiles = [np.asarray(contact_sheet(store, one, tile=8).image)[26:34] for one in (three, there)]
    assert np.array_equal(*tiles)


def test_a_sheet_takes_images_of_any_size_and_shape(
    store: Store, tmp_path: Path, write: Write, publish: Publish
) -> None:
    sizes = [(3, 200), (200, 3), (50, 50), (1, 1)]
    samples = [(f"s{i}", {"png": png(np.full((*size, 3), 9, np.uint8))}) for i, size in enumerate(sizes)]
    dataset = store.datasets.add("odd", [write(tmp_path / "odd.tar", samples)], label=None)
    sheet = contact_sheet(store, publish("odd", dataset, ([0, 1, 2], None)), tile=20)
    assert [one.label for one in sheet.most + sheet.least] == [None] * (3 + 4)
    sheet.save(str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as image:
        assert (image.format, image.size) == ("PNG", sheet.image.size)


def test_class_names_of_any_script_are_drawn(store: Store, tmp_path: Path, write: Write, publish: Publish) -> None:
    shard = write(tmp_path / "named.tar", [("s0", {"png": numbered(0), "cls": b"0"})])
    dataset = store.datasets.add("named", [shard], classes=["тамис 篩 " * 12])
    sheet = contact_sheet(store, publish("named", dataset, ([0], None)))
    assert sheet.most[0].label == "тамис 篩 " * 12


@pytest.mark.parametrize(
    "fields",
    [{"most_often": 0, "least_often": 0}, {"most_often": -1}, {"most_often": 6000}, {"tile": 0}, {"columns": 0}],
)
def test_sheets_of_no_sense_are_refused(store: Store, three: Selection, fields: dict[str, int]) -> None:
    with pytest.raises(ReportError, match="expected 1 to 5000 images"):
        contact_sheet(store, three, **fields)


def test_sheets_go_to_png_alone(store: Store, three: Selection, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"ends in \.png"):
        contact_sheet(store, three, most_often=1, least_often=0).save(str(tmp_path / "sheet.svg"))
    assert not (tmp_path / "sheet.svg").exists()


def test_damaged_images_and_changed_shards_are_named(
    store: Store, three: Selection, sixty: Dataset, tmp_path: Path, write: Write, publish: Publish
) -> None:
    shard = write(tmp_path / "bad.tar", [("good", {"png": numbered(0)}), ("bad", {"png": b"no image"})])
    bad = publish("bad", store.datasets.add("bad", [shard], label=None), ([1], None))
    with pytest.raises(DecodeError, match=r"Sample bad \(number 1\)"):
        contact_sheet(store, bad, least_often=0)
    os.truncate(Path(sixty.shards[0].uri), 1024)
    with pytest.raises(ShardChanged, match=r"sixty-0\.tar"):
        contact_sheet(store, three)
