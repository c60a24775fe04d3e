"""Samples by class, for people: whatever the labels are, the answer has bounds."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

SHOWN = 1000  # classes


def by_class(labels: Any, classes: Sequence[str]) -> tuple[dict[str, int], int]:
    """How many samples each class has, of the first classes, and how many classes more there are.

    Args:
        labels: class numbers, an array or a list; those below 0 stand for no label.
        classes: names by number, where there are any.
    """
    import numpy as np

    numbers, counts = np.unique(np.asarray(labels, np.int64), return_counts=True)
    found = {n: count for n, count in zip(numbers.tolist(), counts.tolist(), strict=True) if n >= 0}
    there = sorted({*range(len(classes)), *found})
    if there and there[-1] < SHOWN:
        there = list(range(there[-1] + 1))
    doubled = {name for name, times in Counter(classes).items() if times > 1}
    return {_named(n, classes, doubled): found.get(n, 0) for n in there[:SHOWN]}, max(0, len(there) - SHOWN)


def _named(number: int, classes: Sequence[str], doubled: set[str]) -> str:
    """A class's name; with its number where others have the same name."""
    name = classes[number] if number < len(classes) else str(number)
    return f"{name} ({number})" if name in doubled else name
