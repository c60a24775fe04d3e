"""Charts: what is drawn where, and that every text in them is a text."""

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.flows.web import formats
from tamis.flows.web.charts import areas, bars, lines, svg

HOSTILE = "</title><script>alert('\"&')</script>"
SVG = "{http://www.w3.org/2000/svg}"


def parts(chart: str, name: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(chart).iter() if one.tag == name]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    ticks = svg.Axis(low, low + width, 0, 100).ticks(5)
    assert 1 <= len(ticks) <= 12
    steps = {round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in pairwise(ticks)}
    assert steps <= {1.0}
    slack = 1e-6 * max(1.0, abs(low), width)
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_an_axis_is_a_straight_line() -> None:
    axis = svg.Axis(10, 20, 100, 300)
    assert [axis(10), axis(15), axis(20)] == [100, 200, 300]
    assert svg.Axis(3, 3, 0, 10)(3) == 5


@pytest.mark.parametrize("values", [[], [math.nan], [2.0], [0.0, 0.0], [-1.0, 1.0]])
def test_an_axis_over_whatever_there_is_has_a_width(values: list[float]) -> None:
    for zero in (False, True):
        axis = svg.over(values, 0, 1, zero=zero)
        assert axis.high > axis.low


def test_every_text_is_a_text() -> None:
    curve = {"name": HOSTILE, "x": [1, 2, 3], "y": [1.0, None, 2.0]}
    charts = [
        lines.lines(HOSTILE, [curve, curve], HOSTILE, HOSTILE),
        bars.bars(HOSTILE, [HOSTILE], {HOSTILE: [1.0]}),
        bars.histogram(HOSTILE, [0, 1, 2], {HOSTILE: [1, 2], "b": [0, 1]}, HOSTILE),
        bars.stack(HOSTILE, {HOSTILE: 2.0, "b": 0.0}, {HOSTILE: HOSTILE}),
        areas.bands(HOSTILE, [0, 1], [[1, 2, 3, 4, 5]] * 2, [1.0, None], [HOSTILE, HOSTILE], HOSTILE, HOSTILE),
        areas.density(HOSTILE, [[1, 2], [0, 3]], (0, 1, HOSTILE), (0, 1, HOSTILE)),
    ]
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert not [one for one in root.iter() if one.tag == "script"]
        drawn = next(one for one in root.iter() if one.tag == "svg")
        assert drawn.get("role") == "img"
        assert (drawn.get("aria-label") or "").startswith(HOSTILE)
        assert next(iter(drawn)).text == HOSTILE
        assert "style=" not in chart


def test_nothing_to_draw_is_said() -> None:
    for chart in (
        lines.lines("t", [{"name": "a", "x": [1], "y": [None]}], "x", "y"), bars.bars("t", [], {}),
        bars.histogram("t", [], {}, "x"), bars.stack("t", {}, {}), areas.bands("t", [], [], [], ["", ""], "", ""),
        areas.density("t", [[0]], (0, 1, ""), (0, 1, "")),
    ):  # fmt: skip
        assert "<svg" not in chart
        assert ElementTree.fromstring(chart).findtext("p")


def test_bars_are_as_long_as_their_values() -> None:
    drawn = parts(bars.bars("t", ["a", "b"], {"n": [1, 4]}), "rect")
    short, long = (float(one.get("width") or 0) for one in drawn)
    assert long / short == pytest.approx(4, rel=0.01)


def test_a_stack_fills_its_bar_in_proportion() -> None:
    drawn = parts(bars.stack("t", {"a": 1.0, "b": 3.0}, {"a": "", "b": ""}), "rect")
    first, second = (float(one.get("width") or 0) for one in drawn)
    assert first + second == pytest.approx(svg.WIDTH - 2, abs=0.2)  # a gap behind each
    assert (second + 1) / (first + 1) == pytest.approx(3, rel=0.01)


def test_darker_cells_have_more() -> None:
    drawn = parts(areas.density("t", [[1, 1000], [10, 0]], (0, 1, ""), (0, 1, "")), "rect")
    shades = [int((one.get("class") or "")[-1]) for one in drawn]
    assert len(drawn) == 3
    assert shades[1] == 6 > shades[2] > shades[0] >= 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.size(0), "0 B"), (formats.size(999), "999 B"), (formats.size(1000), "1 kB"),
        (formats.size(12_345_678), "12.3 MB"), (formats.size(None), "–"), (formats.seconds(0.0123), "12.3 ms"),
        (formats.seconds(0), "0 s"), (formats.seconds(59.9), "59.9 s"), (formats.seconds(600), "10 min"),
        (formats.seconds(90_000), "25 h"), (formats.share(0.1234), "12.3%"),
        (formats.count(1234567), "1\u202f234\u202f567"),
        (formats.number(True), "yes"), (formats.number(0.00001234), "1.234e-05"), (formats.number([1]), "[1]"),
        (formats.number(float("nan")), "nan"), (formats.part("a/b c@1"), "a%2Fb%20c@1"),
    ],
)  # fmt: skip
def test_how_numbers_are_written(written: str, expected: str) -> None:
    assert written == expected
