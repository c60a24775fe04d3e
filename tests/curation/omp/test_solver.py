"""Matching pursuit: the paper's algorithm written plainly, optimality conditions, ties, memory, bad input."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import nnls
from sklearn.datasets import load_digits

from tamis.curation.errors import BudgetError, CurationError, NonFiniteError
from tamis.curation.omp import problem as pursued
from tamis.curation.omp import solver as pursuit
from tamis.curation.omp.problem import DOUBLE, Pursued
from tamis.curation.omp.pruning import thin
from tamis.curation.omp.solver import objective, pursue

Floats = np.ndarray
WAYS = ["gram", "copy", "rows"]


def fit(rows: Floats, target: Floats, chosen: list[int], lam: float) -> tuple[Floats, float]:
    """The best non-negative weights of some rows, and E."""
    rows = rows[chosen].astype(np.float64)
    system = np.vstack([rows.T, np.sqrt(lam) * np.eye(len(chosen))])
    weights, distance = nnls(system, np.concatenate([target, np.zeros(len(chosen))]), maxiter=10_000)
    return weights, distance**2


def plain(rows: Floats, target: Floats, k: int, lam: float) -> tuple[list[int], list[float], bool]:
    """Algorithm 2 of the paper, with non-negative weights: the rows picked, and E after each pick.

    Also whether it was clear at every step which weights are zero: rounding decides where weight and slope are both.
    """
    clear = True
    wide, target = rows.astype(np.float64), target.astype(np.float64)
    floor = DOUBLE.nothing * np.sqrt((wide**2).sum(1) + lam) * np.linalg.norm(target)
    chosen, weights, path = list[int](), np.zeros(0), list[float]()
    while len(chosen) < k:
        found = wide @ (target - weights @ wide[chosen])
        found[chosen] = -np.inf
        found[found <= floor] = -np.inf
        if found.max() == -np.inf:
            break
        chosen.append(int(np.argmax(found >= found.max() * (1 - DOUBLE.tie))))
        weights, error = fit(rows, target, chosen, lam)
        slope = wide[chosen] @ (target - weights @ wide[chosen]) - lam * weights
        clear &= bool((weights - slope > 1e-9 * weights.max(initial=0)).all())
        chosen = [row for row, weight in zip(chosen, weights, strict=True) if weight > 0]
        weights = weights[weights > 0]
        if path and error >= path[-1]:
            break
        path.append(error)
    return chosen, path, clear


def check(rows: Floats, target: Floats, k: int, lam: float, found: Pursued, tight: float = 1e-9) -> None:
    """What holds of every answer."""
    wide, target = rows.astype(np.float64), target.astype(np.float64)
    square = float(target @ target)
    assert found.rows.dtype == np.int64
    assert found.weights.dtype == found.objectives.dtype == np.float64
    assert len(found.rows) == len(found.weights) <= k
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert (found.weights > 0).all()
    assert (np.diff(found.objectives) <= 0).all()
    assert len(found.objectives) >= len(found.rows)
    left = target - found.weights @ wide[found.rows]
    assert found.objective == pytest.approx(left @ left + lam * found.weights @ found.weights, rel=1e-9, abs=0)
    assert found.objective <= square * (1 + 1e-12)
    if len(found.rows):
        assert found.objectives[-1] == found.objective
    assert (found.stopped == "budget") == (len(found.rows) == k)
    sizes = np.sqrt((wide**2).sum(1) + lam)
    slope = wide @ left
    slope[found.rows] -= lam * found.weights
    scaled = slope / np.where(sizes > 0, sizes, 1) / max(square**0.5, 1e-300)
    assert np.abs(scaled[found.rows]).max(initial=0) <= tight
    if found.stopped == "optimal":
        rest = np.delete(scaled, found.rows)
        assert rest.max(initial=0) <= 10 * (pursued.SINGLE if tight > 1e-9 else DOUBLE).nothing


def gradients(classes: slice = slice(None)) -> tuple[Floats, Floats]:
    """Last-layer gradients of a linear model of the digits, in closed form [1797, C * 65], and their sum."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = np.column_stack([pixels / 16, np.ones(len(pixels))])
    model = np.linalg.lstsq(inputs, np.eye(10)[labels], rcond=None)[0]
    logits = 4 * inputs @ model
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(10)[labels]
    rows = np.einsum("nc,nd->ncd", errors[:, classes], inputs).reshape(len(inputs), -1).astype(np.float32)
    return rows, rows.sum(0, dtype=np.float64)


@pytest.fixture(params=["float64", "float32"])
def tight(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Both kinds of products, and how exact the answers then are."""
    if request.param == "float32":
        monkeypatch.setattr(pursued, "DOUBLE_UP_TO", 0)
    return 1e-9 if request.param == "float64" else 3e-7


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Sets how many rows are listed, and for how many picks."""

    def set_them(listed: int, block: int) -> None:
        monkeypatch.setattr(pursuit, "LISTED", listed)
        monkeypatch.setattr(pursuit, "SHARE", 1_000_000)
        monkeypatch.setattr(pursuit, "BLOCK", block)

    return set_them


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what products are made from: "gram", "copy" or "rows"."""
    afford = pursuit._afford
    return lambda way: monkeypatch.setattr(pursuit, "_afford", lambda *args: replace(afford(*args), way=way))


def random_problem(seed: int, n: int, d: int) -> tuple[Floats, Floats]:
    """Rows that point the same way more or less, as gradients do, and a target near their sum."""
    draw = np.random.default_rng(seed)
    rows = np.maximum(draw.normal(size=(n, d)), -0.3).astype(np.float32)
    return rows, rows.sum(0, dtype=np.float64) + draw.normal(size=d)


SHAPES = [(7, 4, 3, 0.5), (30, 10, 5, 0.5), (30, 10, 30, 0.5), (200, 40, 60, 0.5), (200, 40, 100, 0.0)]
SHAPES += [
    (300, 50, 300, 0.1),
    (50, 80, 50, 0.0),
    (40, 1, 40, 0.5),
    (40, 1, 40, 0.0),
    (1, 5, 1, 0.5),
    (60, 12, 20, 1e4),
]


class TestAgainstThePlainAlgorithm:
    def test_worked_by_hand(self) -> None:
        rows = np.array([[2, 0], [0, 1], [-1, 0]], np.float32)
        found = pursue(rows, np.array([4.0, 3.0]), k=2, lam=1.0)
        # Correlations 8, 3, -4. Row 0: w = 8 / (4 + 1), E = 25 - 8 * 8 / 5. Then row 1: w = 3 / (1 + 1).
        assert found.rows.tolist() == [0, 1]
        assert found.weights.tolist() == pytest.approx([1.6, 1.5])
        assert found.objectives.tolist() == pytest.approx([12.2, 7.7])
        assert found.objective == pytest.approx(7.7)
        assert found.stopped == "budget"
        assert pursue(rows, np.array([4.0, 3.0]), k=3, lam=1.0).stopped == "optimal"  # row 2 points away

    @pytest.mark.parametrize(("n", "d", "k", "lam"), SHAPES)
    @pytest.mark.parametrize("seed", range(3))
    def test_same_picks(self, n: int, d: int, k: int, lam: float, seed: int) -> None:
        rows, target = random_problem(seed, n, d)
        found = pursue(rows, target, k=k, lam=lam)
        chosen, path, _ = plain(rows, target, k, lam)
        check(rows, target, k, lam, found)
        assert found.rows.tolist() == chosen
        assert found.objectives.tolist() == pytest.approx(path, rel=1e-7, abs=1e-12 * target @ target)

    @pytest.mark.parametrize(("n", "d", "k", "lam"), SHAPES)
    def test_same_picks_from_short_lists_and_all_products(
        self,
        n: int,
        d: int,
        k: int,
        lam: float,
        lists: Callable[[int, int], None],
        products: Callable[[str], None],
    ) -> None:
        rows, target = random_problem(7, n, d)
        whole = pursue(rows, target, k=k, lam=lam)
        for listed, block, way in itertools.product([2, 9], [1, 4, 32], WAYS):
            lists(listed, block)
            products(way)
            found = pursue(rows, target, k=k, lam=lam)
            assert found.rows.tolist() == whole.rows.tolist()
            assert found.stopped == whole.stopped
            assert found.weights == pytest.approx(whole.weights, rel=1e-6)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("lam", [0.0, 0.5])
    def test_never_better_than_the_best_support_nor_much_worse(self, seed: int, lam: float) -> None:
        rows, target = random_problem(seed, 8, 5)
        for k in range(1, 9):
            best = min(fit(rows, target, list(some), lam)[1] for some in itertools.combinations(range(8), k))
            found = pursue(rows, target, k=k, lam=lam)
            assert best * (1 - 1e-9) - 1e-9 <= found.objective
        assert found.objective == pytest.approx(
            best, rel=1e-7, abs=1e-9 * target @ target
        )  # with all rows there: it is the best

    @given(data=st.data())
    def test_any_small_problem(self, data: st.DataObject) -> None:
        n, d = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
        whole = st.integers(-3, 3)  # many ties, duplicates, opposite, collinear and zero rows
        rows = data.draw(hnp.arrays(np.float32, (n, d), elements=whole.map(float)))
        target = data.draw(hnp.arrays(np.float64, d, elements=whole.map(float)))
        k, lam = data.draw(st.integers(1, n)), data.draw(st.sampled_from([0.0, 0.5, 3.0]))
        found = pursue(rows, target, k=k, lam=lam)
        check(rows, target, k, lam, found)
        assert found.rows.tolist() == pursue(rows, target, k=k, lam=lam).rows.tolist()
        chosen, path, clear = plain(rows, target, k, lam)
        if lam > 0 and clear:  # without a ridge the weights of collinear rows are not unique
            assert found.rows.tolist() == chosen
            assert found.objective == pytest.approx(path[-1] if path else target @ target, abs=1e-9)


class TestOnGradients:
    @pytest.mark.parametrize("k", [1, 40, 400])
    @pytest.mark.parametrize("lam", [0.5, 0.01, 0.0])
    def test_optimality_conditions(self, k: int, lam: float, tight: float) -> None:
        rows, target = gradients()
        check(rows, target, k, lam, pursue(rows, target, k=k, lam=lam), tight)

    @pytest.mark.parametrize("lam", [0.5, 0.0])
    def test_everything_may_be_chosen(self, lam: float, tight: float) -> None:
        rows, target = gradients(slice(3, 4))  # 65 numbers a row: most weights come out as zero, and rows are held
        found = pursue(rows, target, k=len(rows), lam=lam)
        check(rows, target, len(rows), lam, found, tight)
        assert found.stopped == "optimal"
        best = fit(rows, target, list(range(len(rows))), lam)[1]
        assert found.objective == pytest.approx(best, rel=1e-4, abs=tight * target @ target / 30)

    @pytest.mark.parametrize("lam", [0.5, 0.0])
    def test_float32_chooses_as_well(self, lam: float, monkeypatch: pytest.MonkeyPatch) -> None:
        rows, target = gradients()
        few, many = (pursue(rows, target, k=k, lam=lam) for k in (20, 150))
        monkeypatch.setattr(pursued, "DOUBLE_UP_TO", 0)
        assert pursue(rows, target, k=20, lam=lam).rows.tolist() == few.rows.tolist()
        narrow = pursue(rows, target, k=150, lam=lam)
        assert narrow.objective == pytest.approx(many.objective, rel=0.02, abs=1e-9 * target @ target)

    def test_all_products_agree(self, products: Callable[[str], None], lists: Callable[[int, int], None]) -> None:
        rows, target = gradients()
        lists(100, 16)
        answers = []
        for way in WAYS:
            products(way)
            answers.append(pursue(rows, target, k=200))
        for other in answers[1:]:
            assert other.rows.tolist() == answers[0].rows.tolist()
            assert other.objective == pytest.approx(answers[0].objective, rel=1e-9)

    @pytest.mark.parametrize("gram", [False, True])
    def test_going_on_for_spare_rows_is_picking_as_many_from_the_start(
        self, gram: bool, products: Callable[[str], None], lists: Callable[[int, int], None]
    ) -> None:
        lists(4, 3)
        products("gram" if gram else "copy")
        for seed in range(40):
            rows, target = random_problem(seed, 60, 20)
            whole = pursuit._Pursuit(rows, target, 17, 0.5, None).run(17, 0.0)
            going_on = pursuit._Pursuit(rows, target, 17, 0.5, None)
            going_on.run(12, 0.0)
            found = going_on.run(17, 0.0)
            assert found.rows.tolist() == whole.rows.tolist()
            assert found.stopped == whole.stopped

    def test_spare_picks_leave_as_many_rows_as_were_asked_for(self) -> None:
        for seed in range(150):
            draw = np.random.default_rng(seed)
            rows, target = random_problem(seed, 30, 7)
            k = int(draw.integers(3, 9))
            found = pursue(rows, target, k=k, lam=float(draw.choice([0.0, 0.5])), spare=1.0)
            assert (found.stopped == "budget") == (len(found.rows) == k)

    @pytest.mark.parametrize("way", WAYS)
    def test_held_rows_are_left_out_of_the_factor(
        self, monkeypatch: pytest.MonkeyPatch, products: Callable[[str], None], way: str
    ) -> None:
        products(way)
        rows, target = gradients(slice(3, 4))
        kept = pursue(rows, target, k=500, lam=0.01)
        monkeypatch.setattr(pursuit, "_held", lambda k: 0)
        monkeypatch.setattr(pursuit, "BLOCK", 3)
        left_out = pursue(rows, target, k=500, lam=0.01)
        assert len(kept.objectives) > len(kept.rows)  # some were held
        assert left_out.rows.tolist() == kept.rows.tolist()
        assert left_out.weights == pytest.approx(kept.weights, rel=1e-6)

    def test_stops_early(self) -> None:
        rows, target = gradients()
        whole = pursue(rows, target, k=100)
        asked = whole.objectives[30] * 1.001 / (target @ target)
        found = pursue(rows, target, k=100, tolerance=asked)
        assert found.stopped == "tolerance"
        assert found.objective <= asked * target @ target < whole.objectives[len(found.objectives) - 2]
        assert found.rows.tolist() == whole.rows[: len(found.rows)].tolist()

    def test_repeats_itself(self) -> None:
        rows, target = gradients()
        first, second = (pursue(rows, target, k=60) for _ in range(2))
        assert first.rows.tobytes() == second.rows.tobytes()
        assert first.weights.tobytes() == second.weights.tobytes()


class TestUnusualRows:
    def test_of_equal_rows_the_lowest_comes_first(
        self, tight: float, lists: Callable[[int, int], None], products: Callable[[str], None]
    ) -> None:
        lists(4, 3)
        products("copy")  # in float32, differences of products tell equal rows apart
        draw = np.random.default_rng(0)
        rows = np.repeat(draw.random((6, 37)), 5, axis=0).astype(np.float32)[draw.permutation(30)]
        target = rows.sum(0, dtype=np.float64)
        found = pursue(rows, target, k=30, lam=0.5)
        check(rows, target, 30, 0.5, found, tight)
        for group in np.unique(rows, axis=0):
            members = np.flatnonzero((rows == group).all(axis=1)).tolist()
            assert [row for row in found.rows.tolist() if row in members] == members[
                : np.isin(members, found.rows).sum()
            ]

    def test_equal_rows_share_a_weight_under_a_ridge(self) -> None:
        rows = np.ones((4, 3), np.float32)
        found = pursue(rows, np.full(3, 2.0), k=4, lam=1.0)
        assert found.rows.tolist() == [0, 1, 2, 3]
        assert found.weights == pytest.approx(np.full(4, 6 / 13))

    @pytest.mark.parametrize("target", [np.full(3, 2.0), np.array([2.0, 2.0, -1.0])])
    def test_equal_rows_are_chosen_once_without_a_ridge(self, target: Floats, tight: float) -> None:
        found = pursue(np.ones((4, 3), np.float32), target, k=4, lam=0.0)
        assert found.rows.tolist() == [0]
        assert found.weights == pytest.approx([target.mean()])
        assert found.stopped == "optimal"

    @pytest.mark.parametrize("seed", range(5))
    def test_rows_that_others_span(self, seed: int, tight: float, lists: Callable[[int, int], None]) -> None:
        lists(20, 4)
        draw = np.random.default_rng(seed)
        rows = (draw.integers(-3, 4, (80, 6)) @ draw.integers(-3, 4, (6, 40))).astype(np.float32)  # rank 6, exactly
        target = draw.normal(size=40) + rows[:3].sum(0)
        found = pursue(rows, target, k=80, lam=0.0)
        check(rows, target, 80, 0.0, found, tight)
        assert found.objective == pytest.approx(fit(rows, target, list(range(80)), 0.0)[1], rel=1e-5)

    def test_a_row_that_only_the_held_rows_help_to_span(self) -> None:
        # In two dimensions three rows are dependent, but what leaves the support leaves room for another.
        for seed in range(30):
            draw = np.random.default_rng(seed)
            rows = draw.normal(size=(50, 2)).astype(np.float32)
            target = draw.normal(size=2)
            found = pursue(rows, target, k=50, lam=0.0)
            check(rows, target, 50, 0.0, found)
            assert found.objective == pytest.approx(fit(rows, target, list(range(50)), 0.0)[1], abs=1e-12)

    def test_zero_rows_are_never_chosen(self, tight: float) -> None:
        rows, target = random_problem(0, 20, 6)
        rows[::2] = 0
        found = pursue(rows, target, k=20, lam=0.0)
        check(rows, target, 20, 0.0, found, tight)
        assert (found.rows % 2 == 1).all()

    @pytest.mark.parametrize("rows", [np.zeros((5, 3)), -np.ones((5, 3)), np.ones((5, 3))])
    def test_nothing_to_come_near_to(self, rows: Floats) -> None:
        target = np.zeros(3) if rows.min() >= 1 else np.ones(3)
        found = pursue(rows.astype(np.float32), target, k=2)
        assert found.rows.tolist() == found.weights.tolist() == found.objectives.tolist() == []
        assert found.objective == target @ target
        assert found.stopped == "optimal"

    @pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-20, 1e-6, 1e6, 1e15, 1e34])
    def test_any_scale(self, size: float, tight: float) -> None:
        rows, target = gradients(slice(0, 2))
        plain_answer = pursue(rows, target, k=60, lam=0.3)
        power = 2.0 ** round(np.log2(size))
        scaled = (rows.astype(np.float64) * power).astype(np.float32)
        found = pursue(scaled, target * power, k=60, lam=0.3 * power**2)
        if size >= 1e-30:  # below, float32 itself loses digits
            assert found.rows.tolist() == plain_answer.rows.tolist()
            assert found.weights == pytest.approx(plain_answer.weights, rel=1e-6)
        assert found.objective / power**2 == pytest.approx(plain_answer.objective, rel=1e-2)

    @pytest.mark.parametrize("size", [1e-100, 1e100])
    def test_target_of_any_scale(self, size: float, tight: float) -> None:
        rows, target = gradients(slice(0, 2))
        check(rows, target * size, 60, 0.5, pursue(rows, target * size, k=60), tight)

    def test_rows_of_very_different_scales(self, tight: float) -> None:
        rows, target = random_problem(3, 30, 8)
        # Products of float32 hold less: rows that differ by more than 10^16 are fitted worse.
        rows *= np.logspace(*((-20, 15) if tight < 1e-8 else (-8, 8)), 30, dtype=np.float32)[:, None]
        found = pursue(rows, target, k=30, lam=0.0)
        check(rows, target, 30, 0.0, found, tight)

    def test_what_is_given_stays_as_it_is(self) -> None:
        rows, target = gradients(slice(0, 2))
        rows.flags.writeable = target.flags.writeable = False
        same = pursue(rows, target, k=9)
        assert pursue(np.asfortranarray(rows), target.astype(np.float32), k=9).rows.tolist() == same.rows.tolist()
        assert pursue(rows.astype(np.float64), target, k=9).rows.tolist() == same.rows.tolist()

    def test_objective_of_given_weights(self) -> None:
        rows = np.array([[1, 0], [0, 2]], np.float32)
        assert objective(rows, np.array([3.0, 5.0]), np.array([1]), np.array([2.0]), 0.5) == 9 + 1 + 0.5 * 4


class TestBadInput:
    ROWS, TARGET = random_problem(0, 8, 3)

    @pytest.mark.parametrize("k", [0, -1, 9, 2.0, True])
    def test_budgets_out_of_range(self, k: int) -> None:
        with pytest.raises(BudgetError, match="expected"):
            pursue(self.ROWS, self.TARGET, k=k)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_rows_that_are_not_finite_are_counted_and_named(self, bad: float) -> None:
        rows = self.ROWS.copy()
        rows[[2, 5], [1, 0]] = bad
        with pytest.raises(NonFiniteError, match=r"2 of 8 rows .* \(samples 2, 5\)"):
            pursue(rows, self.TARGET, k=2)

    def test_numbers_that_float32_cannot_hold(self) -> None:
        rows = self.ROWS.astype(np.float64)
        rows[4] = 1e39
        with pytest.raises(NonFiniteError, match=r"1 of 8 rows .* \(samples 4\)"):
            pursue(rows, self.TARGET, k=2)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
    def test_targets_that_are_not_finite(self, bad: float) -> None:
        with pytest.raises(CurationError, match="1 of 3 numbers of the target"):
            pursue(self.ROWS, np.array([1.0, bad, 2.0]), k=2)

    @pytest.mark.parametrize("given", [{"lam": -0.1}, {"lam": np.nan}, {"tolerance": -1}, {"tolerance": 1}])
    def test_settings_out_of_range(self, given: dict[str, float]) -> None:
        with pytest.raises(CurationError, match="expected lam of 0 or more"):
            pursue(self.ROWS, self.TARGET, k=2, **given)

    @pytest.mark.parametrize(
        ("rows", "target"),
        [(ROWS, TARGET[:2]), (ROWS[0], TARGET), (ROWS, TARGET[None]), (ROWS.astype(int), TARGET), (ROWS, ["a"] * 3)],
    )
    def test_shapes_and_types(self, rows: Floats, target: Floats) -> None:
        with pytest.raises(CurationError, match=r"expected floats \[N, D\] and \[D\]"):
            pursue(rows, target, k=2)

    def test_no_rows(self) -> None:
        with pytest.raises(BudgetError):
            pursue(self.ROWS[:0], self.TARGET, k=1)


class TestMemory:
    @pytest.fixture
    def large(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Floats, Floats]]:
        monkeypatch.setattr(pursued, "DOUBLE_UP_TO", 0)
        return gradients()

    def test_too_little_says_how_much_is_needed_and_that_is_enough(self, large: tuple[Floats, Floats]) -> None:
        with pytest.raises(CurationError, match=r"^100 bytes of memory are too few: .* takes [0-9,]+\.") as error:
            pursue(*large, k=50, memory=100)
        needed = int(str(error.value).split(" takes ")[1].split(".")[0].replace(",", ""))
        assert needed < 2 * large[0].nbytes
        with pytest.raises(CurationError, match="too few"):
            pursue(*large, k=50, memory=needed - 1)
        assert pursue(*large, k=50, memory=needed).rows.tolist() == pursue(*large, k=50).rows.tolist()

    @pytest.mark.parametrize("k", [50, 900])
    def test_stays_within_what_it_was_given(self, k: int, large: tuple[Floats, Floats]) -> None:
        import tracemalloc

        rows, target = large
        with pytest.raises(CurationError) as error:
            pursue(rows, target, k=k, memory=0)
        needed = int(str(error.value).split(" takes ")[1].split(".")[0].replace(",", ""))
        for memory in (needed, needed + 1_000_000):
            tracemalloc.start()
            pursue(rows, target, k=k, memory=memory)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= memory


@pytest.mark.parametrize("k", [1, 5, 20])
def test_spare_picks_are_left_out_again(k: int) -> None:
    """What stays are exactly k rows at their best weights; mostly they beat k greedy picks."""
    better = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        rows = np.maximum(random.normal(size=(200, 30)) + random.normal(size=(200, 1)), -0.3).astype(np.float32)
        target = rows.sum(axis=0).astype(np.float64)
        plain, spare = (pursue(rows, target, k=k, spare=part) for part in (0.0, 0.2))
        assert len(spare.rows) == len(set(spare.rows.tolist())) == min(k, len(plain.rows))
        assert (spare.weights > 0).all()
        wide = rows[spare.rows].astype(np.float64)
        missing = target - spare.weights @ wide
        assert np.abs(wide @ missing - 0.5 * spare.weights).max() <= 1e-6 * np.abs(rows @ target).max()
        assert spare.objective == pytest.approx(missing @ missing + 0.5 * spare.weights @ spare.weights)
        assert spare.objective <= plain.objective
        assert (np.diff(spare.objectives) <= 0).all()
        assert spare.objectives[-1] == spare.objective
        better += spare.objective < plain.objective
    assert better >= 3 or k == 1


def test_thinning_leaves_out_what_costs_least() -> None:
    """One row fewer: every other that could have gone would have left a larger objective."""
    random = np.random.default_rng(4)
    rows = np.abs(random.normal(size=(12, 20))).astype(np.float32)
    target = rows.sum(axis=0).astype(np.float64)
    found = pursue(rows, target, k=8)
    left = thin(rows, target, found, 7, 0.5)
    others = []
    for gone in found.rows.tolist():
        wide = rows[[row for row in found.rows.tolist() if row != gone]].astype(np.float64)
        weights = np.linalg.solve(wide @ wide.T + 0.5 * np.eye(7), wide @ target)
        missing = target - weights @ wide
        others.append(missing @ missing + 0.5 * weights @ weights)
    assert left.objective == pytest.approx(min(others))


def test_a_spare_part_out_of_range_is_refused() -> None:
    with pytest.raises(CurationError, match=r"spare is 1\.5"):
        pursue(np.ones((3, 2), np.float32), np.ones(2), k=1, spare=1.5)
