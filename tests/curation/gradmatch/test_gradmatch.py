"""Grad-Match on the gradients of a softmax regression on the digits, against plain references."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from torch.nn import functional

from tamis.curation.errors import BudgetError, CurationError
from tamis.curation.gradmatch.gradients import KINDS, Kind, LastLayer, Matrix, Target
from tamis.curation.gradmatch.matching import match
from tamis.curation.gradmatch.result import Matched
from tamis.curation.omp.batched import pursue_batch
from tamis.curation.omp.processes import Pursuers
from tamis.curation.omp.solver import pursue_each
from tamis.curation.randomized import fixed_batches

LAM = 0.5
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
Digits = tuple[LastLayer, np.ndarray]


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def regression(steps: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels with a one, labels, and weights after a few steps of gradient descent on the first 1,200 digits."""
    images, labels = load_digits(return_X_y=True)
    inputs = np.concatenate([images / 16, np.ones((len(images), 1))], axis=1)
    weights = np.zeros((10, 65))
    for _ in range(steps):
        residuals = softmax(inputs[:1200] @ weights.T) - np.eye(10)[labels[:1200]]
        weights -= 0.5 * residuals.T @ inputs[:1200] / 1200
    return inputs, labels.astype(np.int64), weights


def layer(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> LastLayer:
    residuals = softmax(inputs @ weights.T) - np.eye(len(weights))[labels]
    return LastLayer(residuals.astype(np.float32), inputs[:, :-1].astype(np.float32))


@pytest.fixture(scope="module")
def digits() -> Digits:
    """The first 600 digits' gradients and labels."""
    inputs, labels, weights = regression()
    return layer(inputs[:600], labels[:600], weights), labels[:600]


@pytest.fixture(scope="module")
def validation() -> Digits:
    inputs, labels, weights = regression()
    return layer(inputs[1200:], labels[1200:], weights), labels[1200:]


@pytest.fixture(scope="module")
def pursuers() -> Iterator[Pursuers]:
    with Pursuers(2) as started:
        yield started


def run(given: Digits, seed: int = 0, **settings: Any) -> Matched:
    return match(
        *given, generator=np.random.default_rng(seed), **{"k": 60, "lam": LAM, "spare": 0.0, "batch_size": 8} | settings
    )


def written_out(gradients: LastLayer) -> np.ndarray:
    """All gradients, float64 [N, C, E + 1], by one outer product a sample."""
    residuals, features = gradients.residuals_NC.astype(float), gradients.features_NE.astype(float)
    return np.stack([np.outer(r, [*x, 1.0]) for r, x in zip(residuals, features, strict=True)])


def plain_pursuit(rows: np.ndarray, target: np.ndarray, k: int) -> float:
    """E after plain matching pursuit, every weight solved for anew at every pick."""
    support: list[int] = []
    weights = np.empty(0)
    while len(support) < k:
        correlation = rows @ (target - weights @ rows[support])
        correlation[support] = -np.inf
        if correlation.max() <= 1e-6 * (rows @ target).max():
            break
        support.append(int(correlation.argmax()))
        ridge = np.sqrt(LAM) * np.eye(len(support))
        weights, _ = nnls(np.vstack([rows[support].T, ridge]), np.append(target, np.zeros(len(support))))
        support = [row for row, weight in zip(support, weights, strict=True) if weight > 0]
        weights = weights[weights > 0]
    return objective(rows[support], target, weights)


def objective(rows: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    missing = weights @ rows - target
    return float(missing @ missing + LAM * (weights @ weights))


def problems(given: Digits, kind: Kind, seed: int = 0, against: Digits | None = None) -> list[Any]:
    """The problems of a kind as the paper states them: (the samples of each row, rows, target)."""
    gradients, labels = given
    rows = written_out(gradients)
    if kind == "batch":
        every = rows.reshape(len(rows), -1)
        batches = fixed_batches(len(rows), batch_size=8, generator=np.random.default_rng(seed))
        means = np.stack([every[batch].mean(axis=0) for batch in batches])
        target = means.sum(axis=0)
        if against is not None:
            target = written_out(against[0]).reshape(-1, means.shape[1]).mean(axis=0) * len(batches)
        return [(batches, means, target)]
    found = []
    for label in np.unique(labels):
        part = (slice(None), label) if kind == "class-gradient" else slice(None)
        samples = np.flatnonzero(labels == label)
        own = rows[samples][part].reshape(len(samples), -1)
        target = own.sum(axis=0)
        if against is not None:
            theirs = written_out(against[0])[against[1] == label][part]
            target = theirs.reshape(len(theirs), -1).mean(axis=0) * len(samples)
        found.append((samples[:, None], own, target))
    return found


def row_weights(matched: Matched, members: Any) -> np.ndarray:
    """The weight of each row: of its first chosen member, or 0."""
    weight = dict(zip(matched.samples.tolist(), matched.weights.tolist(), strict=True))
    return np.array([max(weight.get(int(sample), 0.0) for sample in row) for row in members])


class TestLastLayer:
    def test_the_closed_form_is_the_gradient(self) -> None:
        inputs, labels, weights = regression(3)
        gradients = layer(inputs[:7], labels[:7], weights)
        parameters = torch.tensor(weights, requires_grad=True)
        for i, row in enumerate(gradients.rows(np.arange(7))):
            logits = parameters @ torch.tensor(inputs[i])
            (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, torch.tensor(labels[i])), parameters)
            np.testing.assert_allclose(row, gradient.flatten(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("bias", [True, False])
    def test_sums_slices_and_correlations_are_those_of_the_rows(self, digits: Digits, bias: bool) -> None:
        gradients = LastLayer(digits[0].residuals_NC, digits[0].features_NE, bias)
        samples, weights = np.array([5, 0, 17, 300]), np.array([0.5, 2.0, 1.0, 3.0])
        rows = gradients.rows(samples)
        assert rows.shape == (4, gradients.width)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(gradients.total(samples), rows.sum(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradients.total(samples, weights), weights @ rows, rtol=1e-5, atol=1e-6)
        target = np.linspace(-1, 1, gradients.width)
        np.testing.assert_allclose(gradients.correlate(samples, target), rows @ target, rtol=1e-5, atol=1e-6)
        part = gradients.of_class(3)
        np.testing.assert_array_equal(part.rows(samples), rows.reshape(4, 10, -1)[:, 3])
        matrix = Matrix(gradients.rows(np.arange(600)))
        np.testing.assert_allclose(matrix.total(samples, weights), weights @ rows, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(matrix.correlate(samples, target), rows @ target, rtol=1e-5, atol=1e-6)
        assert gradients.correlate(samples[:0], target).shape == matrix.correlate(samples[:0], target).shape == (0,)

    def test_sums_over_many_samples(self) -> None:
        generator = np.random.default_rng(0)
        residuals = generator.standard_normal((9000, 2)).astype(np.float32)
        features = generator.standard_normal((9000, 3)).astype(np.float32)
        gradients, weights = LastLayer(residuals, features), generator.random(9000)
        rows = gradients.rows(np.arange(9000)).astype(float)
        np.testing.assert_allclose(gradients.total(np.arange(9000), weights), weights @ rows, rtol=1e-6)
        np.testing.assert_allclose(Matrix(gradients.rows(np.arange(9000))).total(np.arange(9000), weights),
                                   weights @ rows, rtol=1e-6)  # fmt: skip

    def test_other_shapes_and_types_are_refused(self) -> None:
        ok = np.ones((4, 3), np.float32)
        for residuals, features in ((ok, ok[:3]), (ok[:0], ok[:0]), (ok[0], ok), (ok.astype(float), ok)):
            with pytest.raises(CurationError, match=r"expected float32 \[N, C\]"):
                LastLayer(residuals, features)
        for matrix in (ok.astype(float), ok[0], ok[:, :0]):
            with pytest.raises(CurationError, match=r"expected float32 \[N, D\]"):
                Matrix(matrix)


@EVERY_KIND
@pytest.mark.parametrize("k", [10, 61, 160])
@pytest.mark.parametrize("against", [False, True])
def test_it_is_plain_matching_pursuit_of_the_stated_problems(
    digits: Digits, validation: Digits, kind: Kind, k: int, against: bool
) -> None:
    target = Target(*validation) if against else None
    matched = run(digits, k=k, kind=kind, target=target)
    stated = problems(digits, kind, against=validation if against else None)
    assert len(matched.problems) == len(stated)
    for problem, (members, rows, b) in zip(matched.problems, stated, strict=True):
        assert problem.target == pytest.approx(b @ b, rel=1e-5)
        assert problem.objective == pytest.approx(objective(rows, b, row_weights(matched, members)), rel=1e-3)
        picks = -(-k // 8) if kind == "batch" else problem.budget
        assert problem.objective == pytest.approx(plain_pursuit(rows, b, picks), rel=1e-3)
    assert matched.objective == pytest.approx(sum(problem.objective for problem in matched.problems))
    assert not matched.filled.any()


@EVERY_KIND
@pytest.mark.parametrize("k", [1, 9, 60, 599, 600])
@pytest.mark.parametrize("part_size", [1, 25, 1000])
def test_exactly_k_samples_each_once(digits: Digits, kind: Kind, k: int, part_size: int) -> None:
    matched = run(digits, k=k, kind=kind, part_size=part_size)
    assert matched.samples.dtype == np.int64
    assert matched.weights.dtype == np.float32
    assert len(set(matched.samples.tolist())) == len(matched.samples) == len(matched.weights) == k
    assert (matched.samples >= 0).all()
    assert (matched.samples < 600).all()
    assert (matched.weights > 0).all()
    assert np.isfinite(matched.weights).all()
    assert sum(problem.budget for problem in matched.problems) == k
    assert sum(problem.filled for problem in matched.problems) == matched.filled.sum()
    assert not (np.diff(matched.filled.astype(int)) < 0).any()
    choice, stats = matched.choice(), json.loads(json.dumps(matched.stats(), allow_nan=False))
    assert choice.samples is matched.samples
    assert choice.weights is matched.weights
    assert stats["objective"] == matched.objective
    assert stats["error"] == matched.error
    assert len(stats["problems"]) == len(matched.problems)


@EVERY_KIND
def test_what_is_trained_on_is_measured(digits: Digits, kind: Kind) -> None:
    """The error and the objective with filled samples and a cut batch are those of the weighted sum."""
    matched = run(digits, k=61, kind=kind, part_size=20)
    gradients, labels = digits
    if kind == "batch":
        total = gradients.total(matched.samples, matched.weights.astype(float)) / 8
        whole = gradients.total(np.arange(600)) / 8
        assert matched.error == pytest.approx(np.linalg.norm(total - whole) / np.linalg.norm(whole), rel=1e-4)
        return
    missing = square = 0.0
    for label in range(10):
        own = gradients.of_class(label) if kind == "class-gradient" else gradients
        chosen = labels[matched.samples] == label
        b = own.total(np.flatnonzero(labels == label))
        left = b - own.total(matched.samples[chosen], matched.weights[chosen].astype(float))
        problem = matched.problems[label]
        assert problem.missing == pytest.approx(left @ left, rel=1e-3)
        assert problem.trained == pytest.approx(left @ left + LAM * np.square(matched.weights[chosen]).sum(), rel=1e-3)
        missing, square = missing + left @ left, square + b @ b
    assert matched.error == pytest.approx(math.sqrt(missing / square), rel=1e-3)


@EVERY_KIND
def test_the_same_inputs_give_the_same_answer(digits: Digits, kind: Kind) -> None:
    one, two = (run(digits, seed=3, kind=kind, part_size=25) for _ in range(2))
    assert one.samples.tolist() == two.samples.tolist()
    assert one.weights.tolist() == two.weights.tolist()
    assert one.problems == two.problems


@EVERY_KIND
def test_inputs_are_left_as_they_were(digits: Digits, kind: Kind) -> None:
    residuals, features, labels = (a.copy() for a in (digits[0].residuals_NC, digits[0].features_NE, digits[1]))
    for array in (residuals, features, labels):
        array.flags.writeable = False
    assert len(run((LastLayer(residuals, features), labels), kind=kind).samples) == 60


@pytest.mark.parametrize("kind", ["class", "batch"])
def test_gradients_written_out_are_matched_alike(digits: Digits, kind: Kind) -> None:
    rows = digits[0].rows(np.arange(600))
    one, two = run(digits, kind=kind), match(
        rows, digits[1], k=60, kind=kind, lam=LAM, spare=0.0, batch_size=8, generator=np.random.default_rng(0)
    )  # fmt: skip
    assert two.samples.tolist() == one.samples.tolist()
    np.testing.assert_allclose(two.weights, one.weights, rtol=1e-3)


@pytest.mark.parametrize("part_size", [32768, 20])
@pytest.mark.parametrize("spare", [0.0, 0.3])
@EVERY_KIND
def test_who_solves_the_problems_does_not_change_the_answer(
    digits: Digits, pursuers: Pursuers, kind: Kind, spare: float, part_size: int
) -> None:
    here, processes, batch = (
        run(digits, kind=kind, spare=spare, part_size=part_size, pursue=pursue)
        for pursue in (pursue_each, pursuers.pursue, pursue_batch)
    )
    assert processes.samples.tolist() == here.samples.tolist() == batch.samples.tolist()
    np.testing.assert_allclose(processes.weights, here.weights, rtol=1e-5)  # the BLAS here may have more threads
    np.testing.assert_allclose(batch.weights, here.weights, rtol=1e-4)
    assert processes.objective == pytest.approx(here.objective, rel=1e-9)
    assert batch.objective == pytest.approx(here.objective, rel=1e-6)


class TestClasses:
    @pytest.mark.parametrize("kind", ["class", "class-gradient"])
    def test_budgets_are_shares_by_largest_remainder(self, digits: Digits, kind: Kind) -> None:
        gradients, labels = digits
        few = np.concatenate([np.flatnonzero(labels == 2)[:7], np.flatnonzero(labels == 9)[:30]])
        part = LastLayer(gradients.residuals_NC[few], gradients.features_NE[few])
        matched = run((part, labels[few]), k=8, kind=kind)
        assert [(p.label, p.samples, p.budget) for p in matched.problems] == [(2, 7, 2), (9, 30, 6)]  # 1.51 and 6.49
        assert labels[few][matched.samples].tolist() == [2, 9, 2, 9, 9, 9, 9, 9]

    def test_a_class_whose_share_is_nothing_stays_unmatched(self, digits: Digits) -> None:
        matched = run(digits, k=4, kind="class")
        without = [problem for problem in matched.problems if problem.budget == 0]
        assert len(without) == 6
        for problem in without:
            assert problem.stopped == "nothing"
            assert problem.objective == problem.trained == problem.missing == problem.target > 0

    def test_classes_do_not_see_each_other(self, digits: Digits) -> None:
        gradients, labels = digits
        own = np.flatnonzero(labels == 4)
        alone = run((LastLayer(gradients.residuals_NC[own], gradients.features_NE[own]), labels[own]), k=6)
        budget = next(problem.budget for problem in run(digits).problems if problem.label == 4)
        assert budget == 6
        together = run(digits)
        chosen = labels[together.samples] == 4
        assert together.samples[chosen].tolist() == own[alone.samples].tolist()
        assert together.weights[chosen].tolist() == alone.weights.tolist()


class TestBatches:
    @pytest.mark.parametrize("k", [1, 8, 20, 61])
    def test_whole_batches_of_one_weight_and_the_last_one_cut(self, digits: Digits, k: int) -> None:
        matched = run(digits, k=k, kind="batch", seed=4)
        batches = [b.tolist() for b in fixed_batches(600, batch_size=8, generator=np.random.default_rng(4))]
        samples, weights = matched.samples.tolist(), matched.weights.tolist()
        while samples:
            (batch,) = (batch for batch in batches if batch[0] == samples[0])
            assert samples[:8] == batch[: len(samples)]
            assert len(set(weights[:8])) == 1
            samples, weights = samples[8:], weights[8:]

    def test_a_short_batch_counts_as_the_less_that_it_is(self, digits: Digits) -> None:
        """With every batch chosen and no ridge, weights of 1 are the solution, also of the batch of 4."""
        few = LastLayer(digits[0].residuals_NC[:20], digits[0].features_NE[:20])
        matched = run((few, digits[1][:20]), k=20, kind="batch", lam=0.0)
        np.testing.assert_allclose(matched.weights, 1, rtol=1e-3)
        assert matched.error < 1e-3

    def test_another_batch_is_picked_where_a_short_one_was(self, digits: Digits) -> None:
        residuals = digits[0].residuals_NC[:20].copy()
        short = fixed_batches(20, batch_size=8, generator=np.random.default_rng(0))[2]
        residuals[short] *= 50  # so it comes first
        matched = run((LastLayer(residuals, digits[0].features_NE[:20]), digits[1][:20]), k=8, kind="batch", lam=0.0)
        assert matched.samples[:4].tolist() == short.tolist()
        assert len(set(matched.samples.tolist())) == 8
        assert len(set(matched.weights[4:].tolist())) == 1

    def test_labels_are_not_needed(self, digits: Digits, validation: Digits) -> None:
        matched = run((digits[0], None), kind="batch", target=Target(validation[0]))
        assert len(matched.samples) == 60


def with_residuals(given: Digits, change: Any) -> Digits:
    residuals = given[0].residuals_NC.copy()
    change(residuals)
    return LastLayer(residuals, given[0].features_NE), given[1]


class TestTheRest:
    """What fills a budget where fewer samples help."""

    def test_by_correlation_with_the_smallest_weight(self) -> None:
        """Worked by hand: b = (1.5, 0); only the first row helps, for the others are orthogonal or point away."""
        rows = np.array([[3, 0], [0, 1], [-1, 0], [0, -1], [-0.5, 0]], np.float32)
        matched = match(rows, np.zeros(5, np.int64), k=4, kind="class", lam=0.0, generator=np.random.default_rng(0))
        assert matched.samples.tolist() == [0, 1, 3, 4]  # correlations 4.5, 0, 0, -0.75; then sample 2 with -1.5
        assert matched.filled.tolist() == [False, True, True, True]
        np.testing.assert_allclose(matched.weights, 0.5, rtol=1e-5)
        (problem,) = matched.problems
        assert (problem.filled, problem.stopped) == (3, "optimal")
        assert problem.objective == pytest.approx(0, abs=1e-6)
        assert problem.trained == pytest.approx(0.25**2, rel=1e-4)
        assert matched.error == pytest.approx(0.25 / 1.5, rel=1e-4)

    def test_of_batches(self) -> None:
        rows = np.repeat(np.array([[3, 0], [0, 1], [-1, 0], [0, -1], [-0.5, 0]], np.float32), 2, axis=0)
        batches = fixed_batches(10, batch_size=2, generator=np.random.default_rng(6))
        placed = np.empty_like(rows)
        for number, batch in enumerate(batches):
            placed[batch] = rows[2 * number]
        matched = match(
            placed, None, k=7, kind="batch", lam=0.0, batch_size=2, generator=np.random.default_rng(6)
        )  # fmt: skip
        wanted = np.concatenate([batches[0], batches[1], batches[3], batches[4]])[:7]
        assert matched.samples.tolist() == wanted.tolist()
        assert matched.filled.tolist() == [False] * 2 + [True] * 5
        np.testing.assert_allclose(matched.weights, 0.5, rtol=1e-5)
        assert matched.problems[0].trained == pytest.approx(0.125**2, rel=1e-4)  # half of the last batch is cut

    @EVERY_KIND
    @pytest.mark.parametrize("part_size", [20, 1000])
    def test_gradients_of_zero(self, digits: Digits, kind: Kind, part_size: int) -> None:
        """A model that is sure and right everywhere: nothing to match, k samples of weight 1."""
        matched = run(with_residuals(digits, lambda r: r.fill(0)), kind=kind, part_size=part_size)
        assert len(set(matched.samples.tolist())) == 60
        assert matched.filled.all()
        assert set(matched.weights.tolist()) == {1.0}
        assert matched.objective == matched.error == 0
        json.dumps(matched.stats(), allow_nan=False)

    def test_one_class_of_zeros_among_others(self, digits: Digits) -> None:
        gradients, labels = with_residuals(digits, lambda r: r.__setitem__(digits[1] == 6, 0))
        matched = run((gradients, labels), kind="class")
        assert (matched.filled == (labels[matched.samples] == 6)).all()
        assert matched.filled.any()
        assert not matched.filled[0]

    @EVERY_KIND
    def test_duplicates(self, digits: Digits, kind: Kind) -> None:
        """Every digit five times: each copy counts as a sample, and none is chosen twice."""
        gradients, labels = digits
        again = np.tile(np.arange(60), 5)
        copies = LastLayer(gradients.residuals_NC[again], gradients.features_NE[again])
        for lam in (0.0, LAM):
            matched = run((copies, labels[again]), k=290, kind=kind, lam=lam)
            assert len(set(matched.samples.tolist())) == 290
            assert (matched.weights > 0).all()
            assert np.isfinite(matched.weights).all()


class TestTwoLevels:
    @pytest.mark.parametrize("kind", ["class", "class-gradient"])
    def test_the_objective_is_that_of_the_whole_problem(self, digits: Digits, kind: Kind) -> None:
        matched = run(digits, kind=kind, part_size=16)
        for problem, (members, rows, b) in zip(matched.problems, problems(digits, kind), strict=True):
            assert problem.objective == pytest.approx(objective(rows, b, row_weights(matched, members)), rel=1e-3)

    @pytest.mark.parametrize("kind", ["class", "class-gradient"])
    @pytest.mark.parametrize("k", [60, 120])
    def test_little_is_lost(self, digits: Digits, kind: Kind, k: int) -> None:
        """Four parts in place of one: 1.02 to 1.17 times the objective over five seeds, .97 to 1.05 at surplus 4."""
        one, two = run(digits, k=k, kind=kind), run(digits, k=k, kind=kind, part_size=16)
        assert one.samples.tolist() != two.samples.tolist()
        assert two.objective < 1.3 * one.objective
        wider = run(digits, k=k, kind=kind, part_size=16, surplus=4.0)
        assert wider.objective < 1.15 * one.objective

    def test_parts_that_hand_on_everything_lose_nothing(self, digits: Digits) -> None:
        one, two = run(digits, k=400, kind="class"), run(digits, k=400, kind="class", part_size=16)
        assert one.samples.tolist() == two.samples.tolist()
        assert one.objective == two.objective

    def test_batches_in_parts(self, digits: Digits) -> None:
        one, two = run(digits, k=160, kind="batch"), run(digits, k=160, kind="batch", part_size=20)
        assert len(set(two.samples.tolist())) == 160
        assert one.objective * 0.9 < two.objective < 1.5 * one.objective


class TestNonFinite:
    @EVERY_KIND
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_they_are_named_and_left_out(self, digits: Digits, kind: Kind, bad: float) -> None:
        residuals, features = digits[0].residuals_NC.copy(), digits[0].features_NE.copy()
        residuals[5, 2], features[77, 0], residuals[599] = bad, bad, bad
        matched = run((LastLayer(residuals, features), digits[1]), k=597, kind=kind)
        assert matched.excluded.tolist() == [5, 77, 599]
        assert matched.choice().excluded == 3
        assert set(matched.samples.tolist()) == set(range(600)) - {5, 77, 599}
        with pytest.raises(CurationError, match=r"only 597 of 600 .* \(3 are NaN or infinite: samples 5, 77, 599\)"):
            run((LastLayer(residuals, features), digits[1]), k=598, kind=kind)

    def test_batches_keep_the_rest_of_their_members(self, digits: Digits) -> None:
        clean = run(digits, kind="batch", k=600)
        broken = run(with_residuals(digits, lambda r: r[5].fill(np.nan)), kind="batch", k=599)
        partition = [set(b.tolist()) for b in fixed_batches(600, batch_size=8, generator=np.random.default_rng(0))]
        for matched in (clean, broken):
            weight = dict(zip(matched.samples.tolist(), matched.weights.tolist(), strict=True))
            assert all(len({weight[s] for s in batch if s in weight}) == 1 for batch in partition)

    @EVERY_KIND
    def test_in_the_validation_set(self, digits: Digits, validation: Digits, kind: Kind) -> None:
        broken = with_residuals(validation, lambda r: r[[3, 8]].fill(np.nan) or r.__setitem__([3, 8], np.nan))
        keep = np.setdiff1d(np.arange(len(validation[1])), [3, 8])
        left = LastLayer(validation[0].residuals_NC[keep], validation[0].features_NE[keep]), validation[1][keep]
        one, two = run(digits, kind=kind, target=Target(*broken)), run(digits, kind=kind, target=Target(*left))
        assert one.excluded_target == 2
        assert one.samples.tolist() == two.samples.tolist()
        np.testing.assert_allclose(one.weights, two.weights, rtol=1e-4)

    def test_nothing_but_nan(self, digits: Digits, validation: Digits) -> None:
        with pytest.raises(CurationError, match=r"samples 0, 1, .*9, \.\.\."):
            run(with_residuals(digits, lambda r: r.fill(np.nan)), k=1)
        with pytest.raises(CurationError, match="nothing to match"):
            run(digits, target=Target(*with_residuals(validation, lambda r: r.fill(np.nan))))


class TestBadInput:
    @EVERY_KIND
    @pytest.mark.parametrize("k", [0, -1, 601, 2.5, "3", True])
    def test_a_budget_out_of_range(self, digits: Digits, kind: Kind, k: Any) -> None:
        with pytest.raises(BudgetError, match="expected"):
            run(digits, k=k, kind=kind)

    @EVERY_KIND
    @pytest.mark.parametrize(
        "bad", [{"lam": -0.1}, {"lam": math.nan}, {"tolerance": -1.0}, {"tolerance": 1.5}, {"part_size": 0},
                {"surplus": 0.5}, {"surplus": math.inf}]
    )  # fmt: skip
    def test_parameters_out_of_range(self, digits: Digits, kind: Kind, bad: dict[str, float]) -> None:
        with pytest.raises(CurationError, match=f"{next(iter(bad))} is .*expected"):
            run(digits, kind=kind, **bad)

    def test_a_batch_size_of_nothing(self, digits: Digits) -> None:
        with pytest.raises(CurationError, match="batch_size is 0"):
            run(digits, kind="batch", batch_size=0)

    def test_an_unknown_kind(self, digits: Digits) -> None:
        with pytest.raises(CurationError, match="'classes'; expected one of: class, class-gradient, batch"):
            run(digits, kind="classes")

    def test_a_matrix_has_no_slices(self, digits: Digits) -> None:
        with pytest.raises(CurationError, match="needs a LastLayer"):
            run((digits[0].rows(np.arange(600)), digits[1]), kind="class-gradient")

    def test_labels_that_do_not_fit(self, digits: Digits) -> None:
        gradients, labels = digits
        for wrong, said in (
            (None, "needs the labels"), (labels[:-1], "one integer for each of the 600"),
            (labels.astype(float), "one integer"), (labels + 1, "expected 0 to 9"), (labels - 1, "expected 0 to 9"),
        ):  # fmt: skip
            with pytest.raises(CurationError, match=said):
                run((gradients, wrong))

    def test_targets_that_do_not_fit(self, digits: Digits, validation: Digits) -> None:
        gradients, labels = validation
        some = labels != 3
        few = LastLayer(gradients.residuals_NC[some], gradients.features_NE[some])
        narrow = LastLayer(gradients.residuals_NC, gradients.features_NE[:, :9])
        for wrong, said in (
            (Target(few, labels[some]), "no usable sample of class 3"),
            (Target(gradients), "needs the validation labels"),
            (Target(narrow, labels), "LastLayer of 100 numbers; expected LastLayer of 650"),
            (Target(gradients.rows(np.arange(9)), labels[:9]), "Matrix of 650 numbers; expected LastLayer"),
        ):  # fmt: skip
            with pytest.raises(CurationError, match=said):
                run(digits, target=wrong)

    def test_too_little_memory(self, digits: Digits) -> None:
        with pytest.raises(CurationError, match="memory are too few"):
            run(digits, kind="class", memory=1000)
