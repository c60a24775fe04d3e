"""A selection, or several side by side, as one file of HTML that needs nothing else.

What: `write(store, refs, out)` writes the same views as the page: facts, kept beside dropped, class balance, scores,
payback and lineage of each selection, and a comparison where there are several.
How: the style sheet and the images, as data, are in the file; no script is, and its own policy lets nothing be loaded.
Cost: reading and decoding the images shown, some kB each in the file.
"""

import base64
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tamis.flows.web.asked import Query
from tamis.flows.web.pages import HERE, Pages
from tamis.flows.web.site import Site
from tamis.flows.web.thumbnails import SIZES, Thumbnails
from tamis.flows.web.views import choices, costs, selections
from tamis.store import Store
from tamis.store.datasets import Dataset

MOST = 8  # selections a file


def write(store: Store, refs: Sequence[str], out: str, *, first: int | None = None, images: int = 30) -> list[str]:
    """Write the file; one that is there is replaced.

    Args:
        store: an open store.
        refs: selections: name, name@version or key; MOST at most.
        out: the file.
        first: how many of the first samples are kept; None for all.
        images: of the kept, and of the dropped, at most.

    Returns:
        name@version of each.

    Raises:
        SelectionNotFound: naming what there is.
        SelectionError: they choose from different datasets.
    """
    site, pages = Site(store, Thumbnails(store)), Pages(alone=True)
    found = [store.selections.get(ref).ref for ref in dict.fromkeys(refs)]
    query = Query([("k", str(first))] if first is not None else [])
    shown = [_one(site, pages, ref, query, images) for ref in found]
    pair = choices.side_by_side(site, found) if len(found) > 1 else None
    made = pages.html(
        "report.html", refs=found, selections=shown, comparison=_comparison(pages, pair), query=query, section="",
        here="/compare", site_name=store.root.url, made=version("tamis"),
        style=Markup((HERE / "static" / "style.css").read_text()),  # ours, and no element ends within it
    )  # fmt: skip
    Path(out).write_text(made, encoding="utf-8")
    return found


def _one(site: Site, pages: Pages, ref: str, query: Query, images: int) -> dict[str, Any]:
    selection = site.store.selections.get(ref)
    dataset, path = site.dataset(selection.dataset), {"ref": ref}
    values = selections.facts(selection, dataset) | selections.lineage(site, selection)
    values |= selections.cut(site, selection, dataset, query, images)
    embedded = _embedded(site, dataset, [*values["kept"], *values["dropped"]])
    blocks = {
        "parts_balance.html": choices.classes(site, path, query) if dataset.has_classes else None,
        "parts_scores.html": choices.of_scores(site, path, query),
        "parts_payback.html": costs.of_selection(site, path, query),
    }
    shared: dict[str, Any] = {"query": query, "here": f"/selections/{ref}", "embedded": embedded}

    def part(template: str, found: dict[str, Any]) -> Markup:
        return Markup(pages.html(template, **found, **shared))

    return {
        "head": part("parts_selection.html", values),
        "cut": part("parts_cut.html", values),
        "made": part("parts_made.html", values),
        "blocks": [part(name, found) for name, found in blocks.items() if found is not None],
    }


def _comparison(pages: Pages, values: dict[str, Any] | None) -> Markup:
    if values is None:
        return Markup("")
    shared: dict[str, Any] = {"query": Query(), "here": "/compare", "embedded": {}}
    table, matrix = (Markup(pages.html(f"parts_{name}.html", **values, **shared)) for name in ("compare", "overlap"))
    return table + Markup('<section class="card">{}</section>').format(matrix)


def _embedded(site: Site, dataset: Dataset, cells: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The images of a page as data, by their addresses."""
    places = site.thumbnails.places(dataset, [cell["sample"] for cell in cells])
    made = (site.thumbnails.image(dataset, place, SIZES[0]) for place in places)
    data = (f"data:{one.media};base64,{base64.b64encode(one.data).decode()}" for one in made)
    return {cell["image"]: text for cell, text in zip(cells, data, strict=True)}
