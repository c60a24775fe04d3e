"""Predictors of losses: cases by hand, scikit-learn's Gaussian process as the oracle, epochs without a loss."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from tamis.curation import CurationError
from tamis.curation.selective.predictors import (
    PREDICTORS,
    Kernel,
    crossings,
    fit_kernel,
    predict_average,
    predict_last,
    predict_process,
)

NAN = np.nan
HISTORY = np.array([[4.0, NAN, 1.0, NAN], [2.0, 3.0, NAN, NAN], [NAN, 5.0, NAN, np.inf]])
KERNEL = Kernel(signal=2.0, length=3.0, noise=0.1)


def test_last() -> None:
    np.testing.assert_array_equal(predict_last(HISTORY), [2, 5, 1, NAN])


def test_average() -> None:
    """Of 4 and 2 with alpha 1/4: 4 + (2 - 4)/4."""
    np.testing.assert_array_equal(predict_average(HISTORY, alpha=0.25), [3.5, 3.5, 1, NAN])
    np.testing.assert_array_equal(predict_average(HISTORY, alpha=1), predict_last(HISTORY))


def oracle(epochs: np.ndarray, losses: np.ndarray, at: float) -> float:
    form = ConstantKernel(KERNEL.signal) * RBF(KERNEL.length)
    regressor = GaussianProcessRegressor(form, alpha=KERNEL.noise, optimizer=None)
    mean = losses.mean()
    return mean + regressor.fit(epochs[:, None], losses - mean).predict([[at]])[0]


@pytest.mark.parametrize("ahead", [1, 3])
def test_process_is_scikit_learns(ahead: int) -> None:
    """Sample by sample, each with the epochs that it was measured in."""
    generator = np.random.default_rng(0)
    losses_EN = generator.exponential(size=(9, 40))
    losses_EN[generator.random(losses_EN.shape) < 0.4] = NAN
    found_N = predict_process(losses_EN, kernel=KERNEL, ahead=ahead)
    for losses_E, found in zip(losses_EN.T, found_N, strict=True):
        epochs = np.flatnonzero(~np.isnan(losses_E))
        assert found == pytest.approx(oracle(epochs.astype(float), losses_E[epochs], 8.0 + ahead), abs=1e-8)


def test_process_of_a_sample_that_was_never_measured() -> None:
    found = predict_process(HISTORY, kernel=KERNEL)
    assert np.isnan(found).tolist() == [False, False, False, True]
    assert found[2] == 1  # one loss: its mean
    assert predict_process(np.empty((2, 0)), kernel=KERNEL).tolist() == []


def test_process_looks_back_32_epochs() -> None:
    losses_EN = np.random.default_rng(0).exponential(size=(50, 3))
    np.testing.assert_array_equal(
        predict_process(losses_EN, kernel=KERNEL), predict_process(losses_EN[-32:], kernel=KERNEL)
    )


def test_a_fitted_kernel_finds_noise_and_smoothness() -> None:
    """Losses that fall smoothly, with noise of variance .04: the process comes nearer to the truth than the last."""
    generator, epochs = np.random.default_rng(0), np.arange(13)
    truth_EN = generator.uniform(1, 3, 200) * np.exp(-0.15 * epochs)[:, None]
    losses_EN = truth_EN[:-1] + generator.normal(scale=0.2, size=(12, 200))
    losses_EN[3] = NAN  # no selection pass
    losses_EN[7, :50] = NAN
    kernel = fit_kernel(losses_EN)
    assert kernel.noise == pytest.approx(0.04, rel=0.3)
    assert kernel.length > 2
    errors = [np.square(predict(losses_EN) - truth_EN[-1]).mean() for predict in (predict_process, predict_last)]
    assert errors[0] < 0.8 * errors[1]


def test_the_kernel_of_losses_that_never_change() -> None:
    np.testing.assert_allclose(predict_process(np.full((4, 3), 0.7)), [0.7] * 3)


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_of_crossings_gives_a_chance(name: str) -> None:
    """Of a sample always above, one never above, one that crosses, with another threshold in each epoch."""
    losses_EN = np.array([[5.0, 1.0, 1.0, NAN], [4.0, 0.9, 1.5, NAN], [3.0, 0.8, 2.0, NAN]])
    crossed_EN = crossings(losses_EN, [2.0, 1.6, 1.2])
    np.testing.assert_array_equal(crossed_EN, [[1, 0, 0, NAN], [1, 0, 0, NAN], [1, 0, 1, NAN]])
    chances_N = PREDICTORS[name](crossed_EN, **({"kernel": KERNEL} if name == "gaussian-process" else {}))
    assert chances_N[:2] == pytest.approx([1, 0])
    assert chances_N[2] > 0.4
    assert np.isnan(chances_N[3])


def test_a_loss_at_the_threshold_does_not_cross_it() -> None:
    np.testing.assert_array_equal(crossings([[1.0, 1.5, NAN]], 1.0), [[0, 1, NAN]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: predict_last([1.0]), "history of the shape"),
        (lambda: predict_last(np.empty((0, 3))), "at least one epoch"),
        (lambda: predict_average([[1.0]], alpha=0), "alpha is 0"),
        (lambda: predict_process([[1.0]], ahead=0), "0 epochs ahead"),
        (lambda: predict_process([[1.0]]), "give a kernel"),
        (lambda: Kernel(1.0, 0.0, 1.0), "length of the kernel"),
        (lambda: crossings([[1.0]], [1.0, 2.0]), "one an epoch"),
        (lambda: crossings([[1.0]], NAN), "thresholds"),
    ],
)
def test_refuses(call: object, said: str) -> None:
    with pytest.raises(CurationError, match=said):
        call()  # type: ignore[operator]  # cases are functions, typed as objects
