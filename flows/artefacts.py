"""What Prefect shows of a flow's run beside its log: what it came to, where to look at it, how far it is.

One place for all flows: `told` around a flow's function makes a table of the results, a page about the run and a link
to the store; inside, `Steps` and `heard` keep progress of tasks. A run never fails because of these: a server that does
not take one is named in the log.
"""

import functools
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from pydantic import BaseModel

from tamis.flows.progress import Advance, listening
from tamis.store.advice import command
from tamis.store.roots.roots import Root

P = ParamSpec("P")
R = TypeVar("R")

_SOON = 5.0  # s after which something has a progress of its own, and between two of its updates
_KINDS = ("package", "selection", "run", "dataset")  # of what a result names, the most telling first
_REFUSED = (httpx.HTTPError, PrefectException)
PAGE = "TAMIS_PAGE"  # the address of `tamis ui`, where there is one


def told(body: Callable[P, R]) -> Callable[P, R]:
    """A flow's function that tells what it came to. Its signature and name stay: a server reads them."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        began = time.monotonic()
        with listening(_heard):
            result = body(*args, **kwargs)
        store = str(kwargs["store"] if "store" in kwargs else args[0])
        _tell(body.__name__.removesuffix("_flow"), store, rows_of(result), time.monotonic() - began)
        return result

    return run


class Steps:
    """Progress of some tasks of a kind, as an artefact; nothing for a single one.

    Args:
        what: they do.
        count: of them.
    """

    def __init__(self, what: str, count: int) -> None:
        self._what, self._count, self._done = what, count, 0
        self._shown = _progress(f"tamis-{what}", f"{what}: 0 of {count}") if count > 1 else None

    def done(self) -> None:
        """One more has ended."""
        self._done += 1
        if self._shown is not None:
            said = f"{self._what}: {self._done} of {self._count}"
            _update(self._shown, 100 * self._done / self._count, said)


def rows_of(result: Any) -> list[dict[str, Any]]:
    """What a flow came to as rows of plain values: one a model, or one for all."""
    found = result if isinstance(result, list | tuple) else [result]
    rows = [one.model_dump(mode="json") if isinstance(one, BaseModel) else one for one in found]
    return [dict(row) if isinstance(row, Mapping) else {"result": row} for row in rows]


def key_of(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What names the results in the store: keys of runs, or name@version of the rest."""
    kind = _kind(rows)
    named = [str(row[kind]) for row in rows if row.get(kind)] if kind else []
    return ", ".join(named) or None


def _kind(rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((kind for kind in _KINDS if any(isinstance(row.get(kind), str) for row in rows)), None)


def _tell(flow: str, store: str, rows: list[dict[str, Any]], seconds: float) -> None:
    key, name = key_of(rows), f"tamis-{flow.replace('_', '-')}"
    log = get_run_logger()
    log.info("%s came to %s in %.1f s", flow, key or "no result of its own", seconds, extra={"key": key})
    root, kind = Root(store), _kind(rows)
    look = [command(root, kind, "show", one) for one in (key or "").split(", ") if kind and one]
    head = f"{seconds:.1f} s on the store `{root.url}`: **{key or 'done'}**."
    page = "\n".join([f"# {flow}", "", head, "", *(f"- {one}" for one in look)])
    with _suffered():
        create_markdown_artifact(page, key=name, description=f"What {flow} came to")
        create_table_artifact([{k: _cell(v) for k, v in row.items()} for row in rows], key=f"{name}-results")
        create_link_artifact(_link(root, kind, key), link_text=key or root.url, key=f"{name}-link")


def _link(root: Root, kind: str | None, key: str | None) -> str:
    """Where a browser looks at a result: the page of `tamis ui` where one is named, else the store's place."""
    page = os.environ.get(PAGE)
    if page and kind and key and ", " not in key:
        return f"{page.rstrip('/')}/{kind}s/{key}"
    return page or (root.url if root.path is None else Path(root.path).absolute().as_uri())


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _heard(what: str, total: float) -> Advance:
    """Progress inside a task: an artefact where it takes longer than some seconds."""
    began, done, shown = time.monotonic(), 0.0, None
    updated = began

    def advance(step: float) -> None:
        nonlocal done, shown, updated
        done += step
        now = time.monotonic()
        if (now - updated < _SOON and done < total) or (shown is None and now - began < _SOON):
            return
        updated = now
        percent = min(100.0, 100 * done / total) if total else 100.0
        if shown is None:
            shown = _progress(f"tamis-{what}", what)
        if shown is not None:
            _update(shown, percent, f"{what}: {done:,.0f} of {total:,.0f}")

    return advance


def _progress(key: str, said: str) -> UUID | None:
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in key.lower())
    with _suffered():
        made: Any = create_progress_artifact(0.0, key=plain.strip("-"), description=said)  # outside async: no coroutine
        return made
    return None


def _update(shown: UUID, percent: float, said: str) -> None:
    with _suffered():
        update_progress_artifact(shown, progress=percent, description=said)


@contextmanager
def _suffered() -> Generator[None]:
    """Within: what the server does not take is logged, and nothing more."""
    try:
        yield
    except _REFUSED as error:
        get_run_logger().warning("The server did not take an artefact: %s", error)
