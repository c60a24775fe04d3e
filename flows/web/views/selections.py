"""Selections: the list, and one with its images in the order of selection, what is kept beside what is dropped.

How: a slider says how many of the first samples are kept. What is dropped comes after them: first the following ranks,
then samples that were never selected, drawn from all over the dataset. The page shows some of both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.flows.web.asked import Page, Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.flows.web.views.images import cells, shape
from tamis.store.datasets import Dataset
from tamis.store.keys import KEY
from tamis.store.selections import Selection

Row = dict[str, Any]
Ints = NDArray[np.int64]
LISTED, IMAGES = 50, 30  # rows a page; images kept, and images dropped
_STRIDE = 0.6180339887  # of the samples that were never selected: successive ones lie far apart

_ORDERS = {
    "newest": "created desc, ref",
    "name": "ref",
    "largest": "size desc, ref",
    "dearest": "seconds desc, ref",
}
_LIST = """
    select name || '@' || version as ref, selection as key, name, version, dataset, method, size, rounds, seed,
           seconds, params::varchar as params, created
    from selections
    where contains(lower(concat_ws(' ', name, dataset, method, params::varchar, selection)), lower($q))
      and ($method = '' or method = $method) and ($dataset = '' or dataset = $dataset
                                                  or split_part(dataset, '@', 1) = $dataset)"""
_CHOICES = """
    select (select list(distinct method order by method) from selections) as methods,
           (select list(distinct dataset order by dataset)[:200] from selections) as datasets"""
_USED = """
    select run, model, status, (metrics->>'accuracy')::double as accuracy, (seconds->>'total')::double as total, updated
    from runs where kind = 'train' and selection = $key order by updated desc limit 12"""
_INPUTS = "select run, kind, dataset, model, status, (seconds->>'total')::double as total from runs where run in ({})"


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Selections that match a search, a page of them."""
    asked = {"q": query.text("q"), "method": query.text("method"), "dataset": query.text("dataset")}
    order = query.choice("order", [*_ORDERS])
    rows = answer(site.store, paged(_LIST, _ORDERS[order]), asked | span(query, LISTED))
    page, shown = page_of(rows, query, LISTED)
    choices = {name: found or [] for name, found in answer(site.store, _CHOICES)[0].items()}
    return asked | {"order": order, "orders": [*_ORDERS], "page": page.row(), "selections": shown} | choices


def one(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """One selection: how it was made, what it has cost, and its images with the first k kept."""
    found = site.store.selections.get(path["ref"])
    dataset = site.dataset(found.dataset)
    return facts(found, dataset) | lineage(site, found) | cut(site, found, dataset, query)


def facts(found: Selection, dataset: Dataset) -> Row:
    """How a selection was made."""
    names = ("ref", "key", "name", "version", "dataset", "method", "method_version", "params", "seed", "size")
    rounds = [vars(head) for head in found.rounds[:500]]
    return {name: getattr(found, name) for name in names} | {
        "seconds": found.seconds,
        "cost": found.stats.get("seconds") or {},
        "samples": dataset.samples,
        "has_classes": dataset.has_classes,
        "rounds": rounds,
        "round_count": len(found.rounds),
        "stats": {n: v for n, v in found.stats.items() if n != "seconds"},
    }


def lineage(site: Site, found: Selection) -> Row:
    """What a selection was made from, and which training runs used it."""
    keys = [key for key in found.inputs if KEY.fullmatch(key)][:12]
    made = answer(site.store, _INPUTS.format(", ".join(f"'{key}'" for key in keys))) if keys else []
    return {
        "inputs": [{"key": key} | next((r for r in made if r["run"] == key), {}) for key in found.inputs[:12]],
        "used": answer(site.store, _USED, {"key": found.key}),
    }


def cut(site: Site, found: Selection, dataset: Dataset, query: Query, images: int = IMAGES) -> Row:
    """So many images of the first k, and of what is dropped then."""
    number, samples, weights, k = first(site, found, query)
    kept = Page(query.whole("kept", 1, 1), images, k, "kept")
    dropped = Page(query.whole("dropped", 1, 1), images, dataset.samples - k, "dropped")
    places = range(k + dropped.first, k + dropped.last)
    out = [int(s) for s in samples[k + dropped.first : k + dropped.last]]
    rest = [i - len(samples) for i in places if i >= len(samples)]
    out += never(samples, dataset.samples, rest)
    shown = cells(site, dataset, [*samples[kept.first : kept.last].tolist(), *out])
    ranked, size = [*range(kept.first, kept.last), *places], len(samples)
    for cell, rank in zip(shown, ranked, strict=True):
        cell |= {"rank": rank, "weight": float(weights[rank])} if rank < size else {"rank": None, "weight": None}
    count = kept.last - kept.first
    return {
        "round": number, "k": k, "of": size, "weighted": bool(np.ptp(weights) > 0), "shape": shape(site, dataset),
        "kept_page": kept.row(), "kept": shown[:count], "dropped_page": dropped.row(), "dropped": shown[count:],
    }  # fmt: skip


def first(site: Site, found: Selection, query: Query) -> tuple[int, Ints, NDArray[np.float32], int]:
    """The round that is looked at, its samples and weights in rank order, and how many of the first are kept."""
    rounds = site.rounds(found)
    number = query.whole("round", 0, 0, len(rounds) - 1)
    samples, weights = rounds[number]
    return number, samples, weights, min(query.whole("k", len(samples), 1), len(samples))


def never(samples: Ints, count: int, places: Sequence[int]) -> list[int]:
    """Some of the samples that were not selected, in an order that goes all over the dataset.

    Args:
        samples: selected, each once.
        count: N, of the dataset.
        places: in that order, each below N - len(samples).
    """
    if not places:
        return []
    there = count - len(samples)
    stride = next(s for s in range(max(1, int(there * _STRIDE)), there + 2) if np.gcd(s, there) == 1)
    i = np.asarray(places, np.int64) * stride % there
    # Of the sorted selected samples, the j-th has that many unselected ones before it.
    before = np.sort(samples) - np.arange(len(samples))
    return (i + np.searchsorted(before, i, side="right")).tolist()
