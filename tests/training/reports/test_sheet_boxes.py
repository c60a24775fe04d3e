"""Contact sheets of videos with boxes: where lines lie, what captions say, and which frames were left out."""

from pathlib import Path

import numpy as np
import pytest
from footage import footage, found
from PIL import Image

from tamis.store import Store
from tamis.store.boxes import Boxes
from tamis.store.errors import RunNotFound
from tamis.store.selections import Request, RoundData, Selection
from tamis.training.errors import ReportError
from tamis.training.reports.culling.clock import clock
from tamis.training.reports.drawing.contact_sheet import Sheet, contact_sheet
from tamis.training.reports.drawing.layers import COLOURS, Layer

BOX = (8.0, 4.0, 40.0, 24.0)


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Selection:
    """Samples 3, 4 and 12 are kept. The student looked at all, and the teacher at those alone."""
    dataset = footage(store, tmp_path)
    found(store, dataset, "student", {i: [(0.9, *BOX), (0.3, 0, 0, 5, 5)] for i in range(20)})
    found(store, dataset, "teacher", {3: [(0.8, *BOX)], 4: [], 12: [(0.8, *BOX)]})
    data = [RoundData([3, 12, 4], None, 0)]
    return store.selections.publish(Request(dataset, "by-hand", 1, {}), "kept", data, seconds=0.0).selection


def extent(sheet: Sheet, colour: tuple[int, int, int], below: int = 30) -> tuple[int, ...]:
    """Left, top, right and bottom pixel of a colour, under the legend."""
    rows, columns = np.nonzero((np.asarray(sheet.image)[below:] == colour).all(axis=2))
    return int(columns.min()), int(rows.min()) + below, int(columns.max()), int(rows.max()) + below


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_lines_lie_on_the_outermost_pixels_of_scaled_boxes(scale: float) -> None:
    boxes = Boxes(
        np.asarray([0, 2]), np.zeros(2, np.int32), np.asarray([0.9, 0.3], np.float32),
        np.asarray([BOX, (0, 0, 64, 48)], np.float32), np.ones(1, np.int8),
    )  # fmt: skip
    image = Image.new("RGB", (round(64 * scale), round(48 * scale)))
    outer, inner = (Layer("one", colour, boxes, 0.5, place) for place, colour in enumerate(COLOURS))
    assert outer.count(0) == 1
    outer.draw(image, 0, (64, 48))
    inner.draw(image, 0, (64, 48))
    pixels = np.asarray(image)
    left, top, right, bottom = (round(side * scale) for side in BOX)
    wanted = np.zeros(pixels.shape[:2], np.int64)
    for place in (0, 1):
        wanted[top + place : bottom - place, left + place : right - place] = place + 1
    wanted[top + 2 : bottom - 2, left + 2 : right - 2] = 0
    for place, colour in enumerate(COLOURS):
        assert ((pixels == colour).all(axis=2) == (wanted == place + 1)).all()


def test_kept_and_left_out_frames_with_boxes_of_both(store: Store, site: Selection) -> None:
    """A tile of 32 pixels halves the frames: 16 x 10 pixels of the student's box, the teacher's one line inside."""
    sheet = contact_sheet(
        store, site, most_often=1, least_often=40, tile=32, left_out=True, boxes=("student", "teacher")
    )
    assert sheet.most[0].caption == ["3  x1", "north 0:01.5", "1 | 1 boxes"]
    assert [one.sample for one in sheet.least] == [i for i in range(20) if i not in (3, 4, 12)]
    assert [one.caption[1:] for one in sheet.least[-2:]] == [
        ["south 0:04", "1 | - boxes"],
        ["south 0:04.5", "1 | - boxes"],
    ]
    alone = contact_sheet(store, site, most_often=1, least_often=0, tile=32, boxes=("student", "teacher"))
    left, top, right, bottom = extent(alone, COLOURS[0])
    assert (right - left + 1, bottom - top + 1) == (16, 10)
    assert extent(alone, COLOURS[1]) == (left + 1, top + 1, right - 1, bottom - 1)
    low = contact_sheet(store, site, most_often=1, least_often=0, boxes=("student",), least_score=0.2)
    assert low.most[0].boxes == (2,)


def test_a_frame_that_was_looked_at_in_vain_has_0_boxes(store: Store, site: Selection) -> None:
    sheet = contact_sheet(store, site, most_often=3, least_often=0, boxes=("student", "teacher"))
    assert {one.sample: one.boxes for one in sheet.most} == {3: (1, 1), 12: (1, 1), 4: (1, 0)}
    assert sheet.most[0].camera == "north"


def test_what_cannot_be_drawn_is_said(store: Store, site: Selection) -> None:
    with pytest.raises(ReportError, match="expected up to 2 different ones"):
        contact_sheet(store, site, boxes=("student", "student"))
    with pytest.raises(RunNotFound):
        contact_sheet(store, site, boxes=("nobody",))
    dataset = store.datasets.get("site")
    data = [RoundData(list(range(20)), None, 0)]
    every = store.selections.publish(Request(dataset, "by-hand", 1, {"k": 20}), "all", data, seconds=0.0).selection
    with pytest.raises(ReportError, match="leaves no sample of site@1 out"):
        contact_sheet(store, every, most_often=0, left_out=True)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00"), (7.5, "0:07.5"), (59.96, "1:00"), (3599, "59:59"), (3723.51, "1:02:03.5"), (-1, "-0:01")],
)
def test_times_are_told_as_on_a_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told
