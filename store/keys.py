"""Keys: what was asked, as canonical JSON, hashed.

Two questions with the same key have the same answer, so the store answers the second one without computing.
Only plain JSON goes in (dict with text keys, list, text, bool, None, int, finite float): an object whose text
form changes between versions or processes must never decide what is a cache hit.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping

from tamis.store.errors import InvalidName, NotJSON

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}\Z")
KEY = re.compile(r"[0-9a-f]{32}\Z")

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


def canonical(value: object, where: str = "$") -> str:
    """The one text of a plain JSON value: keys sorted, no spaces, tuples as lists.

    Raises:
        NotJSON: names the place and the type of what is not plain JSON.
    """
    return json.dumps(_plain(value, where), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_of(kind: str, payload: Mapping[str, object]) -> str:
    """32 hex characters (128 bits of sha256) over the kind, the format version and the payload."""
    text = canonical({"format": FORMAT, "kind": kind, "payload": dict(payload)})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_name(name: str, what: str) -> str:
    """A name that is safe in paths, partitions and on a command line, or InvalidName."""
    if not NAME.match(name):
        raise InvalidName(
            f"{name[:200]!r} is an invalid name for a {what}: use 1 to 100 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or a digit."
        )
    return name


def split_ref(ref: str) -> tuple[str, int | None]:
    """'name@2' -> ('name', 2); 'name' -> ('name', None)."""
    name, at, version = ref.partition("@")
    if at and not (version.isascii() and version.isdigit() and len(version) < 10 and int(version) > 0):
        raise InvalidName(f"{ref[:200]!r}: after '@' comes a version, 1 or more, as in {name or 'name'}@2.")
    return name, int(version) if at else None


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotJSON(f"{where} is {value}: a key takes finite numbers only.")
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise NotJSON(f"{where} has the key {name!r}: keys are text in JSON.")
        return {name: _plain(item, f"{where}.{name}") for name, item in value.items()}
    raise NotJSON(
        f"{where} is a {type(value).__name__}: a key takes plain JSON (dict, list, text, bool, number, null)."
    )
