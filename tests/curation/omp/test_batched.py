"""Many pursuits as one batch: the same answers as one by one."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from tamis.curation.errors import BudgetError, CurationError, NonFiniteError
from tamis.curation.omp import batched as pursuit_batch
from tamis.curation.omp import problem as pursued
from tamis.curation.omp.batched import pursue_batch
from tamis.curation.omp.problem import Problem, Pursued
from tamis.curation.omp.solver import pursue

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here; the same cases run on the CPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


def by_class() -> list[Problem]:
    """The digits' last-layer gradients, a problem a class: other numbers of rows, other budgets."""
    pixels, labels = load_digits(return_X_y=True)
    inputs = np.column_stack([pixels / 16, np.ones(len(pixels))])
    logits = 4 * inputs @ np.linalg.lstsq(inputs, np.eye(10)[labels], rcond=None)[0]
    errors = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(10)[labels]
    rows = [(errors[labels == c, c, None] * inputs[labels == c]).astype(np.float32) for c in range(10)]
    return [Problem(each, each.sum(0, dtype=np.float64), 5 + 3 * c) for c, each in enumerate(rows)]


def same(found: Pursued, alone: Pursued, close: float = 1e-6) -> None:
    assert found.rows.dtype == np.int64
    assert found.rows.tolist() == alone.rows.tolist()
    assert found.stopped == alone.stopped
    assert found.weights == pytest.approx(alone.weights, rel=close)
    assert found.objective == pytest.approx(alone.objective, rel=close)
    assert found.objectives == pytest.approx(alone.objectives, rel=close, abs=close * alone.objectives.max(initial=0))


def random_problems(seed: int, lengths: list[int], d: int, share: float) -> list[Problem]:
    draw = np.random.default_rng(seed)
    made = [np.maximum(draw.normal(size=(n, d)), -0.3).astype(np.float32) for n in lengths]
    return [Problem(rows, rows.sum(0) + draw.normal(size=d), max(1, int(share * len(rows)))) for rows in made]


class TestSameAsOneByOne:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("lam", [0.5, 0.01])
    def test_gradients_by_class(self, device: str, lam: float) -> None:
        problems = by_class()
        for found, p in zip(pursue_batch(problems, lam=lam, device=device), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k, lam=lam))

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
    @pytest.mark.parametrize("lam", [0.5, 0.0])
    def test_rows_that_leave_again(self, device: str, share: float, lam: float) -> None:
        problems = random_problems(5, [60, 1, 33, 60, 200], 12, share)
        for found, p in zip(pursue_batch(problems, lam=lam, device=device), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k, lam=lam))

    @given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(1, 15), min_size=1, max_size=4), d=st.integers(1, 6))
    def test_any_shape(self, seed: int, lengths: list[int], d: int) -> None:
        problems = random_problems(seed, lengths, d, 0.7)
        for found, p in zip(pursue_batch(problems), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k))

    @pytest.mark.parametrize("device", DEVICES)
    def test_float32_comes_as_near(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        problems = by_class()
        exact = list(pursue_batch(problems, device=device))
        monkeypatch.setattr(pursued, "DOUBLE_UP_TO", 0)
        for found, wide in zip(pursue_batch(problems, device=device), exact, strict=True):
            assert found.objective == pytest.approx(wide.objective, rel=0.05)
            assert found.rows[:5].tolist() == wide.rows[:5].tolist()

    def test_each_stops_for_its_own_reason(self) -> None:
        draw = np.random.default_rng(0)
        rows = draw.random((20, 4)).astype(np.float32)
        cases = [
            Problem(rows, rows.sum(0), 3), Problem(-rows, rows.sum(0), 3), Problem(0 * rows, rows.sum(0), 20),
            Problem(rows, np.zeros(4), 1), Problem(np.repeat(rows[:1], 5, 0), 7 * rows[0], 5),
        ]  # fmt: skip
        for lam, tolerance in [(0.5, 0.0), (0.0, 0.0), (0.0, 0.3)]:
            for found, p in zip(pursue_batch(cases, lam=lam, tolerance=tolerance), cases, strict=True):
                same(found, pursue(p.rows_ND, p.target_D, k=p.k, lam=lam, tolerance=tolerance))

    @pytest.mark.parametrize("size", [1e-30, 1e15])
    def test_problems_of_other_scales_do_not_disturb_each_other(self, size: float) -> None:
        plain, power = random_problems(1, [40, 40], 7, 0.3), 2.0 ** round(np.log2(size))
        scaled = Problem((plain[0].rows_ND * power).astype(np.float32), plain[0].target_D * power, plain[0].k)
        found = list(pursue_batch([scaled, plain[1]], lam=0.0))
        same(found[1], pursue(plain[1].rows_ND, plain[1].target_D, k=plain[1].k, lam=0.0))
        assert found[0].rows.tolist() == next(pursue_batch(plain, lam=0.0)).rows.tolist()


class TestPrecision:
    @pytest.mark.parametrize("device", DEVICES)
    def test_what_a_training_allows_itself_is_not_for_pursuits(
        self, device: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pursued, "DOUBLE_UP_TO", 0)
        problems, before = by_class(), torch.get_float32_matmul_precision()
        exact = list(pursue_batch(problems, device=device))
        torch.set_float32_matmul_precision("medium")
        try:
            with torch.autocast(device, torch.bfloat16):
                found = list(pursue_batch(problems, device=device))
            assert torch.get_float32_matmul_precision() == "medium"
        finally:
            torch.set_float32_matmul_precision(before)
        for one, other in zip(found, exact, strict=True):
            same(one, other)

    def test_set_by_the_newer_of_two_ways(self) -> None:
        maker = torch.backends.cuda.matmul
        if not hasattr(maker, "fp32_precision"):
            pytest.skip("this torch has one way only")
        before, maker.fp32_precision = maker.fp32_precision, "tf32"
        try:
            assert len(list(pursue_batch(by_class()))) == 10
            assert maker.fp32_precision == "tf32"
        finally:
            maker.fp32_precision = before


class TestSpare:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("spare", [0.05, 0.5])
    def test_same_as_one_by_one(self, device: str, spare: float) -> None:
        problems = [*by_class(), *random_problems(3, [60, 8], 65, 0.5)]
        for found, p in zip(pursue_batch(problems, spare=spare, device=device), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k, spare=spare))


class TestMemory:
    """Problems that do not fit together are solved one batch after the other."""

    @pytest.mark.parametrize("memory", [135_000, 150_000, 10_000_000])
    def test_same_answers(self, memory: int) -> None:
        problems = random_problems(2, [60, 1, 33, 60, 20], 12, 0.3)
        for found, p in zip(pursue_batch(problems, memory=memory), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k))

    @pytest.mark.parametrize("free", [1_000, 140_000, 300_000])
    def test_what_does_not_fit_into_an_accelerator_is_solved_without(
        self, free: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A CPU stands in for an accelerator with so many free bytes."""
        monkeypatch.setattr(pursuit_batch, "_free", lambda device: free)
        problems = random_problems(2, [60, 200, 1, 33, 200, 20], 12, 0.3)
        for found, p in zip(pursue_batch(problems, spare=0.1), problems, strict=True):
            same(found, pursue(p.rows_ND, p.target_D, k=p.k, spare=0.1))

    def test_problems_are_taken_as_they_are_needed(self) -> None:
        problems, taken = random_problems(2, [60, 60, 60], 12, 0.3), list[int]()

        def one_by_one() -> Iterator[Problem]:
            for number, problem in enumerate(problems):
                taken.append(number)
                yield problem

        answers = pursue_batch(one_by_one(), memory=135_000)
        next(answers)
        assert taken == [0, 1]


class TestBadInput:
    def test_no_problems(self) -> None:
        assert list(pursue_batch([])) == []

    def test_named(self) -> None:
        good, other = random_problems(0, [9], 4, 0.5)[0], random_problems(0, [9], 3, 0.5)[0]
        bad = Problem(np.where(np.arange(9)[:, None] == 4, np.nan, good.rows_ND), good.target_D, 2)
        with pytest.raises(CurationError, match=r"rows have \[3, 4\] numbers"):
            list(pursue_batch([good, other]))
        with pytest.raises(NonFiniteError, match=r"1 of 9 rows .* \(samples 4\)"):
            list(pursue_batch([good, bad]))
        with pytest.raises(BudgetError):
            list(pursue_batch([good, Problem(good.rows_ND, good.target_D, 10)]))
        with pytest.raises(CurationError, match="lam of 0 or more"):
            list(pursue_batch([good], lam=-1))
        with pytest.raises(CurationError, match="100 bytes of memory are too few: a problem of 9 rows"):
            list(pursue_batch([good], memory=100))
