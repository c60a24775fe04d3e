"""Which values each field of a base, a candidate, a package and event figures may have: one list for all who take any.

Values from files are held against it strictly: a number that is text, a whole number that is a fraction, a NaN, a field
too many or too few are refused, each in one line that names the place.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

from tamis.store.errors import PackageError
from tamis.store.keys import KEY, canonical
from tamis.store.packages.records import Base, Candidate, EventFigures, NewPackage

Check = tuple[Callable[[Any], bool], str]  # whether a value is one, and what was expected
Fields = Mapping[str, Check]

MOST_CANDIDATES = 4096
MOST_BYTES = 2 << 30  # of the weights of one file, which is in memory while it is checked
_TEXT = 4096  # letters
_JSON = 1 << 20  # letters of what is kept as JSON
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_MEASURED = ("average", "minimum", "frequency", "correlation")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Any, least: int = 0) -> bool:
    if not isinstance(value, str) or not least <= len(value) <= _TEXT:
        return False
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _whole(low: int, high: int) -> Check:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high
    ), f"a whole number {low} to {high}"


def _number(low: float, high: float, *, above: bool = False) -> Check:
    """A number from low (or above it) to high."""
    said = f"a number {'above' if above else 'from'} {low:g}" + ("" if high == math.inf else f" to {high:g}")
    return (lambda v: _is_number(v) and (low < v if above else low <= v) and v <= high), said


def _list(of: Check, least: int, most: int) -> Check:
    fits, said = of
    return (
        lambda v: isinstance(v, list | tuple) and least <= len(v) <= most and all(map(fits, v)),
        f"a list of {least} to {most}, each {said}",
    )


def _or_none(of: Check) -> Check:
    fits, said = of
    return (lambda v: v is None or fits(v)), f"{said}, or null"


def _is_json(value: Any) -> bool:
    try:
        return isinstance(value, dict) and len(canonical(cast(object, value)).encode()) <= _JSON
    except (TypeError, ValueError, RecursionError):  # no JSON, or a letter or a number that no text has, or too deep
        return False


def _matching(pattern: re.Pattern[str], said: str) -> Check:
    return (lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None), said


_SHARE = _number(0, 1)
_KEY = _matching(KEY, "a key of 32 hex characters")
_LINE: Check = _is_text, f"text of at most {_TEXT} letters"
_NAME: Check = (lambda v: _is_text(v, 1)), f"text of 1 to {_TEXT} letters"
_BLOB = _matching(_DIGEST, "a sha256 of 64 hex characters")
_SIZE = _whole(1, MOST_BYTES)
_PIXELS = _whole(1, 1 << 16)
_PLAIN: Check = _is_json, f"an object of plain JSON of at most {_JSON >> 20} MiB"
_SECONDS = _number(0, math.inf)

BASE: Fields = {
    "model": _NAME, "outputs": _whole(1, 1 << 24), "channels": _whole(1, 1024), "image_size": _PIXELS,
    "mean": _list(_number(-1e6, 1e6), 1, 1024), "std": _list(_number(0, 1e6, above=True), 1, 1024), "blob": _BLOB,
    "bytes": _SIZE, "source": _LINE,
}  # fmt: skip
CANDIDATE: Fields = {
    "key": _KEY, "base": _KEY, "branch": _whole(0, 4095), "branchpoint": _LINE, "frozen": _whole(0, 1 << 20),
    "parameters": _whole(0, 1 << 40), "accuracy": _SHARE, "tpr": _SHARE, "fpr": _SHARE, "correlation": _or_none(_SHARE),
    "metrics": _PLAIN, "seconds": _SECONDS, "blob": _BLOB, "bytes": _SIZE,
    "pareto": ((lambda v: isinstance(v, bool)), "true or false"),
}  # fmt: skip
EVENTS: Fields = {
    "average": _number(0, 1e9, above=True), "minimum": _number(0, 1e9, above=True),
    "frequency": _number(0, 1, above=True), "correlation": _SHARE,
    "measured": _list(((lambda v: v in _MEASURED), f"one of {', '.join(_MEASURED)}"), 0, 4),
}  # fmt: skip
PACKAGE: Fields = {
    "name": _NAME, "base": _KEY, "dataset": _NAME, "selection": _or_none(_NAME), "classes": _list(_NAME, 0, 1 << 16),
    "event_class": _or_none(_NAME), "image_size": _PIXELS, "seed": _whole(-(2**63), 2**63 - 1), "config": _PLAIN,
    "lineage": _PLAIN,
}  # fmt: skip
PROFILE: Fields = {
    "base": _KEY, "device": _NAME, "threads": _whole(1, 1 << 16), "batch": _whole(1, 1 << 20),
    "segments": _list(_SECONDS, 1, 4096), "rest": _or_none(_SECONDS), "stats": _PLAIN,
}  # fmt: skip


def check_fields(value: object, fields: Fields, where: str) -> dict[str, Any]:
    """An object that has these fields and no other, each with a value that it may have.

    Raises:
        PackageError: naming the first that does not fit.
    """
    if not isinstance(value, dict):
        raise PackageError(f"{where} is {shown(value)}: expected an object with {', '.join(fields)}.")
    given: dict[str, Any] = value
    lacking = [name for name in fields if name not in given]
    more = [name for name in given if name not in fields]
    if lacking or more:
        said = f"lacks {lacking[0]!r}" if lacking else f"has {shown(more[0])}, which is unknown"
        raise PackageError(f"{where} {said}: expected exactly {', '.join(fields)}.")
    for name, (fits, expected) in fields.items():
        if not fits(given[name]):
            raise PackageError(f"{where}: {name} is {shown(given[name])}: expected {expected}.")
    return given


def check_base(base: Base) -> Base:
    """Refuse a base that cannot be one.

    Raises:
        PackageError: naming the field.
    """
    where = f"Base model {shown(base.model)}"
    check_fields(asdict(base), BASE, where)
    for name, values in (("mean", base.mean), ("std", base.std)):
        if len(values) != base.channels:
            raise PackageError(
                f"{where}: {name} has {len(values)} numbers: expected one for each of {base.channels} channels."
            )
    return base


def check_candidate(candidate: Candidate) -> Candidate:
    """Refuse a candidate that cannot be one.

    Raises:
        PackageError: naming the field.
    """
    check_fields(asdict(candidate), CANDIDATE, f"Candidate {candidate.key[:12]}")
    return candidate


def check_events(events: EventFigures, where: str) -> EventFigures:
    """Refuse figures of events that cannot be.

    Raises:
        PackageError: naming the field.
    """
    check_fields(asdict(events), EVENTS, where)
    if events.minimum > events.average:
        raise PackageError(
            f"{where}: the minimum length is {events.minimum:g} s, the average {events.average:g} s: expected a "
            "minimum of at most the average."
        )
    return events


def check_package(package: NewPackage) -> NewPackage:
    """Refuse a package that cannot be one; its candidates are checked by themselves.

    Raises:
        PackageError: naming the field.
    """
    where = f"Package {shown(package.name)}"
    check_fields({name: getattr(package, name) for name in PACKAGE}, PACKAGE, where)
    if package.event_class is not None and package.event_class not in package.classes:
        raise PackageError(
            f"{where}: the event is class {shown(package.event_class)}: expected one of "
            f"{', '.join(package.classes)[:200] or 'its classes, of which it has none'}."
        )
    if package.events is not None:
        check_events(package.events, f"{where}, events")
    return package


def shown(value: object) -> str:
    """A value as it is put into a message: not more of it than fits a line."""
    said = ascii(value) if not isinstance(value, int) or abs(value) < 1 << 128 else "a very large number"
    return said if len(said) <= 80 else f"{said[:77]}..."
