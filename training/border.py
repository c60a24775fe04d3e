"""What public functions refuse before they begin: numbers out of range, and names where a thing was expected."""

import operator
from typing import Any

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.store.selections.drafts import Draft
from tamis.training.errors import WrongKind

LARGEST = 2**63 - 1  # of seeds, epochs and positions: what a column of int64 and a state hold
BATCH = 2**24  # samples
NEAR = 2**40  # samples
IMAGE = 2**16  # pixels a side
EPOCHS = 1_000_000


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """A whole number in range, as a plain int.

    Raises:
        WrongKind: it is not a whole number.
        ValueError: it is out of range.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise WrongKind(f"{name} is {_shown(value)}: expected a whole number.") from error
    if isinstance(value, bool):
        raise WrongKind(f"{name} is {value}: expected a whole number.")
    if not least <= number <= most:
        raise ValueError(f"{name} is {_shown(number)}: expected {_range(least, most)}.")
    return number


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse what is none of some kinds; of a text, say how it is looked up.

    Raises:
        WrongKind: names the kinds.
    """
    if isinstance(value, kinds):
        return
    words = "a " + " or a ".join(kind.__name__ for kind in kinds)
    how = ""
    if isinstance(value, str):
        ways = [f"{where}({value!r})" for kind, where in _WHERE.items() if kind in kinds]
        how = f" Pass {' or '.join(ways)}." if ways else ""
    raise WrongKind(f"{name} is {_shown(value)}, a {type(value).__name__}: expected {words}.{how}")


_WHERE: dict[type, str] = {Selection: "store.selections.get", Dataset: "store.datasets.get", Store: "Store.open"}
CHOSEN = (Selection, Draft, Dataset)


def _range(least: int, most: int) -> str:
    return f"{least} to {'2^63 - 1' if most == LARGEST else most}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return f"a number of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:80]} ..."
