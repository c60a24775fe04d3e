"""What selecting has cost, and after how many training runs it has paid for itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.store.run import Run
from tamis.store.selections import Selection

Row = dict[str, Any]
RUNS, FULL = 24, 60

_RUN = "run, kind, dataset, model, config, selection, status, metrics, seconds, blob, error"
_ON = f"""
    select {_RUN} from runs where kind = 'train' and status = 'finished' and selection is not null
      and ($key = '' or selection = $key) and (metrics->'history') is not null order by updated desc limit $most"""
_FULL = f"""
    select {_RUN} from runs where kind = 'train' and status = 'finished' and selection is null
      and dataset in (select unnest($datasets)) and (metrics->'history') is not null
    order by updated desc limit $most"""
_METHODS = """
    select method, count(*) as selections, sum(seconds) as seconds, median(seconds) as median
    from selections group by method order by seconds desc limit 24"""
_TRAINING = """
    select count(*) as runs, coalesce(sum((seconds->>'total')::double), 0) as seconds,
           coalesce(sum((seconds->>'select')::double), 0) as selecting from runs where kind = 'train'"""
_SHOWN = ("run", "way", "method", "selection", "dataset", "model", "best", "accuracy", "seconds", "full",
          "full_seconds", "selecting", "speedup", "saved", "pays_after", "note")  # fmt: skip


def show(site: Site, _path: Mapping[str, str], _query: Query) -> Row:
    """Seconds of selecting by method, beside those of training; what the newest selections have saved."""
    methods = answer(site.store, _METHODS)
    training = answer(site.store, _TRAINING)[0]
    return {"methods": methods, "training": training, "rows": paid(site)}


def of_selection(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """What a selection has cost, and what each training run on it has saved."""
    found = site.store.selections.get(path["ref"])
    parts = found.stats.get("seconds") or {"select": found.seconds}
    return {"ref": found.ref, "seconds": found.seconds, "cost": parts, "rows": paid(site, found.key)}


def paid(site: Site, key: str = "") -> list[Row]:
    """The newest training runs on selections (on one), each beside full training; none that was not evaluated."""
    from tamis.training.reports.speedup import Curve, find_full, speedup

    runs = _runs(answer(site.store, _ON, {"key": key, "most": RUNS}))
    runs = [run for run in runs if Curve.of(run) is not None]
    if not runs:
        return []
    datasets = sorted({run.dataset for run in runs})
    full = _runs(answer(site.store, _FULL, {"datasets": datasets, "most": FULL}))
    selections: dict[str, Selection | None] = {}
    for run in runs:
        if run.selection is not None and run.selection not in selections:
            selections[run.selection] = site.store.selections.find(run.selection)
    rows = [asdict(speedup(run, find_full(run, full), selections.get(run.selection or ""))) for run in runs]
    return [{name: row[name] for name in _SHOWN} for row in rows]


def _runs(rows: Sequence[Row]) -> list[Run]:
    named = ("config", "metrics", "seconds")
    return [
        Run(**{"key" if n == "run" else n: json.loads(v) if n in named else v for n, v in row.items()}) for row in rows
    ]
