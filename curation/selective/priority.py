"""F: from the share of the history that a loss is not below to the probability that its sample is selected.

What it does:
    A `Priority` maps shares in [0, 1] to probabilities in [0, 1]. It is plain data: a kind and a few numbers, written
    as JSON and recorded with a training run. The kinds:

    power    share ** beta, equation 3.1. A selectivity s in (0, 1] gives beta = 1/s - 1: shares are close to uniform,
             so that 1/(beta + 1) = s of the samples are selected. s = 1 selects every sample.
    linear   lines through points, at the shares 0, .5, .8 and 1 unless others are given (section 4.2.2).
    cubic    the monotone piecewise cubic through the same points: between two points it goes from one to the other
             and no further, so it stays in [0, 1] and its maximum is at a point.
    beta     the density of the beta distribution divided by its maximum, two parameters a, b >= 1 (section 4.5.1).
    steps    ten values, one for each tenth of the shares.

When to use it:
    power for Selective-Backprop on clean data. linear where the hardest samples may be mislabelled, and for AdaptSB,
    which searches for the values; beta has two values to search for in place of four, steps ten.

Cost:
    A few microseconds for a batch of 128.

Departures from the paper:
    The thesis names the beta distribution and no form. Its density is no probability, so it is divided by its maximum;
    with a or b below 1 there is none (it is infinite at an end), so these are refused. With b = 1 it is power with
    beta = a - 1. The cubic of the thesis is not specified; this is Fritsch and Butland's, which does not overshoot.
    An F that is 0 at every point is refused, since nothing would be selected.

Reference:
    A. Jiang. Thesis, 2020, sections 3.3.2, 4.2.2 and 4.5.1. F. N. Fritsch, J. Butland. A Method for Constructing Local
    Monotone Piecewise Cubic Interpolants. SIAM J. Sci. Stat. Comput. 5, 1984.

Legend: B shares, V values, P points.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError
from tamis.curation.selective.curves import monotone_cubic, pooled

Doubles = NDArray[np.float64]
Kind = Literal["power", "linear", "cubic", "beta", "steps"]
Monotone = Literal["refuse", "isotonic"]

VERSION = 1  # of the stored form
POINTS = (0.0, 0.5, 0.8, 1.0)
STEPS = 10
_EDGES: Doubles = np.arange(1, STEPS) / STEPS


def beta_of(selectivity: float) -> float:
    """The beta with which a share `selectivity` of the samples is selected, if shares are uniform: 1/s - 1.

    Raises:
        CurationError: it is not in (0, 1].
    """
    if not 0 < selectivity <= 1:
        raise CurationError(
            f"a selectivity of {selectivity!r}; expected a number above 0, up to 1: the part of the samples to select"
        )
    return 1 / selectivity - 1


def quantised(values_V: Sequence[float], levels: int = 10) -> tuple[float, ...]:
    """Each value in [0, 1] moved to the nearest of `levels` equally spaced ones, 0 and 1 among them (section 4.5.1)."""
    if levels < 2:
        raise CurationError(f"{levels} levels; expected at least 2: 0 and 1 are among them")
    return tuple(math.floor(value * (levels - 1) + 0.5) / (levels - 1) for value in _probabilities(values_V))


@dataclass(frozen=True)
class Priority:
    """A function F from shares to probabilities of selection. Made by its class methods, or from JSON.

    Attributes:
        kind: see the module's docstring.
        values: beta of a power; a and b of a beta; the probabilities at the points, or of the ten steps.
        points: the shares that the values of linear and cubic belong to, from 0 to 1; otherwise empty.

    Raises:
        CurationError: a value that is NaN or out of its range, a wrong number of values, points that do not rise from
            0 to 1, or a function that selects nothing.
    """

    kind: Kind
    values: tuple[float, ...]
    points: tuple[float, ...] = ()
    _function: Callable[[Doubles], Doubles] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in _FUNCTIONS:
            raise CurationError(f"unknown kind of priority {self.kind!r}; there are: {', '.join(get_args(Kind))}")
        if self.points and self.kind not in ("linear", "cubic"):
            raise CurationError(f"points are given for {self.kind}; only linear and cubic have points: leave them out")
        object.__setattr__(self, "_function", _FUNCTIONS[self.kind](self.values, self.points))

    @classmethod
    def power(cls, beta: float) -> "Priority":
        """share ** beta, beta > 0: equation 3.1."""
        if not beta > 0:
            raise CurationError(f"beta is {beta!r}; expected a number above 0: a selectivity of 1 selects every sample")
        return cls("power", (float(beta),))

    @classmethod
    def selecting(cls, selectivity: float) -> "Priority":
        """The power that selects this part of the samples, in (0, 1]; with 1 every sample."""
        return cls("power", (beta_of(selectivity),))

    @classmethod
    def linear(
        cls,
        values_P: Sequence[float],
        points_P: Sequence[float] = POINTS,
        *,
        normalise: bool = False,
        monotone: Monotone | None = None,
    ) -> "Priority":
        """Lines from point to point.

        Args:
            values_P: the probability at each point, in [0, 1].
            points_P: the shares, rising from 0 to 1.
            normalise: divide by the largest value, so that the most wanted samples are always selected.
            monotone: values that fall as the share rises are refused ("refuse"), or moved to the nearest values that
                do not fall, in the sum of squares ("isotonic"); before they are normalised. None allows them.
        """
        return cls("linear", _prepared(values_P, normalise, monotone), _floats(points_P))

    @classmethod
    def cubic(
        cls,
        values_P: Sequence[float],
        points_P: Sequence[float] = POINTS,
        *,
        normalise: bool = False,
        monotone: Monotone | None = None,
    ) -> "Priority":
        """The monotone cubic through points; arguments as for `linear`."""
        return cls("cubic", _prepared(values_P, normalise, monotone), _floats(points_P))

    @classmethod
    def steps(
        cls, values_V: Sequence[float], *, normalise: bool = False, monotone: Monotone | None = None
    ) -> "Priority":
        """Ten values: that of shares in [0, .1), in [.1, .2), ..., in [.9, 1]; arguments as for `linear`."""
        return cls("steps", _prepared(values_V, normalise, monotone))

    @classmethod
    def beta(cls, a: float, b: float) -> "Priority":
        """The density of the beta distribution over its maximum; a and b at least 1. It rises all the way if b is 1."""
        return cls("beta", (float(a), float(b)))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Priority":
        """What `to_json` gave.

        Raises:
            CurationError: another version, or other fields.
        """
        if stored.get("version") != VERSION or set(stored) != {"version", "kind", "values", "points"}:
            raise CurationError(
                f"a stored priority has the fields {sorted(stored)} and version {stored.get('version')!r}; expected "
                f"version {VERSION} with kind, values and points: read it with the release that wrote it"
            )
        return cls(stored["kind"], _floats(stored["values"]), _floats(stored["points"]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON from which the same function is made."""
        return {"version": VERSION, "kind": self.kind, "values": list(self.values), "points": list(self.points)}

    def __reduce__(self) -> tuple[type["Priority"], tuple[Kind, tuple[float, ...], tuple[float, ...]]]:
        return Priority, (self.kind, self.values, self.points)

    def __call__(self, shares_B: ArrayLike) -> Doubles:
        """The probability of selection for each share.

        Args:
            shares_B: [B] in [0, 1], or NaN.

        Returns:
            float64 [B] in [0, 1]; NaN where the share is.

        Raises:
            CurationError: a share out of [0, 1].
        """
        shares = np.asarray(shares_B, np.float64)
        if np.fmin.reduce(shares, initial=0.0) < 0 or np.fmax.reduce(shares, initial=0.0) > 1:
            raise CurationError(
                f"shares from {np.nanmin(shares):g} to {np.nanmax(shares):g}; expected shares in [0, 1]: "
                "LossHistory.shares makes them of losses"
            )
        return self._function(shares)


def _power(values_V: tuple[float, ...], _: tuple[float, ...]) -> Callable[[Doubles], Doubles]:
    (beta,) = _counted("power", values_V, 1)
    if not 0 <= beta < math.inf:
        raise CurationError(f"beta is {beta!r}; expected a finite number, 0 or more")
    if beta == 0:
        return lambda shares_B: np.where(np.isnan(shares_B), np.nan, 1.0)  # NaN ** 0 would be 1
    return lambda shares_B: shares_B**beta


def _linear(values_P: tuple[float, ...], points_P: tuple[float, ...]) -> Callable[[Doubles], Doubles]:
    x_P, y_P = _curve("linear", values_P, points_P)
    return lambda shares_B: np.interp(shares_B, x_P, y_P)


def _cubic(values_P: tuple[float, ...], points_P: tuple[float, ...]) -> Callable[[Doubles], Doubles]:
    return monotone_cubic(*_curve("cubic", values_P, points_P))


def _beta(values_V: tuple[float, ...], _: tuple[float, ...]) -> Callable[[Doubles], Doubles]:
    a, b = _counted("beta", values_V, 2)
    if not (1 <= a < math.inf and 1 <= b < math.inf):
        raise CurationError(f"a and b are {a!r} and {b!r}; expected finite numbers of at least 1: below, the density "
                            "of the beta distribution has no maximum")  # fmt: skip
    if a == b == 1:
        return lambda shares_B: np.where(np.isnan(shares_B), np.nan, 1.0)
    mode = (a - 1) / (a + b - 2)

    def density(shares_B: Doubles) -> Doubles:
        with np.errstate(divide="ignore"):  # log 0: a density of 0
            rising = (a - 1) * np.log(shares_B / mode) if a > 1 else 0.0
            falling = (b - 1) * np.log((1 - shares_B) / (1 - mode)) if b > 1 else 0.0
        return np.minimum(np.exp(rising + falling), 1.0)

    return density


def _steps(values_V: tuple[float, ...], _: tuple[float, ...]) -> Callable[[Doubles], Doubles]:
    y_V = np.array(_selecting(_counted("steps", _probabilities(values_V), STEPS)))

    def step(shares_B: Doubles) -> Doubles:
        found_B = y_V[_EDGES.searchsorted(shares_B, "right")]
        found_B[np.isnan(shares_B)] = np.nan
        return found_B

    return step


_FUNCTIONS: dict[str, Callable[[tuple[float, ...], tuple[float, ...]], Callable[[Doubles], Doubles]]] = {
    "power": _power,
    "linear": _linear,
    "cubic": _cubic,
    "beta": _beta,
    "steps": _steps,
}


def _curve(kind: str, values_P: tuple[float, ...], points_P: tuple[float, ...]) -> tuple[Doubles, Doubles]:
    rising = all(a < b for a, b in itertools.pairwise(points_P))
    if len(points_P) < 2 or points_P[0] != 0 or points_P[-1] != 1 or not rising:
        raise CurationError(
            f"the points of {kind} are {points_P}; expected shares that rise from 0 to 1, as {POINTS} do"
        )
    return np.array(points_P), np.array(_selecting(_counted(kind, _probabilities(values_P), len(points_P))))


def _counted(kind: str, values_V: tuple[float, ...], count: int) -> tuple[float, ...]:
    if len(values_V) != count:
        raise CurationError(f"{len(values_V)} values for {kind}; expected {count}")
    return values_V


def _selecting(values_V: tuple[float, ...]) -> tuple[float, ...]:
    if not any(values_V):
        raise CurationError("every value is 0, so nothing would be selected; expected at least one above 0")
    return values_V


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _probabilities(values_V: Sequence[float]) -> tuple[float, ...]:
    values = _floats(values_V)
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise CurationError(f"values {', '.join(map(repr, wrong))} are no probabilities; expected numbers in [0, 1]")
    return values


def _prepared(values_V: Sequence[float], normalise: bool, monotone: Monotone | None) -> tuple[float, ...]:
    values = _probabilities(values_V)
    if monotone == "isotonic":
        values = pooled(values)
    elif monotone == "refuse" and any(a > b for a, b in itertools.pairwise(values)):
        raise CurationError(f"the values {values} fall; expected values that do not: leave the constraint out, or ask "
                            "for the nearest ones with monotone='isotonic'")  # fmt: skip
    if normalise:
        largest = max(_selecting(values))
        return tuple(value / largest for value in values)
    return values
