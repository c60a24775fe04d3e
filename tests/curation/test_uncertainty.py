"""Confidence, margin and entropy from logits (equations 1 to 3), and the choice by them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tamis.curation.contract import Inputs
from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.ranking import top_k
from tamis.curation.uncertainty import MEASURES, confidence, entropy, margin, select_uncertain

NAN, INF = math.nan, math.inf
LOGITS = hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 8)), elements=st.floats(-40, 40, width=32))
EVERY_MEASURE = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def logits(*rows: list[float], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)


class TestByHand:
    P = (0.7, 0.2, 0.1)

    def values(self, shift: float = 0.0) -> list[float]:
        z = logits([math.log(p) + shift for p in self.P])
        return [float(measure(z)) for measure in (confidence, margin, entropy)]

    @pytest.mark.parametrize("shift", [0.0, 5.0, -700.0, 700.0])
    def test_a_distribution(self, shift: float) -> None:
        # 1 - .7;  1 - (.7 - .2);  .7 log(1/.7) + .2 log 5 + .1 log 10
        h = 0.7 * math.log(1 / 0.7) + 0.2 * math.log(5) + 0.1 * math.log(10)
        assert h == pytest.approx(0.801818552543)
        assert self.values(shift) == pytest.approx([0.3, 0.5, h], abs=1e-12)

    def test_evens_over_two_of_four_classes(self) -> None:
        z = logits([1.0, -INF, 1.0, -INF])
        assert float(confidence(z)) == 0.5
        assert float(margin(z)) == 1.0
        assert float(entropy(z)) == pytest.approx(math.log(2), abs=1e-15)

    @pytest.mark.parametrize("classes", [2, 3, 10, 1000])
    def test_evens_over_all_classes_is_the_most_uncertain(self, classes: int) -> None:
        z = torch.full((1, classes), 3.25)
        assert float(confidence(z)) == pytest.approx(1 - 1 / classes, abs=1e-15)
        assert float(margin(z)) == 1.0
        assert float(entropy(z)) == pytest.approx(math.log(classes), abs=1e-12)

    def test_two_classes_are_the_logistic_function(self) -> None:
        p = 1 / (1 + math.exp(-1.5))
        z = logits([0.0, 1.5])
        assert float(confidence(z)) == pytest.approx(1 - p, abs=1e-15)
        assert float(margin(z)) == pytest.approx(2 * (1 - p), abs=1e-15)
        assert float(entropy(z)) == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=1e-15)


class TestAnyLogits:
    def test_no_digit_is_lost_where_p1_rounds_to_one(self) -> None:
        # exp(-50) is 1.9e-22: 1 - p1 in doubles is 0, and so would be the order of these two.
        z = logits([50.0, 0.0], [60.0, 0.0])
        tiny = [math.exp(-50), math.exp(-60)]
        assert confidence(z).tolist() == pytest.approx(tiny, rel=1e-12)
        assert margin(z).tolist() == pytest.approx([2 * t for t in tiny], rel=1e-12)
        assert entropy(z).tolist() == pytest.approx(
            [t * (1 + d) for t, d in zip(tiny, (50, 60), strict=True)], rel=1e-9
        )

    @EVERY_MEASURE
    @pytest.mark.parametrize(
        "row", [[1e30, -1e30, 0.0], [1e308, -1e308, -1e308], [0.0, -800.0, -INF], [5.0, -INF, -INF]]
    )
    def test_an_underflowing_softmax_is_certain_not_nan(self, measure, row: list[float]) -> None:
        # The authors' entropy is NaN here, which they then rank as the most uncertain.
        assert measure(logits(row)).tolist() == [0.0]

    @EVERY_MEASURE
    @pytest.mark.parametrize(
        "row", [[NAN, 0.0], [0.0, NAN], [INF, 0.0], [INF, -INF], [INF, INF], [NAN, INF], [-INF, -INF]]
    )
    def test_a_row_without_a_distribution_is_nan_and_only_it(self, measure, row: list[float]) -> None:
        values = measure(logits([0.0, 0.0], row, [1.0, 0.0]))
        assert values.isnan().tolist() == [False, True, False]

    @EVERY_MEASURE
    @given(z=LOGITS, shift=st.floats(-1e3, 1e3))
    def test_a_shift_changes_nothing(self, measure, z: np.ndarray, shift: float) -> None:
        plain, shifted = measure(torch.from_numpy(z)), measure(torch.from_numpy(z + shift))
        torch.testing.assert_close(plain, shifted, rtol=1e-9, atol=1e-300)

    @EVERY_MEASURE
    @given(z=LOGITS, data=st.data())
    def test_the_order_of_the_classes_does_not_matter(self, measure, z: np.ndarray, data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(z.shape[1])))
        torch.testing.assert_close(
            measure(torch.from_numpy(z)), measure(torch.from_numpy(z[:, order])), rtol=1e-12, atol=0.0
        )

    @given(z=LOGITS)
    def test_bounds(self, z: np.ndarray) -> None:
        rows, classes = torch.from_numpy(z), z.shape[1]
        for measure, most in ((confidence, 1 - 1 / classes), (margin, 1.0), (entropy, math.log(classes))):
            values = measure(rows)
            assert ((values >= 0) & (values <= most * (1 + 1e-14))).all()
        assert (margin(rows) >= confidence(rows)).all()

    @given(z=LOGITS)
    def test_agrees_with_the_equations_as_written(self, z: np.ndarray) -> None:
        rows = torch.from_numpy(z)
        p = rows.softmax(dim=1)
        first, second = p.topk(2, dim=1).values.unbind(dim=1)
        torch.testing.assert_close(confidence(rows), 1 - first, rtol=0, atol=1e-13)
        torch.testing.assert_close(margin(rows), 1 - (first - second), rtol=0, atol=1e-13)
        torch.testing.assert_close(entropy(rows), -torch.xlogy(p, p).sum(dim=1), rtol=0, atol=1e-13)

    @EVERY_MEASURE
    def test_a_sample_scores_alike_in_any_batch(self, measure) -> None:
        z = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
        alone = torch.cat([measure(row[None]) for row in z])
        torch.testing.assert_close(measure(z), alone, rtol=1e-14, atol=0.0)


class TestTensors:
    @EVERY_MEASURE
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_any_float_is_measured_in_double_precision_on_a_cpu(self, measure, dtype: torch.dtype) -> None:
        z = logits([0.5, -1.25, 2.0], dtype=dtype)
        values = measure(z)
        assert values.dtype == torch.float64
        assert values.shape == (1,)
        assert values.tolist() == measure(z.double()).tolist()

    @EVERY_MEASURE
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self, measure) -> None:
        z = torch.randn(256, 10, generator=torch.Generator().manual_seed(0))
        z[0, :3] = torch.tensor([1e30, -1e30, -INF])
        z[1, 0], z[2, 0], z[3, :] = NAN, INF, -INF
        for given_logits, dtype, tolerance in ((z, torch.float32, 1e-5), (z.double(), torch.float64, 1e-12)):
            values = measure(given_logits.cuda())
            assert values.is_cuda
            assert values.dtype == dtype
            torch.testing.assert_close(values.cpu().double(), measure(z), rtol=tolerance, atol=1e-30, equal_nan=True)

    @EVERY_MEASURE
    def test_neither_changes_its_input_nor_keeps_a_graph(self, measure) -> None:
        z = logits([1.0, 2.0]).requires_grad_()
        assert not measure(z).requires_grad
        assert z.tolist() == [[1.0, 2.0]]

    @EVERY_MEASURE
    def test_no_rows_give_no_values(self, measure) -> None:
        assert measure(torch.zeros(0, 3)).tolist() == []

    @EVERY_MEASURE
    @pytest.mark.parametrize(
        "bad", [torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(3, 1), torch.zeros(2, 3, dtype=torch.int64), [[0.5]]]
    )
    def test_what_is_no_matrix_of_logits_is_refused(self, measure, bad: torch.Tensor) -> None:
        with pytest.raises(CurationError, match="at least two classes"):
            measure(bad)


class TestSelection:
    SCORES = np.array([[0.1, 0.9, 0.5, 0.7, 0.3], [0.2, 0.6, 0.9, 0.8, 0.1]])
    LABELS = np.array([0, 0, 0, 1, 1])

    def select(self, scores: np.ndarray, k: int, correct: np.ndarray | None = None, **parameters: bool):
        inputs = Inputs(5, self.LABELS, np.asarray(scores, dtype=np.float64), correct)
        return select_uncertain(inputs, k=k, generator=np.random.default_rng(0), **parameters)

    def test_one_proxy(self) -> None:
        choice = self.select(self.SCORES[:1], 3)
        assert choice.samples.tolist() == [1, 3, 2]
        assert choice.scores is not None
        assert choice.scores.tolist() == [0.9, 0.7, 0.5]
        assert choice.excluded == 0

    def test_two_proxies_by_mean_rank(self) -> None:
        # Ranks 1 5 3 4 2 and 2 3 5 4 1: means 1.5 4 4 4 1.5. Ties go to the lower sample.
        choice = self.select(self.SCORES, 4)
        assert choice.samples.tolist() == [1, 2, 3, 0]
        assert choice.scores is not None
        assert choice.scores.tolist() == [4.0, 4.0, 4.0, 1.5]

    def test_per_class(self) -> None:
        # Classes of three and two samples share two: 1.2 and .8.
        assert self.select(self.SCORES[:1], 2, per_class=True).samples.tolist() == [1, 3]
        assert self.select([[0.9, 0.8, 0.7, 0.2, 0.1]], 2, per_class=True).samples.tolist() == [0, 3]

    def test_only_what_every_proxy_predicted_correctly(self) -> None:
        correct = np.array([[True, True, True, False, True], [True, False, True, True, True]])
        # Left are 0, 2 and 4, with ranks 1 3 2 and 2 3 1 among themselves.
        choice = self.select(self.SCORES, 3, correct, correct_only=True)
        assert choice.samples.tolist() == [2, 0, 4]
        assert choice.scores is not None
        assert choice.scores.tolist() == [3.0, 1.5, 1.5]
        assert choice.excluded == 0

    def test_too_few_were_predicted_correctly(self) -> None:
        correct = np.array([[True, True, False, False, False]])
        with pytest.raises(BudgetError, match=r"only 2 candidates .* every proxy predicted correctly"):
            self.select(self.SCORES[:1], 3, correct, correct_only=True)

    def test_scores_that_are_not_finite_are_left_out_and_counted(self) -> None:
        scores = np.array([[0.1, NAN, 0.5, 0.7, 0.3], [0.2, 0.6, INF, 0.8, 0.1]])
        choice = self.select(scores, 3)  # left are 0, 3 and 4, with ranks 1 3 2 and 2 3 1
        assert choice.samples.tolist() == [3, 0, 4]
        assert choice.excluded == 2
        with pytest.raises(BudgetError, match=r"only 3 candidates have finite scores \(2 have"):
            self.select(scores, 4)

    def test_what_was_predicted_wrongly_is_still_counted_as_excluded(self) -> None:
        correct = np.array([[True, False, True, False, True]])
        choice = self.select([[0.1, NAN, NAN, 0.7, 0.3]], 2, correct, correct_only=True)
        assert choice.samples.tolist() == [4, 0]
        assert choice.excluded == 2

    def test_quotas_are_shares_of_the_candidates_left(self) -> None:
        # With 1 and 2 gone the classes have one and two candidates, and share two: .67 and 1.33.
        choice = self.select([[0.9, NAN, NAN, 0.2, 0.1]], 2, per_class=True)
        assert choice.samples.tolist() == [0, 3]

    @pytest.mark.parametrize(
        ("inputs", "parameters", "missing"),
        [
            (Inputs(2), {}, "scores"),
            (Inputs(2, scores_MN=np.zeros((1, 2))), {"per_class": True}, "labels"),
            (Inputs(2, scores_MN=np.zeros((1, 2))), {"correct_only": True}, "correctness"),
        ],
    )
    def test_a_missing_input_is_named(self, inputs: Inputs, parameters: dict[str, bool], missing: str) -> None:
        with pytest.raises(CurationError, match=f"needs the {missing}"):
            select_uncertain(inputs, k=1, generator=np.random.default_rng(0), **parameters)

    @EVERY_MEASURE
    def test_from_logits_to_the_surest_last(self, measure) -> None:
        z = logits([9.0, 0.0, 0.0], [1.0, 1.0, 1.0], [800.0, 0.0, -INF], [2.0, 1.0, 0.0])
        assert top_k(measure(z).numpy(), 4).tolist() == [1, 3, 0, 2]
