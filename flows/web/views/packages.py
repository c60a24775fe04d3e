"""Packages: the list, and one with what its candidates trade for being shared."""

from collections.abc import Mapping
from typing import Any

from tamis.flows.web.asked import Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.store.packages.records import Candidate

Row = dict[str, Any]
LISTED, PROFILES = 50, 4

_LIST = paged(
    """select name || '@' || version as ref, name, dataset, selection, base, len(candidates) as candidates,
              event_class, image_size, created
       from packages where contains(lower(concat_ws(' ', name, dataset, event_class)), lower($q))""",
    "created desc, ref",
)
_PROFILES = """
    select device, threads, batch, version, segments, rest from profiles where base = $base
    qualify row_number() over (partition by device, threads, batch order by version desc) = 1
    order by created desc limit $most"""
_SHOWN = ("key", "branch", "branchpoint", "frozen", "parameters", "accuracy", "tpr", "fpr", "correlation", "seconds",
          "bytes", "pareto")  # fmt: skip


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Packages, the newest first."""
    q = query.text("q")
    page, rows = page_of(answer(site.store, _LIST, {"q": q} | span(query, LISTED)), query, LISTED)
    return {"q": q, "page": page.row(), "packages": rows}


def one(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """One package: its candidates, and accuracy over shared layers and over time of its own a frame."""
    found = site.store.packages.get(path["ref"])
    profiles = answer(site.store, _PROFILES, {"base": found.base, "most": PROFILES})
    names = ("ref", "key", "name", "version", "base", "dataset", "selection", "classes", "event_class", "image_size")
    events = found.events
    return {name: getattr(found, name) for name in names} | {
        "seed": found.seed,
        "created": found.created,
        "events": None if events is None else vars(events) | {"measured": list(events.measured)},
        "candidates": [{name: getattr(c, name) for name in _SHOWN} for c in found.candidates],
        "profiles": [
            {n: p[n] for n in ("device", "threads", "batch")}
            | {"own_ms": [_own(p["segments"], p["rest"], c) for c in found.candidates]}
            for p in profiles
        ],
    }


def _own(segments: list[float], rest: float | None, candidate: Candidate) -> float:
    """Milliseconds a frame of what a candidate does not share with others."""
    return 1e3 * (sum(segments[candidate.branch :]) + (rest or 0.0))
