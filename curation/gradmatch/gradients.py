"""Gradients of single samples, in closed form where they have one: what `tamis.curation.gradmatch.method` matches.

What: `LastLayer` stands for the gradients of the cross-entropy with respect to weights and bias of a linear last layer,
`Matrix` for any others. Both give them by rows, summed up, and correlated with a target.
How: with p the softmax of the logits W x + a, the gradient of sample i is vec((p_i - y_i) (x) [x_i, 1]), C (E + 1)
numbers that follow from C + E. Sums and correlations are matrix products of the parts; only `rows` writes gradients
out, 4 C (E + 1) bytes each.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, section 4 (last-layer gradients).
Legend: N samples, C classes, E features, D = C (E + 1) numbers a gradient, n samples asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.float32]
Kind = Literal["class", "class-gradient", "batch"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is matched: the gradients of a class, its own row of the last layer alone, or mini-batches."""

_PIECE = 4096  # samples that are turned into float64 at a time


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Gradients of the cross-entropy with respect to a linear last layer.

    The D numbers of a gradient are those of the layer's weight matrix with the bias as a last column, row by row.

    Attributes:
        residuals_NC: softmax minus one-hot label, float32 [N, C].
        features_NE: what the last layer is given, float32 [N, E].
        bias: whether the layer has a bias; without one a gradient has C E numbers.

    Raises:
        CurationError: other shapes or types.
    """

    residuals_NC: Rows
    features_NE: Rows
    bias: bool = True

    def __post_init__(self) -> None:
        one, two = self.residuals_NC, self.features_NE
        fits = one.ndim == two.ndim == 2 and len(one) == len(two) > 0 and one.dtype == two.dtype == np.float32
        if not fits:
            raise CurationError(
                f"residuals are {one.dtype} {list(one.shape)} and features {two.dtype} {list(two.shape)}; expected "
                "float32 [N, C] and float32 [N, E], of the same samples and at least one"
            )

    def __len__(self) -> int:
        return len(self.residuals_NC)

    @property
    def classes(self) -> int:
        """C."""
        return self.residuals_NC.shape[1]

    @property
    def width(self) -> int:
        """D."""
        return self.classes * (self.features_NE.shape[1] + self.bias)

    def of_class(self, label: int) -> "LastLayer":
        """The slice of one class: the gradients of its own row of weights and its bias, E + 1 numbers. No copy."""
        return LastLayer(self.residuals_NC[:, label : label + 1], self.features_NE, self.bias)

    def finite(self) -> NDArray[np.bool_]:
        """Which samples have a gradient without NaN and infinities, bool [N]."""
        return np.isfinite(self.residuals_NC).all(axis=1) & np.asarray(np.isfinite(self.features_NE).all(axis=1))

    def rows(self, samples: Ints) -> Rows:
        """The gradients of some samples, float32 [n, D]."""
        out_nCE = np.empty((len(samples), self.classes, self.width // self.classes), np.float32)
        inputs, residuals = self.features_NE[samples], self.residuals_NC[samples]
        np.multiply(residuals[:, :, None], inputs[:, None, :], out=out_nCE[:, :, : inputs.shape[1]])
        if self.bias:
            out_nCE[:, :, -1] = residuals
        return out_nCE.reshape(len(samples), self.width)

    def total(self, samples: Ints, weights: Floats | None = None) -> Floats:
        """The (weighted) sum of the gradients of some samples, added up in float64: [D]."""
        out = np.zeros((self.classes, self.width // self.classes))
        for part, piece in _pieces(samples):
            residuals = self.residuals_NC[part].astype(np.float64)
            if weights is not None:
                residuals *= weights[piece, None]
            out += residuals.T @ self._inputs(part).astype(np.float64)
        return out.reshape(-1)

    def correlate(self, samples: Ints, target: Floats) -> Floats:
        """The inner products of the gradients of some samples with a target [D]: [n]."""
        wide = target.reshape(self.classes, -1).T
        found = [
            (self.residuals_NC[part] * (self._inputs(part).astype(np.float64) @ wide)).sum(axis=1)
            for part, _ in _pieces(samples)
        ]
        return np.concatenate(found) if found else np.empty(0)

    def _inputs(self, samples: Ints) -> Rows:
        """What the weights, bias included, are multiplied by: [n, E + 1], or [n, E] without a bias."""
        features = self.features_NE[samples]
        return np.concatenate([features, np.ones((len(features), 1), np.float32)], axis=1) if self.bias else features


@dataclass(frozen=True, eq=False)
class Matrix:
    """Gradients that are written out.

    Attributes:
        gradients_ND: float32 [N, D].

    Raises:
        CurationError: another shape or type.
    """

    gradients_ND: Rows

    def __post_init__(self) -> None:
        given: NDArray[Any] = self.gradients_ND
        if given.ndim != 2 or 0 in given.shape or given.dtype != np.float32:
            raise CurationError(
                f"gradients are {given.dtype} {list(given.shape)}; expected float32 [N, D], a row for each sample"
            )

    def __len__(self) -> int:
        return len(self.gradients_ND)

    @property
    def width(self) -> int:
        """D."""
        return self.gradients_ND.shape[1]

    def finite(self) -> NDArray[np.bool_]:
        """Which samples have a gradient without NaN and infinities, bool [N]."""
        return np.asarray(np.isfinite(self.gradients_ND).all(axis=1))

    def rows(self, samples: Ints) -> Rows:
        """The gradients of some samples, float32 [n, D]."""
        return self.gradients_ND[samples]

    def total(self, samples: Ints, weights: Floats | None = None) -> Floats:
        """The (weighted) sum of the gradients of some samples, added up in float64: [D]."""
        out = np.zeros(self.width)
        for part, piece in _pieces(samples):
            rows = self.gradients_ND[part].astype(np.float64)
            out += rows.sum(axis=0) if weights is None else weights[piece] @ rows
        return out

    def correlate(self, samples: Ints, target: Floats) -> Floats:
        """The inner products of the gradients of some samples with a target [D]: [n]."""
        found = [self.gradients_ND[part].astype(np.float64) @ target for part, _ in _pieces(samples)]
        return np.concatenate(found) if found else np.empty(0)


Gradients: TypeAlias = LastLayer | Matrix


@dataclass(frozen=True, eq=False)
class Target:
    """Whose gradient is to be matched in place of the training gradient.

    Attributes:
        gradients: of M validation samples, by the same model and of the same kind as the candidates'.
        labels_M: their classes, integers [M]; not needed for the kind "batch".
    """

    gradients: Gradients | Rows
    labels_M: Ints | None = None


def _pieces(samples: Ints) -> Iterator[tuple[Ints, slice]]:
    for a in range(0, len(samples), _PIECE):
        yield samples[a : a + _PIECE], slice(a, a + _PIECE)
