"""What every method is, takes and gives: `Method`, `Inputs` and `Choice`.

A method says what is chosen, from which signal; when in a training run it chooses is the business of others. Its
parameters are read from its function (`tamis.curation.parameters`).
Legend: N candidates, M models, E features or epochs, k chosen samples.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError
from tamis.curation.gradmatch.gradients import Gradients, Matrix, Rows, Target

Need = Literal["labels", "scores", "correct", "gradients", "features", "losses"]
Renewal = Literal["stored", "pass", "no"]
RENEWALS: dict[Renewal, str] = {
    "stored": "from what the store has of every sample; models look at new samples only",
    "pass": "by a pass of a trained model over every sample",
    "no": "not renewable: a run's loss history covers the samples that it trained on",
}
_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, eq=False)
class Inputs:
    """What there is to choose from. The candidates are the samples 0 to n - 1.

    Attributes:
        n: how many candidates there are, at least 1.
        labels_N: the class of each candidate, integers [n], or None.
        scores_MN: a score of each candidate by each model, floats [M, n], higher is chosen first; or None.
            NaN and infinities may occur: methods leave such candidates out and count them.
        correct_MN: whether each model predicted each candidate's class, bool [M, n], or None.
        gradients_N: the gradient of each candidate, a `LastLayer` or float32 [n, D], or None; not finite ones may
            occur as among the scores.
        target: gradients of other samples, whose sum is to be matched in place of the candidates' own; or None.
        features_NE: what a model makes of each candidate, floats [n, E], or None; not finite ones may occur.
        losses_EN: the loss of each candidate by the weights of each epoch of a run, floats [E, n], NaN where none was
            recorded; or None. The last row is the run's last epoch.
        correct_EN: whether the prediction in each epoch was right (1) or wrong (0), int8 [E, n], -1 where that was not
            recorded; or None.

    Raises:
        CurationError: a shape or type other than these.
    """

    n: int
    labels_N: NDArray[np.int64] | None = None
    scores_MN: NDArray[np.float64] | None = None
    correct_MN: NDArray[np.bool_] | None = None
    gradients_N: Gradients | Rows | None = None
    target: Target | None = None
    features_NE: NDArray[np.floating] | None = None
    losses_EN: NDArray[np.floating] | None = None
    correct_EN: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise CurationError(f"n is {self.n}; expected at least one candidate to choose from")
        _check("labels", self.labels_N, "iu", [self.n], f"integers [{self.n}]")
        _check_rows("scores", self.scores_MN, "f", self.n, "floats")
        _check_rows("correct", self.correct_MN, "b", self.n, "truth values")
        if self.gradients_N is not None and len(self.gradients_N) != self.n:
            raise CurationError(f"gradients are those of {len(self.gradients_N)} samples; expected {self.n}")
        width = 1 if self.features_NE is None or self.features_NE.ndim < 2 else max(1, self.features_NE.shape[1])
        _check("features", self.features_NE, "f", [self.n, width], f"floats [{self.n}, E], a row for each candidate")
        _check_rows("losses", self.losses_EN, "f", self.n, "floats", "E", "epochs")
        _check_rows("correctness over epochs", self.correct_EN, "i", self.n, "int8", "E", "epochs")

    def labels(self, reason: str) -> NDArray[np.int64]:
        """Return the labels, or say that `reason` needs them."""
        return _present(self.labels_N, "labels", reason)

    def scores(self, reason: str) -> NDArray[np.float64]:
        """Return the scores [M, n], or say that `reason` needs them."""
        return _present(self.scores_MN, "scores", reason)

    def correct(self, reason: str) -> NDArray[np.bool_]:
        """Return the correctness [M, n], or say that `reason` needs it."""
        return _present(self.correct_MN, "correctness of the predictions", reason)

    def gradients(self, reason: str) -> Gradients:
        """Return the gradients of the n candidates, or say that `reason` needs them."""
        given = self.gradients_N
        if given is None:
            raise _missing("gradients", reason)
        return Matrix(given) if isinstance(given, np.ndarray) else given

    def features(self, reason: str) -> NDArray[np.floating]:
        """Return the features [n, E], or say that `reason` needs them."""
        return _present(self.features_NE, "features", reason)

    def losses(self, reason: str) -> NDArray[np.floating]:
        """Return the losses [E, n], or say that `reason` needs them."""
        return _present(self.losses_EN, "losses", reason)

    def correct_by_epoch(self, reason: str) -> NDArray[np.int8]:
        """Return the correctness over epochs [E, n], or say that `reason` needs it."""
        return _present(self.correct_EN, "correctness over epochs", reason)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a method chose.

    Attributes:
        samples: the chosen samples, int64 [k], each once, the best first.
        weights: the weight of each in training, float32 [k], finite; 1 where a method does not weigh.
        scores: the number each was ranked by, float64 [k], or None where a method does not rank.
        excluded: how many candidates were left out because a score, gradient or feature of theirs is NaN or infinite.
        objective: what the method minimised, where there is such a thing.
        notes: what else is worth keeping with the selection, plain JSON.
    """

    samples: NDArray[np.int64]
    weights: NDArray[np.float32]
    scores: NDArray[np.float64] | None = None
    excluded: int = 0
    objective: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Caution:
    """Where a method is known to do harm.

    Attributes:
        below: the share of the candidates below which it is said.
        words: one sentence: what was measured, and what to do.
    """

    below: float
    words: str


@dataclass(frozen=True)
class Method:
    """A way to choose samples.

    Attributes:
        name: what selections, the command line and the documentation call it.
        version: raised whenever the same inputs would give another choice; part of a selection's key.
        summary: one line for listings.
        select: `f(inputs, *, k, <its own parameters>, generator) -> Choice`. Its parameters are keyword-only plain
            values with defaults and annotations.
        needs: which signals it needs in its inputs by its default parameters. Another value may need more, or less:
            the function says so when something is missing.
        tasks: what the models behind its signals have to be trained for; None where it does not matter.
        rounds: the same function giving `Choice` after `Choice` without end, where a method can choose anew for each
            round of a selection; its first one is what `select` gives for the same generator.
        caution: where it is known to do harm.
        measure: of a method that needs scores, the only metric that it is defined on; None: any.
        usual: of a method that needs scores, the metric that ranks where none is named.
        ordered: whether it depends on the order of the candidates, as what chooses by time does.
        renewable: how its choice is made again when a dataset has grown, see RENEWALS; None: as `needs` has it
            (`renewal`).
    """

    name: str
    version: int
    summary: str
    select: Callable[..., Choice]
    needs: frozenset[Need] = frozenset()
    tasks: frozenset[str] | None = None
    rounds: Callable[..., Iterator[Choice]] | None = None
    caution: Caution | None = None
    measure: str | None = None
    usual: str = "entropy"
    ordered: bool = False
    renewable: Renewal | None = None

    @property
    def renewal(self) -> Renewal:
        """How its choice is made again: losses are of one run's samples, gradients take a pass, all else is stored."""
        if self.renewable is not None:
            return self.renewable
        return "no" if "losses" in self.needs else "pass" if "gradients" in self.needs else "stored"

    def check_task(self, task: str) -> None:
        """Refuse models of a task that the method is not made for.

        Raises:
            CurationError: naming the tasks that it is made for.
        """
        if self.tasks is not None and task not in self.tasks:
            raise CurationError(
                f"method {self.name} is made for {', '.join(sorted(self.tasks))}, and the model is one of {task}: "
                "choose another method"
            )

    def advice(self, k: int, n: int) -> str | None:
        """What to beware of when k of n candidates are chosen; None where nothing is known."""
        return self.caution.words if self.caution is not None and k < self.caution.below * n else None


def _check(name: str, array: NDArray[np.generic] | None, kinds: str, shape: list[int], expected: str) -> None:
    if array is not None and (array.dtype.kind not in kinds or list(array.shape) != shape):
        raise CurationError(f"{name} are {array.dtype} {list(array.shape)}; expected {expected}")


def _check_rows(
    name: str, array: NDArray[np.generic] | None, kinds: str, n: int, values: str, m: str = "M", of: str = "models"
) -> None:
    rows = 1 if array is None or array.ndim == 0 else max(1, len(array))
    _check(name, array, kinds, [rows, n], f"{values} [{m}, {n}], a row for each of {m} {of}")


def _present(array: _Array | None, what: str, reason: str) -> _Array:
    if array is None:
        raise _missing(what, reason)
    return array


def _missing(what: str, reason: str) -> CurationError:
    return CurationError(
        f"{reason} needs the {what} of the candidates, and there are none: pass them in Inputs, or name them in the "
        "method's `needs`"
    )
