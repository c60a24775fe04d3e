"""The labels of samples, as shards hold them: class numbers, class names, numbers to learn.

What: a dataset says where its labels are (`parse_label`):

    cls                 a member that holds a class: its number (0, 1, 2, ...) or its name
    json:label.id       a value inside of a JSON member, by a path of names and list positions: a whole number is a
                        class number, a text the name of a class
    number:txt          a member, or with a path a value inside of one, that holds a number to learn (regression)

Names become class numbers when all shards are read (`tamis.store.shards.naming`). Numbers to learn are looked at here,
so that a bad one is named when the data is added; training reads them again out of the shards (`read_number`).
Cost: class numbers are parsed for all samples at once; names, and what is inside of JSON, one by one.

Legend: K samples of a shard.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import ShardError

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

LARGEST_LABEL = 10_000_000 - 1
_LABEL_WIDTH = 20
_LONGEST_NAME = 1000  # characters, as `tamis.store.datasets.classes` takes them
_NUMBER = "number"
_SHOWN = 40


@dataclass(frozen=True)
class Label:
    """Where the label of a sample is, and what.

    Attributes:
        member: that holds it.
        path: to the value inside of a JSON member; empty where the member is the label.
        number: it is a number to learn, not a class.
    """

    member: str
    path: tuple[str, ...] = ()
    number: bool = False


@dataclass(frozen=True)
class Labels:
    """The labels of one shard: class numbers int64 [K], or names of classes [K]; neither for numbers to learn."""

    numbers: Ints | None = None
    names: pa.Array | None = None


def parse_label(text: str) -> Label:
    """Where labels are, from what a dataset or a user says.

    Raises:
        ShardError: a part of it is empty.
    """
    number, rest = text.startswith(f"{_NUMBER}:"), text.removeprefix(f"{_NUMBER}:")
    member, colon, inside = rest.partition(":")
    path = tuple(inside.split(".")) if colon else ()
    if not member or not all(path):
        raise ShardError(
            f"Label {text!r} has an empty part: expected a member (cls), a value inside of a JSON member "
            "(json:label.id), or either as a number to learn (number:txt, number:json:price)."
        )
    return Label(member, path, number)


def read_labels(shown: str, data: Bytes, keys: pa.Array, label: str, offset: Ints, size: Ints) -> Labels:
    """The labels of a shard.

    Args:
        shown: what messages call the shard.
        data: the whole tar.
        keys: [K] of the samples.
        label: where labels are, for `parse_label`.
        offset, size: [K] of the member that holds each.

    Raises:
        ShardError: names the first label that is none, and how many there are.
    """
    wanted = parse_label(label)
    if not wanted.path and not wanted.number:
        numbers, bad = _class_numbers(data, offset, size)
        if not bad.any():
            return Labels(numbers)
    contents = (data[a : a + n].tobytes() for a, n in zip(offset.tolist(), size.tolist(), strict=True))
    if wanted.number:
        _every(shown, keys, wanted, contents, lambda content: read_number(content, wanted))
        return Labels()
    read = _inside if wanted.path else _plain
    values = _every(shown, keys, wanted, contents, lambda content: _class(read(content, wanted)))
    named = np.asarray([isinstance(value, str) for value in values])
    if named.all():
        return Labels(names=pa.array(values, pa.string()))
    if named.any():
        first, other = (int(np.flatnonzero(each)[0]) for each in (named, ~named))
        raise ShardError(
            f"Shard {shown}: {int(named.sum())} of {len(values)} labels are class names ({keys[first]}: "
            f"{values[first]!r}) and the others are class numbers ({keys[other]}: {values[other]}): expected one or "
            "the other. Specify the member with the label (--label), or --label none if there are no labels."
        )
    return Labels(np.asarray(values, np.int64))


def read_number(content: bytes, label: Label) -> float:
    """A number to learn, out of the member that holds it.

    Raises:
        ValueError: there is none, or it is not finite.
    """
    value = _inside(content, label) if label.path else content.decode("utf-8")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{_brief(value)} is not a number")  # noqa: TRY004  # the content is wrong, not a caller
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _every(
    shown: str, keys: pa.Array, label: Label, contents: Iterator[bytes], read: Callable[[bytes], Any]
) -> list[Any]:
    """What is read of each member; the first that cannot be is named, and how many there are."""
    values, bad = list[Any](), 0
    first: tuple[int, bytes, ValueError] | None = None
    for number, content in enumerate(contents):
        try:
            values.append(read(content))
        except (ValueError, RecursionError) as error:
            bad += 1
            first = first or (number, content, ValueError(str(error)))
    if first is not None:
        raise ShardError(_refusal(shown, f"{keys[first[0]]}.{label.member}", label, first[1:], bad, len(keys)))
    return values


def _refusal(shown: str, member: str, label: Label, first: tuple[bytes, ValueError], bad: int, count: int) -> str:
    content, error = first
    expected = (
        "a finite number" if label.number else f"a class number (0, 1, 2, ..., at most {LARGEST_LABEL:,}) or a name"
    )
    where = f" at {'.'.join(label.path)}" if label.path else ""
    return (
        f"Shard {shown}: member {member} holds {content[:_SHOWN]!r} ({error}); expected {expected}{where}. "
        f"{bad} of {count} labels are like that. Name the member, or the path inside of it, that holds the label "
        "(--label), or --label none if there are no labels."
    )


def _plain(content: bytes, label: Label) -> Any:
    """A member that is a label: a number where it is written in digits, else a text."""
    text = content.decode("utf-8").strip()
    if not (text.isascii() and text.isdigit()):
        return text
    if len(content) > _LABEL_WIDTH:
        raise ValueError(f"{len(content)} bytes, at most {_LABEL_WIDTH} are read")
    return int(text)


def _inside(content: bytes, label: Label) -> Any:
    value: Any = json.loads(content)
    for depth, part in enumerate(label.path):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            there = f"there are {', '.join(list(value)[:10])}" if isinstance(value, dict) else f"it is {_brief(value)}"
            raise ValueError(f"no {'.'.join(label.path[: depth + 1])} in it: {there}")
    return value


def _class(value: Any) -> int | str:
    """A class number, or the name of a class.

    Raises:
        ValueError: it is neither. A name has a letter, so that -1 or 1.5 is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_LABEL:
        return value
    if isinstance(value, str) and value.isprintable() and any(c.isalpha() for c in value):
        if len(value) <= _LONGEST_NAME:
            return value
        raise ValueError(f"a name has at most {_LONGEST_NAME} characters, and this one {len(value)}")
    raise ValueError(f"{_brief(value)} is neither")


def _brief(value: Any) -> str:
    return repr(value)[:_SHOWN]


def _class_numbers(data: Bytes, offset: Ints, size: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The class number of every sample, parsed for all at once; and which of them are none."""
    width = int(min(max(size.max(), 1), _LABEL_WIDTH))
    digits = _gather(data, offset, width)  # the end-of-archive marker lies behind the last one
    inside = np.arange(width) < size[:, None]
    digits = np.where(inside, digits, ord(" "))
    number = (digits >= ord("0")) & (digits <= ord("9"))
    blank = (digits == ord(" ")) | (digits == ord("\n")) | (digits == ord("\r")) | (digits == ord("\t"))
    ends_once = (np.diff(number.astype(np.int8), axis=1) == 1).sum(axis=1) + number[:, 0] == 1
    good = (number | blank).all(axis=1) & ends_once & (size <= _LABEL_WIDTH)
    values = np.zeros(len(offset), np.int64)
    for column in np.flatnonzero(number.any(axis=0)):
        more = np.minimum(values * 10 + (digits[:, column].astype(np.int64) - ord("0")), LARGEST_LABEL + 1)
        values = np.where(number[:, column], more, values)
    return values, ~good | (values > LARGEST_LABEL)


def _gather(data: Bytes, start: Ints, width: int) -> Bytes:
    """[len(start), width] bytes of data from each start."""
    if len(data) < width:
        return np.zeros((len(start), width), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(data, width)[start]
