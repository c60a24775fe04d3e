"""The pages: their addresses, and how plain values become HTML or JSON.

What: `VIEWS` lists every page; each is also had as JSON, at the same address with `.json` behind it. `Pages.html` makes
the page of a view's values, `plain` makes them JSON.
How: Jinja escapes every value; what is HTML already is made by `tamis.flows.web.charts` alone.
"""

import datetime as dt
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from tamis.flows.web import formats
from tamis.flows.web.asked import Query
from tamis.flows.web.charts import areas, bars, lines
from tamis.flows.web.site import Site
from tamis.flows.web.views import (
    choices,
    costs,
    datasets,
    detections,
    home,
    losses,
    packages,
    runs,
    scores,
    selections,
    sql,
)

Row = dict[str, Any]
Show = Callable[[Site, Mapping[str, str], Query], Row]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class View:
    """A page.

    Attributes:
        path: its address, with names in braces.
        template: that shows it.
        show: gives what it shows.
        section: of the menu.
    """

    path: str
    template: str
    show: Show
    section: str


VIEWS = (
    View("/", "home.html", home.show, "home"),
    View("/datasets", "datasets.html", datasets.listed, "datasets"),
    View("/datasets/{ref}", "dataset.html", datasets.one, "datasets"),
    View("/datasets/{ref}/classes", "classes.html", datasets.classes, "datasets"),
    View("/datasets/{ref}/samples/{sample}", "sample.html", datasets.sample, "datasets"),
    View("/selections", "selections.html", selections.listed, "selections"),
    View("/selections/{ref}", "selection.html", selections.one, "selections"),
    View("/selections/{ref}/classes", "balance.html", choices.classes, "selections"),
    View("/selections/{ref}/scores", "scores.html", choices.of_scores, "selections"),
    View("/selections/{ref}/overlap", "overlap.html", choices.overlap, "selections"),
    View("/selections/{ref}/payback", "payback.html", costs.of_selection, "selections"),
    View("/compare", "compare.html", choices.compared, "selections"),
    View("/runs", "runs.html", runs.listed, "runs"),
    View("/runs/{key}", "run.html", runs.one, "runs"),
    View("/runs/{key}/scores", "scores.html", scores.of_run, "runs"),
    View("/losses", "losses.html", losses.listed, "losses"),
    View("/losses/{key}", "loss.html", losses.one, "losses"),
    View("/losses/{key}/bands", "bands.html", losses.bands, "losses"),
    View("/losses/{key}/map", "map.html", losses.datamap, "losses"),
    View("/detections", "detections.html", detections.listed, "detections"),
    View("/detections/{key}", "frames.html", detections.one, "detections"),
    View("/packages", "packages.html", packages.listed, "packages"),
    View("/packages/{ref}", "package.html", packages.one, "packages"),
    View("/costs", "costs.html", costs.show, "costs"),
    View("/sql", "sql.html", sql.show, "sql"),
)


class Pages:
    """Makes pages.

    Args:
        prefect: address of Prefect's page; None where there is none.
        alone: they are files of their own: nothing is linked, and images are in them.
    """

    def __init__(self, prefect: str | None = None, *, alone: bool = False) -> None:
        self._made = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._made.filters.update(formats.FILTERS)
        known: dict[str, Any] = {"lines": lines, "bars": bars, "areas": areas}
        known |= {"prefect": prefect, "alone": alone, "asset": cache(asset)}
        self._made.globals.update(known)

    def html(self, template: str, /, **values: Any) -> str:
        """A page."""
        return self._made.get_template(template).render(**values)


def asset(name: str) -> str:
    """The address of a file of the page: another one whenever its content is another."""
    return f"/static/{name}?v={hashlib.sha256((HERE / 'static' / name).read_bytes()).hexdigest()[:16]}"


def plain(value: Any) -> bytes:
    """Values as JSON: times as text, and what JSON has no number for as null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
