"""A scorer of one's own, "module:function": found in the current folder or among what is installed, and held to the
contract.

What: `find_scorer` gives a scorer by the name of one of ours or of one's own. The latter is a function
`score(outputs, targets, task) -> Tensor [B]`, whose one metric has its name and is higher for harder samples, for
classification; or a `Scorer`, which says all of this itself. What it returns is checked before it is kept.
How: its keys have the digest of its source file. What that file imports in turn is not covered.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from tamis.store.advice import did_you_mean
from tamis.training.errors import ScoreError, UnknownScorer
from tamis.training.models.own import SCORER, digest, failing, find
from tamis.training.signals.scorers import SCORERS, Scorer
from tamis.training.tasks import CLASSIFICATION, TASKS

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.training.tasks.contract import Task

_TAKEN = frozenset({"seconds"})  # what parts keep beside columns


def find_scorer(name: str) -> Scorer:
    """A scorer by its name in `SCORERS`, or as "module:function".

    Raises:
        UnknownScorer: no scorer of ours; or it cannot be imported, or is neither a function nor a Scorer.
        ScorerFailed: its module raised when it was imported.
        ScoreError: what it declares is none that a scorer can have.
    """
    if name in SCORERS:
        return SCORERS[name]
    if ":" not in name:
        raise UnknownScorer(
            f"Unknown scorer {name!r}.{did_you_mean(name, SCORERS)} There are: {', '.join(SCORERS)}; one of your own "
            "is named module:function."
        )
    scorer = _declared(_scorer(name, find(name, SCORER)))
    return replace(scorer, score=_checked(scorer), code=digest(name, SCORER))


def _scorer(name: str, found: object) -> Scorer:
    if isinstance(found, Scorer):
        return replace(found, name=name)
    if not callable(found):
        raise UnknownScorer(
            f"{name!r} is a {type(found).__name__}; expected a function score(outputs, targets, task), or a "
            "tamis.training.Scorer."
        )
    metric = name.rpartition(":")[2]

    @functools.wraps(found)
    def score(outputs: "Tensor", targets: "Tensor | None", task: "Task") -> "dict[str, Tensor]":
        return {metric: cast("Tensor", found(outputs, targets, task))}

    return Scorer(name, 1, {metric: "higher"}, (metric,), frozenset({CLASSIFICATION.name}), score)


def _declared(scorer: Scorer) -> Scorer:
    """The same scorer, if what it declares makes sense."""
    wrong = sorted(set(scorer.metrics.values()) - {"higher", "lower"})
    if not scorer.metrics or wrong:
        raise ScoreError(
            f"Scorer {scorer.name} declares the metrics {dict(scorer.metrics)}; expected at least one, each with the "
            "scores that mean a hard sample: 'higher' or 'lower'."
        )
    beyond = sorted({*scorer.unlabelled} - {*scorer.metrics}) + sorted(scorer.tasks - {*TASKS})
    if beyond:
        raise ScoreError(
            f"Scorer {scorer.name} declares an unknown {', '.join(beyond)}: `unlabelled` holds some of its metrics, "
            f"`tasks` some of {', '.join(TASKS)}."
        )
    return scorer


def _checked(scorer: Scorer) -> "Callable[[Tensor, Tensor | None, Task], dict[str, Tensor]]":
    """The function of a scorer, whose columns are checked and whose errors have its name."""

    @functools.wraps(scorer.score)
    def score(outputs: "Tensor", targets: "Tensor | None", task: "Task") -> "dict[str, Tensor]":
        if targets is None and not scorer.unlabelled:
            raise ScoreError(f"Scorer {scorer.name} needs labels, and this dataset has none: score another dataset.")
        with failing(scorer.name, kind=SCORER):
            made = cast("object", scorer.score(outputs, targets, task))
        columns = cast("dict[Any, Any]", made) if isinstance(made, dict) else {}
        missing = [
            metric for metric in (scorer.metrics if targets is not None else scorer.unlabelled) if metric not in columns
        ]
        if missing:
            got = ", ".join(map(str, columns)) or f"a {type(made).__name__}"
            raise ScoreError(f"Scorer {scorer.name} returned {got}; expected a dict with {', '.join(missing)}.")
        return {str(name): _column(scorer.name, name, values, len(outputs)) for name, values in columns.items()}

    return score


def _column(scorer: str, metric: object, values: Any, count: int) -> "Tensor":
    """[count] on the CPU, float64 or bool."""
    import torch

    if metric in _TAKEN:
        raise ScoreError(f"Scorer {scorer} returned {metric}, which is reserved: rename it.")
    if not isinstance(values, torch.Tensor) or values.shape != (count,) or values.is_complex():
        got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise ScoreError(
            f"Scorer {scorer} returned {got} for {metric}; expected a tensor of {count} numbers, one a sample."
        )
    values = values.detach().cpu()
    return values if values.dtype is torch.bool else values.double()
