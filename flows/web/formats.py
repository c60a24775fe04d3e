"""How numbers, times and keys are written on pages."""

import datetime as dt
import json
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NONE = "–"


def count(value: float | None) -> str:
    """A whole number, its thousands apart."""
    return NONE if value is None else f"{value:,.0f}".replace(",", "\u202f")


def number(value: Any) -> str:
    """A number with four digits that count; anything else as text."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return count(value) if abs(value) >= 10_000 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def share(value: float | None) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{value:.1%}"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return NONE
    power = min(int(math.log(value, 1000)) if value >= 1 else 0, len(_UNITS) - 1)
    return f"{value / 1000**power:.3g} {_UNITS[power]}"


def seconds(value: float | None) -> str:
    """A span of time, in the unit that fits."""
    if value is None:
        return NONE
    if value < 0.001 or abs(value) < 1:
        return f"{value * 1000:.3g} ms" if value else "0 s"
    if value < 120:
        return f"{value:.3g} s"
    if value < 7200:
        return f"{value / 60:.3g} min"
    return f"{value / 3600:.3g} h" if value < 172_800 else f"{value / 86_400:.3g} d"


def time(value: dt.datetime | None) -> str:
    """A moment, UTC."""
    return NONE if value is None else value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")


def short(value: str | None) -> str:
    """The beginning of a key."""
    return NONE if value is None else value[:12]


def part(value: object) -> str:
    """A text as a part of an address."""
    return quote(str(value), safe="@")


FILTERS: dict[str, Callable[..., Any]] = {
    "count": count, "number": number, "share": share, "size": size, "seconds": seconds, "time": time, "short": short,
    "part": part,
}  # fmt: skip
