"""Predict each sample's loss from its losses in earlier epochs: what StaleSB may select by in place of the last one.

What it does:
    From a history of E epochs by N samples, in which a loss that was not measured is NaN:

    last               the newest loss: StaleSB as it is.
    average            s <- alpha loss + (1 - alpha) s from the oldest loss to the newest.
    gaussian-process   the mean of a Gaussian process over epochs: a constant for each sample, its mean, plus a smooth
                       function of the epoch with a squared exponential kernel, plus noise.

    `crossings` turns a history of losses into one of whether they cross a threshold (1 or 0); each predictor of that
    gives the chance that the next loss crosses it.

When to use it:
    Where selection passes are rare. The thesis tried these and found none that did better than the last loss, so they
    are here to be compared with it.

Cost:
    last and average read the history once. The process: the kernel matrix depends on epochs alone, so one solve serves
    all samples that were measured in the same epochs; O(P W^3 + W N) for P sets of measured epochs (one in StaleSB, at
    most N), and the last W = 32 epochs, so that time and memory do not grow with a longer history. Fitting
    its kernel: scikit-learn, O(W^3) a step of its optimizer, on 256 samples at most; a second.

Departures from the paper:
    The thesis gives no details. The kernel is shared by all samples and fitted once, or given. scikit-learn is imported
    only to fit it (the extra `demo`).

Reference:
    A. Jiang. Thesis, 2020, section 3.4.2. C. E. Rasmussen, C. K. I. Williams. Gaussian Processes for Machine Learning,
    2006, equations 2.23 and 5.8.

Legend: E epochs, the oldest first; N samples; W the last epochs; P sets of measured epochs.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamis.curation.errors import CurationError

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

WINDOW = 32  # epochs that the process looks back
_FITTED = 256  # samples that its kernel is fitted to
_AT_A_TIME = 1024  # sets of measured epochs that are solved together


@dataclass(frozen=True)
class Kernel:
    """The covariance of a sample's losses in two epochs: signal * exp(-(e - f)^2 / (2 length^2)), noise for e = f.

    Attributes:
        signal: variance of the smooth part, in squared units of the loss; above 0.
        length: in epochs; above 0.
        noise: variance of the rest; above 0.

    Raises:
        CurationError: one of them is not above 0 and finite.
    """

    signal: float
    length: float
    noise: float

    def __post_init__(self) -> None:
        for name, value in (("signal", self.signal), ("length", self.length), ("noise", self.noise)):
            if not 0 < value < np.inf:
                raise CurationError(f"{name} of the kernel is {value!r}; expected a finite number above 0")

    def between(self, some: Doubles, others: Doubles) -> Doubles:
        """The smooth part between epochs [A] and epochs [B]: [A, B]."""
        return self.signal * np.exp(-(((some[:, None] - others[None]) / self.length) ** 2) / 2)


def predict_last(losses_EN: ArrayLike) -> Doubles:
    """The newest loss of each sample that is no NaN, [N]; NaN where there is none."""
    losses = _history(losses_EN)
    measured_EN = ~np.isnan(losses)
    newest_N = len(losses) - 1 - np.argmax(measured_EN[::-1], axis=0)
    return np.where(measured_EN.any(axis=0), losses[newest_N, np.arange(losses.shape[1])], np.nan)


def predict_average(losses_EN: ArrayLike, *, alpha: float = 0.5) -> Doubles:
    """The exponential average of each sample's losses, [N]; NaN where there is none.

    Args:
        losses_EN: [E, N]; epochs without a loss are skipped.
        alpha: the weight of the newest loss, in (0, 1]; with 1 it is the last loss.

    Raises:
        CurationError: `alpha` is out of range, or a history that is none.
    """
    if not 0 < alpha <= 1:
        raise CurationError(f"alpha is {alpha!r}; expected a number above 0, up to 1: the weight of the newest loss")
    losses = _history(losses_EN)
    average_N = np.full(losses.shape[1], np.nan)
    for losses_N in losses:
        fresh_N = np.where(np.isnan(average_N), losses_N, alpha * losses_N + (1 - alpha) * average_N)
        average_N = np.where(np.isnan(losses_N), average_N, fresh_N)
    return average_N


def predict_process(losses_EN: ArrayLike, *, kernel: Kernel | None = None, ahead: int = 1) -> Doubles:
    """The mean of a Gaussian process for each sample, [N]; NaN where there is no loss.

    Args:
        losses_EN: [E, N]; of more than 32 epochs the last ones count.
        kernel: None fits one to the history, which needs scikit-learn.
        ahead: how many epochs after the last one, at least 1.

    Raises:
        CurationError: a history that is none, or `ahead` is below 1, or scikit-learn is missing.
    """
    if ahead < 1:
        raise CurationError(f"a prediction {ahead} epochs ahead; expected at least 1")
    losses_WN = _history(losses_EN)[-WINDOW:]
    kernel = kernel or fit_kernel(losses_WN)
    measured_WN = ~np.isnan(losses_WN)
    means_N = _means(losses_WN, measured_WN)
    deviations_WN = np.where(measured_WN, losses_WN - means_N, 0.0)
    sets_PW, set_N = _sets(measured_WN)
    weights_PW = np.concatenate(
        [_weights(sets_PW[a : a + _AT_A_TIME], kernel, ahead) for a in range(0, max(1, len(sets_PW)), _AT_A_TIME)]
    )
    for weights_P, deviations_N in zip(weights_PW.T, deviations_WN, strict=True):
        means_N += weights_P[set_N] * deviations_N
    return means_N


def fit_kernel(losses_EN: ArrayLike) -> Kernel:
    """The kernel under which a history is the most likely, by scikit-learn.

    It is fitted to samples spread over the history that were measured in every epoch of the last 32 in which any was.

    Raises:
        CurationError: scikit-learn is missing, or no two epochs have a sample in common that was measured in both.
    """
    epochs_e, losses_en = _complete(_history(losses_EN)[-WINDOW:])
    scale = float(np.var(losses_en)) or 1.0  # all equal: any kernel predicts the mean
    signal, length, noise = _fitted(epochs_e, losses_en / np.sqrt(scale))
    return Kernel(signal * scale, length, noise * scale)


def crossings(losses_EN: ArrayLike, thresholds_E: ArrayLike) -> Doubles:
    """Whether each loss is above the threshold of its epoch: 1 or 0, [E, N]; NaN where it was not measured.

    Args:
        losses_EN: [E, N].
        thresholds_E: one for all epochs, or [E], as the loss at some share of each epoch.

    Raises:
        CurationError: another number of thresholds, or one that is NaN.
    """
    losses, thresholds = _history(losses_EN), np.asarray(thresholds_E, np.float64)
    if thresholds.shape not in ((), (len(losses),)) or np.isnan(thresholds).any():
        raise CurationError(
            f"thresholds of the shape {thresholds.shape} for {len(losses)} epochs; expected one number, or one an epoch"
        )
    return np.where(np.isnan(losses), np.nan, losses > thresholds.reshape(-1, 1))


PREDICTORS: dict[str, Callable[..., Doubles]] = {
    "last": predict_last,
    "average": predict_average,
    "gaussian-process": predict_process,
}


def _history(losses_EN: ArrayLike) -> Doubles:
    """As float64 [E, N], with infinite losses as not measured."""
    losses = np.asarray(losses_EN, np.float64)
    if losses.ndim != 2 or not len(losses):
        raise CurationError(
            f"a history of the shape {losses.shape}; expected [epochs, samples] with at least one epoch, NaN where "
            "nothing was measured"
        )
    return np.where(np.isinf(losses), np.nan, losses)


def _means(losses_WN: Doubles, measured_WN: Bools) -> Doubles:
    with np.errstate(invalid="ignore"):  # 0/0: never measured
        return np.where(measured_WN, losses_WN, 0.0).sum(axis=0) / measured_WN.sum(axis=0)


def _sets(measured_WN: Bools) -> tuple[Bools, NDArray[np.intp]]:
    """The different sets of measured epochs, [P, W], and which one is each sample's, [N]."""
    bits_N = (measured_WN.astype(np.int64) << np.arange(len(measured_WN))[:, None]).sum(axis=0)
    found_P, set_N = np.unique(bits_N, return_inverse=True)
    return (found_P[:, None] >> np.arange(len(measured_WN)) & 1).astype(bool), set_N


def _weights(sets_PW: Bools, kernel: Kernel, ahead: int) -> Doubles:
    """What the deviation of each measured epoch counts in the prediction: (K + noise)^-1 k, equation 2.23."""
    epochs = np.arange(float(sets_PW.shape[1]))
    covariance_WW = kernel.between(epochs, epochs) + kernel.noise * np.eye(len(epochs))
    both_PWW = sets_PW[:, :, None] & sets_PW[:, None, :]
    # An epoch that was not measured is by itself: its row is that of the identity, its right side 0.
    systems_PWW = np.where(both_PWW, covariance_WW, np.eye(len(epochs)))
    next_W = kernel.between(epochs, np.array([len(epochs) - 1.0 + ahead]))[:, 0]
    weights_PW1 = np.linalg.solve(systems_PWW, (sets_PW * next_W)[:, :, None])
    return weights_PW1[:, :, 0].astype(np.float64, copy=False)


def _complete(losses_WN: Doubles) -> tuple[Doubles, Doubles]:
    """Epochs [e], and the deviations [e, n] of samples that were measured in all of them."""
    epochs = np.flatnonzero(~np.isnan(losses_WN).all(axis=1))
    samples = np.flatnonzero(~np.isnan(losses_WN[epochs]).any(axis=0))
    if len(epochs) < 2 or not len(samples):
        raise CurationError(
            f"a kernel cannot be fitted: {len(samples)} samples were measured in all of the {len(epochs)} epochs that "
            "have losses; expected one sample and two epochs at least: give a kernel"
        )
    chosen = samples[np.linspace(0, len(samples) - 1, min(_FITTED, len(samples))).astype(int)]
    losses_en = losses_WN[np.ix_(epochs, chosen)]
    return epochs.astype(np.float64), losses_en - losses_en.mean(axis=0)


def _fitted(epochs_e: Doubles, deviations_en: Doubles) -> tuple[float, float, float]:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    except ImportError:
        raise CurationError(
            "fitting the kernel of a Gaussian process needs scikit-learn, which is not installed: "
            "pip install 'tamis[demo]', or give a kernel"
        ) from None
    form = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(2.0, (0.5, 1e2)) + WhiteKernel(0.1, (1e-4, 1e1))
    regressor = GaussianProcessRegressor(form, alpha=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is reached: still the best within bounds
        regressor.fit(epochs_e[:, None], deviations_en)
    found: Any = regressor.kernel_  # typed as what it might be before it is fitted
    signal, length, noise = np.exp(found.theta)
    return float(signal), float(length), float(noise)
