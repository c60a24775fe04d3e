"""Rankings: order and ties, quotas, ranks, their combination, their correlation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tamis.curation.errors import BudgetError, CurationError, NonFiniteError
from tamis.curation.ranking import (
    combine_ranks,
    pearson,
    rank_correlation,
    ranks,
    spearman,
    top_k,
    top_k_per_class,
)

# Few distinct values, so that ties are the rule; both zeros, which are equal.
TIED = hnp.arrays(np.float32, st.integers(1, 60), elements=st.sampled_from([-1.5, -0.0, 0.0, 2.0, 2.0**127]))
ANY = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(allow_nan=False, allow_infinity=False))
SCORES = st.one_of(TIED, ANY)


def by_score_then_sample(scores: np.ndarray) -> list[int]:
    return sorted(range(len(scores)), key=lambda sample: (-float(scores[sample]), sample))


class TestTopK:
    def test_worked_by_hand(self) -> None:
        scores = np.array([0.2, 0.9, 0.5, 0.9, 0.5, 0.5])
        assert top_k(scores, 1).tolist() == [1]
        assert top_k(scores, 3).tolist() == [1, 3, 2]  # of the three at .5 the lowest sample gets in
        assert top_k(scores, 6).tolist() == [1, 3, 2, 4, 5, 0]

    @given(scores=SCORES, data=st.data())
    def test_is_the_beginning_of_the_full_order(self, scores: np.ndarray, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, len(scores)))
        chosen = top_k(scores, k)
        assert chosen.dtype == np.int64
        assert chosen.tolist() == by_score_then_sample(scores)[:k]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8, np.int64, np.bool_])
    def test_takes_any_real_numbers(self, dtype: type) -> None:
        assert top_k(np.array([0, 1, 0, 1], dtype=dtype), 3).tolist() == [1, 3, 0]

    def test_leaves_its_input_as_it_was(self) -> None:
        scores = np.array([3.0, 1.0, 2.0])
        scores.flags.writeable = False
        top_k(scores, 2)

    def test_strided_scores(self) -> None:
        assert top_k(np.arange(10.0)[::-2], 2).tolist() == [0, 1]

    @pytest.mark.parametrize("k", [0, -1, 4, 2.0])
    def test_a_budget_out_of_range_is_refused(self, k: int) -> None:
        with pytest.raises(BudgetError, match="expected"):
            top_k(np.array([3.0, 1.0, 2.0]), k)

    def test_nan_and_infinity_are_refused_counted_and_named(self) -> None:
        scores = np.zeros(100)
        scores[[3, 5, 8, 13, 21, 34]] = np.nan
        scores[55], scores[89] = np.inf, -np.inf
        with pytest.raises(NonFiniteError, match=r"8 of 100 scores .* \(samples 3, 5, 8, 13, 21, \.\.\.\)") as error:
            top_k(scores, 1)
        assert error.value.count == 8
        assert error.value.samples == (3, 5, 8, 13, 21)

    @pytest.mark.parametrize("scores", [np.zeros((2, 2)), np.array(["a"]), np.array([1j]), np.zeros(0), 3.0])
    def test_what_is_no_list_of_numbers_is_refused(self, scores: object) -> None:
        with pytest.raises(CurationError, match="expected"):
            top_k(scores, 1)


class TestTopKPerClass:
    EIGHT = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    LABELS = np.array([1, 1, 1, 1, 0, 0, 7, 7])

    def test_worked_by_hand(self) -> None:
        # Shares of four samples among classes of 2, 4 and 2: 1, 2 and 1.
        assert top_k_per_class(self.EIGHT, self.LABELS, 4).tolist() == [0, 1, 4, 6]
        assert top_k(self.EIGHT, 4).tolist() == [0, 1, 2, 3]

    def test_explicit_quotas(self) -> None:
        assert top_k_per_class(self.EIGHT, self.LABELS, {7: 2, 1: 1}).tolist() == [0, 6, 7]
        assert top_k_per_class(self.EIGHT, self.LABELS, {7: 0, 0: 1, 99: 0}).tolist() == [4]

    @pytest.mark.parametrize("quotas", [{1: 5}, {3: 1}, {1: -1}, {1: True, 0: 1.5}, {}, {1: 0}])
    def test_quotas_that_cannot_be_met_are_refused(self, quotas: dict[int, int]) -> None:
        with pytest.raises(BudgetError, match="expected"):
            top_k_per_class(self.EIGHT, self.LABELS, quotas)

    @pytest.mark.parametrize("k", [0, 9, -1])
    def test_a_budget_out_of_range_is_refused(self, k: int) -> None:
        with pytest.raises(BudgetError, match="expected"):
            top_k_per_class(self.EIGHT, self.LABELS, k)

    @pytest.mark.parametrize("labels", [np.zeros(7, np.int64), np.zeros(8), np.zeros((8, 1), np.int64)])
    def test_labels_of_another_shape_or_type_are_refused(self, labels: np.ndarray) -> None:
        with pytest.raises(CurationError, match="labels"):
            top_k_per_class(self.EIGHT, labels, 1)

    @pytest.mark.parametrize("labels", [[-5, 2**40, -5], [-(2**62), 2**62, -(2**62)], [-128, 127, -128]])
    def test_labels_far_apart(self, labels: list[int]) -> None:
        assert top_k_per_class(np.array([1.0, 2.0, 3.0]), np.array(labels), 2).tolist() == [2, 1]

    def test_narrow_labels_do_not_overflow(self) -> None:
        labels = np.array([-128, 127, -128], np.int8)
        assert top_k_per_class(np.array([1.0, 2.0, 3.0]), labels, {-128: 1}).tolist() == [2]

    @given(scores=SCORES, data=st.data())
    def test_the_best_of_each_class_in_the_common_order(self, scores: np.ndarray, data: st.DataObject) -> None:
        labels = data.draw(hnp.arrays(np.int64, len(scores), elements=st.sampled_from([-70_000, 0, 1, 2])))
        k = data.draw(st.integers(1, len(scores)))
        chosen = top_k_per_class(scores, labels, k).tolist()
        order = by_score_then_sample(scores)
        assert len(chosen) == k
        assert chosen == [sample for sample in order if sample in set(chosen)]
        for label in set(labels.tolist()):
            members = [sample for sample in order if labels[sample] == label]
            mine = [sample for sample in chosen if labels[sample] == label]
            assert mine == members[: len(mine)]
            assert abs(len(mine) - k * len(members) / len(scores)) < 1

    @given(scores=SCORES, data=st.data())
    def test_one_class_is_no_constraint(self, scores: np.ndarray, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, len(scores)))
        labels = np.full(len(scores), 3)
        assert top_k_per_class(scores, labels, k).tolist() == top_k(scores, k).tolist()


class TestRanks:
    def test_worked_by_hand(self) -> None:
        assert ranks(np.array([10.0, 30.0, 20.0])).tolist() == [1, 3, 2]
        assert ranks(np.array([5.0, 7.0, 5.0, 1.0, 5.0])).tolist() == [3, 5, 3, 1, 3]
        assert ranks(np.array([4.0, 4.0])).tolist() == [1.5, 1.5]

    @given(scores=SCORES)
    def test_counts_what_is_below_and_half_of_what_is_equal(self, scores: np.ndarray) -> None:
        below = (scores[None, :] < scores[:, None]).sum(axis=1)
        equal = (scores[None, :] == scores[:, None]).sum(axis=1)
        assert ranks(scores).tolist() == (below + (equal + 1) / 2).tolist()

    def test_nothing_or_nan_is_refused(self) -> None:
        with pytest.raises(CurationError, match="at least one"):
            ranks([])
        with pytest.raises(NonFiniteError, match="1 of 2"):
            ranks([np.nan, 1.0])


class TestCombineRanks:
    def test_worked_by_hand(self) -> None:
        # The second model's scores are on another scale; only its order counts. Ranks 1 3 2 and 2 3 1.
        assert combine_ranks([[0.1, 0.9, 0.5], [20.0, 900.0, -3.0]]).tolist() == [1.5, 3.0, 1.5]

    def test_one_model_keeps_its_order(self) -> None:
        assert combine_ranks([[0.3, 0.1, 0.3]]).tolist() == [2.5, 1.0, 2.5]

    @given(scores=hnp.arrays(np.float64, (3, 20), elements=st.floats(-1e6, 1e6)))
    def test_the_order_of_the_models_does_not_matter(self, scores: np.ndarray) -> None:
        combined = combine_ranks(scores)
        assert combined.tolist() == combine_ranks(scores[::-1]).tolist()
        assert combined.sum() == pytest.approx(20 * 21 / 2)

    @pytest.mark.parametrize("scores", [[1.0, 2.0], np.zeros((0, 3)), np.zeros((1, 0)), 1.0])
    def test_what_is_no_row_for_each_model_is_refused(self, scores: object) -> None:
        with pytest.raises(CurationError, match="expected"):
            combine_ranks(scores)


class TestCorrelation:
    def test_pearson_worked_by_hand(self) -> None:
        # Deviations (-1, 0, 1) and (-1, -1, 2): products 1 + 0 + 2 = 3, lengths sqrt 2 and sqrt 6.
        assert pearson([1, 2, 3], [1, 1, 4]) == pytest.approx(3 / np.sqrt(12), abs=1e-15)
        assert pearson([1, 2, 3], [-2, -4, -6]) == pytest.approx(-1, abs=1e-15)
        assert pearson([0, 1, 0, -1], [1, 0, -1, 0]) == pytest.approx(0, abs=1e-15)

    def test_spearman_worked_by_hand(self) -> None:
        # Without ties 1 - 6 sum d^2 / (n (n^2 - 1)); ranks 1 2 3 4 5 and 2 1 4 3 5: sum d^2 = 4.
        assert spearman([1, 2, 3, 4, 5], [20, 1, 400, 300, 5e5]) == pytest.approx(1 - 24 / 120, abs=1e-15)
        # With a tie: ranks 1.5 1.5 3 and 1 2 3, deviations (-.5, -.5, 1) and (-1, 0, 1).
        assert spearman([7, 7, 9], [1, 2, 3]) == pytest.approx(1.5 / np.sqrt(3), abs=1e-15)
        assert spearman([1, 2, 3], [1, 8, 27]) == pytest.approx(1, abs=1e-15)

    def test_agrees_with_scipy(self) -> None:
        stats = pytest.importorskip("scipy.stats")
        a, b = np.random.default_rng(7).normal(size=(2, 500)).round(1)  # rounded, for ties
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert ranks(a).tolist() == stats.rankdata(a).tolist()

    @pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
    def test_neither_overflows_nor_underflows(self, scale: float) -> None:
        assert pearson(np.array([1, 2, 3]) * scale, [1, 1, 4]) == pytest.approx(3 / np.sqrt(12))

    def test_keeps_the_digits_of_values_that_differ_little(self) -> None:
        assert pearson(2.0**40 + np.array([1, 2, 3]) / 1024, [1, 1, 4]) == pytest.approx(3 / np.sqrt(12))

    @given(
        a=hnp.arrays(np.float64, 12, elements=st.floats(-1e9, 1e9), unique=True),
        b=hnp.arrays(np.float64, 12, elements=st.floats(-1e9, 1e9), unique=True),
    )
    def test_is_symmetric_and_bounded(self, a: np.ndarray, b: np.ndarray) -> None:
        for correlation in (pearson, spearman):
            assert -1 <= correlation(a, b) <= 1
            assert correlation(a, b) == pytest.approx(correlation(b, a), abs=1e-12)
            assert correlation(a, a) == pytest.approx(1)
            assert correlation(a, -b) == pytest.approx(-correlation(a, b), abs=1e-12)

    @pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0, 2.0, 3.0]), ([1.0], [1.0]), ([2.0, 2.0], [1.0, 3.0])])
    def test_no_correlation_exists(self, a: list[float], b: list[float]) -> None:
        for correlation in (pearson, spearman):
            with pytest.raises(CurationError, match="expected"):
                correlation(a, b)

    def test_nan_is_refused(self) -> None:
        with pytest.raises(NonFiniteError, match="1 of 2 second values"):
            pearson([1.0, 2.0], [np.nan, 1.0])

    def test_rank_correlation_worked_by_hand(self) -> None:
        # Ranks 1 2 3, 1 2 3 and 2 3 1: deviations (-1, 0, 1) and (0, 1, -1), product -1, lengths sqrt 2.
        scores = [[0.1, 0.2, 0.3], [1.0, 50.0, 51.0], [5.0, 6.0, 4.0]]
        expected = [[1, 1, -0.5], [1, 1, -0.5], [-0.5, -0.5, 1]]
        np.testing.assert_allclose(rank_correlation(scores), expected, atol=1e-15)

    def test_rank_correlation_is_spearman_of_every_pair(self) -> None:
        scores = np.random.default_rng(3).normal(size=(4, 50)).round(1)
        table = rank_correlation(scores)
        assert np.diag(table).tolist() == [1, 1, 1, 1]
        assert (table == table.T).all()
        for i in range(4):
            for j in range(4):
                assert table[i, j] == pytest.approx(spearman(scores[i], scores[j]), abs=1e-12)

    def test_combining_noisy_models_comes_nearer_to_the_truth(self) -> None:
        # What figure 3 shows: the combination of two small models correlates more than either of them.
        generator = np.random.default_rng(0)
        target = generator.normal(size=2000)
        small = target + generator.normal(size=(2, 2000))
        combined = spearman(combine_ranks(small), target)
        assert combined > max(spearman(small[0], target), spearman(small[1], target))
