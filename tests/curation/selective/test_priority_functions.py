"""F against equation 3.1, scipy's monotone cubic and beta density, and the fields of its stored form."""

import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.stats import beta as beta_distribution

from tamis.curation import CurationError
from tamis.curation.selective.drawing import draw
from tamis.curation.selective.history import LossHistory
from tamis.curation.selective.priority import POINTS, VERSION, Priority, beta_of, quantised

SHARES = np.linspace(0, 1, 1001)
EVERY = [
    Priority.power(2), Priority.selecting(0.33), Priority.selecting(1), Priority.linear((0.1, 0, 0.5, 1)),
    Priority.cubic((0.3, 0.9, 0.2, 0.2)), Priority.beta(1, 1), Priority.beta(2, 5), Priority.beta(1, 3),
    Priority.steps([i / 10 for i in range(10)]),
]  # fmt: skip
probabilities = st.floats(0, 1)


@pytest.mark.parametrize("function", EVERY, ids=repr)
def test_every_kind_gives_probabilities_and_can_be_kept(function: Priority) -> None:
    found = function(SHARES)
    assert found.dtype == np.float64
    assert found.min() >= 0
    assert found.max() <= 1
    nan = np.isnan(function([0.5, np.nan, 1.0]))
    assert nan.tolist() == [False, True, False]
    assert function([]).tolist() == []
    again = Priority.from_json(json.loads(json.dumps(function.to_json())))
    assert again == function == pickle.loads(pickle.dumps(function))  # noqa: S301  # bytes of this very line, as workers get it
    np.testing.assert_array_equal(again(SHARES), found)
    for wrong in (-0.1, 1.1):
        with pytest.raises(CurationError, match=r"shares in \[0, 1\]"):
            function([0.5, wrong, np.nan])


def test_power_is_equation_3_1() -> None:
    assert Priority.power(3)([0, 0.5, 1]).tolist() == [0, 0.125, 1]
    assert beta_of(0.25) == 3
    assert Priority.selecting(0.5)([0.3]).tolist() == [0.3]
    assert Priority.selecting(1)([0, 0.5, 1]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("selectivity", [0.25, 1 / 3, 0.5, 1.0])
def test_the_selected_part_is_the_selectivity(selectivity: float) -> None:
    """Shares of losses that are drawn from one distribution are uniform, so 1/(beta + 1) of them are selected."""
    generator, history, function = np.random.default_rng(1), LossHistory(1024), Priority.selecting(selectivity)
    history.add(generator.exponential(size=1024))
    chosen = [draw(function(history.enter(generator.exponential(size=128))), generator).mean() for _ in range(400)]
    assert np.mean(chosen) == pytest.approx(selectivity, abs=0.015)


def test_linear_goes_through_its_points() -> None:
    """Figure 4.3's form: points at the shares 0, .5, .8 and 1."""
    function = Priority.linear((0.2, 0.0, 0.6, 0.4))
    assert function.points == POINTS == (0, 0.5, 0.8, 1)
    assert function([0, 0.25, 0.5, 0.65, 0.8, 0.9, 1]) == pytest.approx([0.2, 0.1, 0, 0.3, 0.6, 0.5, 0.4])
    assert Priority.linear((0, 1), (0, 1))([0.3]) == pytest.approx([0.3])


@given(st.lists(probabilities, min_size=2, max_size=7), st.data())
@settings(max_examples=100, deadline=None)
def test_cubic_is_scipys_monotone_one(values: list[float], data: st.DataObject) -> None:
    values[0] = max(values[0], 0.01)
    inner = st.sets(st.integers(1, 99), min_size=len(values) - 2, max_size=len(values) - 2)
    points = [0.0, *sorted(x / 100 for x in data.draw(inner)), 1.0]
    found = Priority.cubic(values, points)(SHARES)
    with np.errstate(over="ignore"):  # SciPy's own, of numbers near the least that there are
        theirs = PchipInterpolator(points, values)(SHARES)
    assert np.abs(found - np.clip(theirs, 0, 1)).max() < 1e-9
    for a, b, low, high in zip(points, points[1:], values, values[1:], strict=False):
        between = found[(a <= SHARES) & (b >= SHARES)]
        assert between.min() >= min(low, high) - 1e-9  # goes from one point to the next, and no further
        assert between.max() <= max(low, high) + 1e-9


@pytest.mark.parametrize(("a", "b"), [(2, 5), (5, 2), (1, 3), (3, 1), (40, 1.5)])
def test_beta_is_the_density_over_its_maximum(a: float, b: float) -> None:
    density, mode = beta_distribution(a, b).pdf, (a - 1) / (a + b - 2)
    assert Priority.beta(a, b)(SHARES) == pytest.approx(density(SHARES) / density(mode), abs=1e-12)
    assert Priority.beta(a, b)([mode]) == pytest.approx([1])


def test_beta_contains_power() -> None:
    assert Priority.beta(3, 1)(SHARES) == pytest.approx(Priority.power(2)(SHARES))
    assert Priority.beta(1e6, 1e6)([0, 0.5, 1]).tolist() == [0, 1, 0]


def test_steps_are_tenths() -> None:
    function = Priority.steps([i / 10 for i in range(10)])
    assert function([0, 0.0999, 0.1, 0.35, 0.7, 0.9, 1]).tolist() == [0, 0, 0.1, 0.3, 0.7, 0.9, 0.9]


def test_normalised_to_a_maximum_of_1() -> None:
    assert Priority.linear((0.1, 0.2, 0.4, 0.2), normalise=True).values == (0.25, 0.5, 1, 0.5)
    assert Priority.cubic((0.1, 0.2, 0.4, 0.2), normalise=True)(SHARES).max() == pytest.approx(1)
    assert max(Priority.steps([0.3] * 10, normalise=True).values) == 1


@given(st.lists(st.integers(0, 4).map(lambda i: i / 4), min_size=4, max_size=4).filter(any))
@settings(max_examples=100, deadline=None)
def test_isotonic_values_are_the_nearest_that_do_not_fall(values: list[float]) -> None:
    """Against every other choice on a grid that holds the answer: means of up to four quarters are 48ths."""
    found = Priority.linear(values, monotone="isotonic").values
    assert all(a <= b for a, b in itertools.pairwise(found))
    distance = sum((a - b) ** 2 for a, b in zip(found, values, strict=True))
    means = sorted({sum(values[a:b]) / (b - a) for a in range(4) for b in range(a + 1, 5)})
    others = itertools.combinations_with_replacement(means, 4)
    assert distance <= min(sum((a - b) ** 2 for a, b in zip(o, values, strict=True)) for o in others) + 1e-12


def test_monotone_may_refuse() -> None:
    with pytest.raises(CurationError, match="isotonic"):
        Priority.linear((0.5, 0.4, 0.6, 1), monotone="refuse")
    assert Priority.linear((0.4, 0.4, 0.6, 1), monotone="refuse").values == (0.4, 0.4, 0.6, 1)


def test_quantised_to_ten_values() -> None:
    assert quantised((0, 0.05, 0.06, 0.49, 1)) == pytest.approx((0, 0, 1 / 9, 4 / 9, 1))
    assert quantised((0.2, 0.5), levels=2) == (0, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Priority.power(0), "above 0"),
        (lambda: Priority.power(-1), "above 0"),
        (lambda: Priority.power(float("nan")), "above 0"),
        (lambda: Priority.power(float("inf")), "finite"),
        (lambda: Priority.selecting(0), "above 0, up to 1"),
        (lambda: Priority.selecting(1.01), "above 0, up to 1"),
        (lambda: beta_of(float("nan")), "above 0, up to 1"),
        (lambda: Priority.linear((0, 1, 1)), "3 values for linear; expected 4"),
        (lambda: Priority.linear((0, 1, float("nan"), 1)), r"nan are no probabilities"),
        (lambda: Priority.cubic((0, 1.2, -1, 1)), r"1.2, -1.0 are no probabilities"),
        (lambda: Priority.linear((0, 0, 0, 0)), "nothing would be selected"),
        (lambda: Priority.linear((0, 0), (0, 0.5)), "rise from 0 to 1"),
        (lambda: Priority.linear((0, 1, 1), (0, 0, 1)), "rise from 0 to 1"),
        (lambda: Priority.steps([0.5] * 9), "9 values for steps; expected 10"),
        (lambda: Priority.steps([0.0] * 10), "nothing would be selected"),
        (lambda: Priority.beta(0.9, 2), "at least 1"),
        (lambda: Priority.beta(2, float("nan")), "at least 1"),
        (lambda: Priority("quartic", (1.0,)), "unknown kind of priority 'quartic'"),  # type: ignore[arg-type]  # what it refuses
        (lambda: Priority("power", (1.0,), POINTS), "only linear and cubic have points"),
        (lambda: quantised((0.5,), levels=1), "at least 2"),
        (lambda: Priority.from_json({"version": VERSION + 1, "kind": "power", "values": [1], "points": []}), "version"),
        (lambda: Priority.from_json({"kind": "power", "values": [1]}), "version None"),
    ],
)
def test_refuses(make: object, said: str) -> None:
    with pytest.raises(CurationError, match=said):
        make()  # type: ignore[operator]  # cases are functions, typed as objects


def test_the_stored_form_stays_readable() -> None:
    stored = {"version": 1, "kind": "linear", "values": [0.2, 0.0, 0.6, 0.4], "points": [0.0, 0.5, 0.8, 1.0]}
    assert Priority.from_json(stored) == Priority.linear((0.2, 0.0, 0.6, 0.4))
    assert Priority.from_json({"version": 1, "kind": "power", "values": [0.0], "points": []}) == Priority.selecting(1)
