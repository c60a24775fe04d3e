"""The manifest of an exported package: one JSON document, format 1 (docs/reference/formats.md).

What: `document` makes it, `parse` reads it, strictly. Everything is held against everything: the document against its
own digest, each key against what it is the key of, the candidates against the package's key. Nothing is taken from a
document that fails any of that.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, cast

from tamis.store.errors import NotJSON, PackageError
from tamis.store.keys import NAME, canonical
from tamis.store.packages.checking import (
    BASE,
    CANDIDATE,
    EVENTS,
    MOST_CANDIDATES,
    PACKAGE,
    Fields,
    check_base,
    check_candidate,
    check_fields,
    check_package,
    shown,
)
from tamis.store.packages.records import Base, Candidate, EventFigures, NewPackage, Package, package_key

FORMAT = 1
KIND = "m-package"
MOST_BYTES = 64 << 20  # of a manifest
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}\.safetensors\Z")
_ANY: tuple[Any, str] = (lambda _: True, "anything")
_TOP: Fields = dict.fromkeys(("format", "kind", "package", "base", "candidates", "digest"), _ANY)
_IS_KEY = CANDIDATE["key"]
_IS_FILE = ((lambda v: isinstance(v, str) and _FILE.match(v) is not None), "a name such as base.safetensors, no path")
_OPTIONAL_FILE = ((lambda v: v is None or _IS_FILE[0](v)), f"{_IS_FILE[1]}, or null")
_VERSION = ((lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**31), "a version, 1 or more")
_IS_NAME = ((lambda v: isinstance(v, str) and NAME.match(v) is not None), "a name of a-z, 0-9, '.', '_' and '-'")


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes:
        package: as it was published where it comes from.
        base: its base model.
        base_file: name of the file with the base's weights; None where they were left out.
        files: {content of a candidate: name of the file with its weights}.
    """

    package: Package
    base: Base
    base_file: str | None
    files: Mapping[str, str]


def file_of(candidate: Candidate) -> str:
    """The name of a candidate's file."""
    return f"{candidate.branch:04d}-{candidate.content[:16]}.safetensors"


def document(package: Package, base: Base, *, with_base: bool) -> bytes:
    """The manifest of a package, as it is written."""
    said: dict[str, Any] = {name: getattr(package, name) for name in PACKAGE}
    events = None if package.events is None else asdict(package.events)
    created = None if package.created is None else package.created.isoformat()
    body = {
        "format": FORMAT,
        "kind": KIND,
        "package": {
            "key": package.key, "version": package.version, "created": created, "events": events,
            **said, "classes": list(package.classes),
        },
        "base": {"key": base.key, "file": "base.safetensors" if with_base else None, **asdict(base)},
        "candidates": [{"content": c.content, "file": file_of(c), **asdict(c)} for c in package.candidates],
    }  # fmt: skip
    plain = json.loads(canonical(body))
    return json.dumps({**plain, "digest": _digest(plain)}, indent=1, ensure_ascii=False).encode() + b"\n"


def parse(data: bytes, where: str) -> Manifest:
    """Read a manifest.

    Args:
        data: the document.
        where: what to call it in messages.

    Raises:
        PackageError: naming the first thing that is wrong.
    """
    body = _loaded(data, where)
    if body.get("kind") != KIND or body.get("format") != FORMAT or isinstance(body.get("format"), bool):
        raise PackageError(
            f"{where} says kind {shown(body.get('kind'))}, format {shown(body.get('format'))}: this tamis reads kind "
            f"{KIND!r}, format {FORMAT}. Use the tamis that wrote it, or a newer one."
        )
    check_fields(body, _TOP, where)
    if body["digest"] != _digest({name: value for name, value in body.items() if name != "digest"}):
        raise PackageError(
            f"{where} was altered: it does not have the digest that it was written with. Export it again."
        )
    base, base_file = _base(body["base"], f"{where}, base")
    found = _candidates(body["candidates"], where)
    package = _package(body["package"], [one for one, _ in found], f"{where}, package")
    if package.base != base.key or any(one.base != base.key for one, _ in found):
        raise PackageError(f"{where}: the package or a candidate is of another base model than {base.key[:12]}.")
    names = [name for _, name in found] + [base_file] * (base_file is not None)
    if len(set(names)) < len(names):
        raise PackageError(f"{where} names a file twice: expected one for each candidate and the base.")
    return Manifest(package, base, base_file, {one.content: name for one, name in found})


def _loaded(data: bytes, where: str) -> dict[str, Any]:
    try:
        body = json.loads(data, parse_constant=_no_number, object_pairs_hook=_once)
    except PackageError as error:
        raise PackageError(f"{where} {error}") from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{where} is no manifest: {error}. Export the package again.") from error
    if not isinstance(body, dict):
        raise PackageError(f"{where} is no manifest: expected an object, not {shown(body)}.")
    return cast("dict[str, Any]", body)  # whatever it has is checked field by field


def _base(value: object, where: str) -> tuple[Base, str | None]:
    said = check_fields(value, {"key": _IS_KEY, "file": _OPTIONAL_FILE, **BASE}, where)
    lists = {name: tuple(map(float, said[name])) for name in ("mean", "std")}
    base = check_base(Base(**_some(said, BASE, lists)))
    _same_key(base.key, said["key"], where)
    return base, said["file"]


def _candidates(value: object, where: str) -> list[tuple[Candidate, str]]:
    entries = cast("list[object]", value) if isinstance(value, list) else []
    if not 0 < len(entries) <= MOST_CANDIDATES:
        raise PackageError(f"{where}: candidates is {shown(value)}: expected a list of 1 to {MOST_CANDIDATES:,}.")
    found: list[tuple[Candidate, str]] = []
    for number, one in enumerate(entries):
        place = f"{where}, candidate {number + 1}"
        said = check_fields(one, {"content": _IS_KEY, "file": _IS_FILE, **CANDIDATE}, place)
        figures = {name: _real(said[name]) for name in ("accuracy", "tpr", "fpr", "correlation", "seconds")}
        candidate = check_candidate(Candidate(**_some(said, CANDIDATE, figures)))
        _same_key(candidate.content, said["content"], place)
        found.append((candidate, said["file"]))
    if len({one.content for one, _ in found}) < len(found):
        raise PackageError(f"{where} has a candidate twice.")
    return found


def _package(value: object, candidates: Sequence[Candidate], where: str) -> Package:
    fields = {**PACKAGE, "name": _IS_NAME, "key": _IS_KEY, "version": _VERSION, "created": _ANY, "events": _ANY}
    said = check_fields(value, fields, where)
    events = None
    if said["events"] is not None:
        given = check_fields(said["events"], EVENTS, f"{where}, events")
        measured = tuple(given["measured"])
        events = EventFigures(**{name: float(given[name]) for name in EVENTS if name != "measured"}, measured=measured)
    plain = _some(said, PACKAGE, {"classes": tuple(said["classes"])})
    new = check_package(NewPackage(**plain, events=events))
    _same_key(package_key(new, candidates), said["key"], where)
    return Package(
        **plain, events=events, key=said["key"], version=said["version"], created=_moment(said["created"], where),
        candidates=tuple(candidates),
    )  # fmt: skip


def _some(said: Mapping[str, Any], fields: Fields, made: Mapping[str, Any]) -> dict[str, Any]:
    """The values of some fields, those in `made` as they are there."""
    return {name: said[name] for name in fields} | dict(made)


def _moment(value: object, where: str) -> dt.datetime | None:
    try:
        return None if value is None else dt.datetime.fromisoformat(str(value))
    except ValueError as error:
        raise PackageError(
            f"{where}: created is {shown(value)}: expected a time such as 2026-11-20T10:00:00Z."
        ) from error


def _same_key(made: str, said: str, where: str) -> None:
    if made != said:
        raise PackageError(f"{where} was altered: its key is {said[:12]}, that of its content {made[:12]}.")


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def _digest(body: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(canonical(dict(body)).encode()).hexdigest()
    except (NotJSON, ValueError, RecursionError):  # an infinity (1e999), half a letter, too deep
        return ""


def _no_number(said: str) -> NoReturn:
    raise PackageError(f"has {said} for a number: expected finite numbers.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise PackageError("names a field twice in one object.")
    return made
