"""Runs: the list, and one with its curves, its numbers and where its time went."""

from collections.abc import Mapping
from typing import Any

from tamis.flows.web.asked import Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.store.boxes import ANNOTATIONS, DETECT

Row = dict[str, Any]
LISTED = 50
_STATES = ("", "finished", "running", "failed", "interrupted")

_LIST = paged(
    """select r.run, r.kind, r.dataset, r.model, r.status, r.selection, r.updated,
              (r.metrics->>'accuracy')::double as accuracy, (r.seconds->>'total')::double as total
       from runs r
       where contains(lower(concat_ws(' ', r.run, r.kind, r.dataset, r.model, r.config::varchar)), lower($q))
         and ($kind = '' or r.kind = $kind) and ($status = '' or r.status = $status)
         and ($dataset = '' or r.dataset = $dataset or split_part(r.dataset, '@', 1) = $dataset)""",
    "updated desc, run",
)
_KINDS = "select list(distinct kind order by kind) as kinds from runs"


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Runs that match a search, the newest first."""
    asked = {name: query.text(name) for name in ("q", "kind", "dataset")}
    asked["status"] = query.choice("status", _STATES)
    page, rows = page_of(answer(site.store, _LIST, asked | span(query, LISTED)), query, LISTED)
    kinds = answer(site.store, _KINDS)[0]["kinds"] or []
    return asked | {"states": _STATES[1:], "kinds": kinds, "page": page.row(), "runs": rows}


def one(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """One run."""
    found = site.store.runs.get(path["key"])
    history = found.metrics.get("history") or []
    selection = None if found.selection is None else site.store.selections.find(found.selection)
    names = ("key", "kind", "dataset", "model", "status", "error", "config", "seconds")
    return {name: getattr(found, name) for name in names} | {
        "metrics": {n: v for n, v in found.metrics.items() if not isinstance(v, list | dict)},
        "nested": sorted(n for n, v in found.metrics.items() if isinstance(v, list | dict) and n != "history"),
        "history": history,
        "curves": curves(history),
        "selection": None if selection is None else selection.ref,
        "selection_key": found.selection,
        "has_losses": found.kind == "train" and found.key in site.store.runs.with_losses(),
        "has_boxes": found.kind in (DETECT, ANNOTATIONS),
        "has_scores": found.kind == "score",
        "model_run": found.config.get("model_run") if isinstance(found.config.get("model_run"), str) else None,
    }


def curves(history: list[dict[str, Any]]) -> list[Row]:
    """What was measured epoch by epoch: losses together, other measures each for itself."""
    if not history:
        return []
    epochs = [row.get("epoch") for row in history]
    names = [n for n in history[0] if n not in ("epoch", "seconds", "selecting", "backprops")]
    losses = [name for name in names if "loss" in name]
    groups = [("Loss", losses), *((name, [name]) for name in names if name not in losses)]
    return [
        {"title": title, "curves": [{"name": n, "x": epochs, "y": [row.get(n) for row in history]} for n in group]}
        for title, group in groups
        if group
    ]
