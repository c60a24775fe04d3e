"""Histograms of scores: of a dataset, and of some of its samples in front."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.store.datasets import Dataset
from tamis.store.keys import KEY

Row = dict[str, Any]
BINS, RUNS = 40, 6

_RUNS = """
    select run, dataset, config, updated from runs
    where kind = 'score' and status = 'finished' and (dataset = $dataset or run in (select unnest($runs)))
    order by run in (select unnest($runs)) desc, updated desc limit $most"""
_METRICS = "select distinct metric from scores where run = $run order by metric limit 40"


def score_runs(site: Site, dataset: str, inputs: Sequence[str] = ()) -> list[str]:
    """Runs that scored a dataset: those that are named first, then the newest."""
    keys = [key for key in inputs if KEY.fullmatch(key)]
    rows = answer(site.store, _RUNS, {"dataset": dataset, "runs": keys, "most": RUNS})
    return [row["run"] for row in rows if row["dataset"] == dataset]


def of_run(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """The scores that a run gave."""
    run = site.store.runs.get(path["key"])
    dataset = site.dataset(run.dataset)
    return {"key": run.key} | scores(site, dataset, [run.key], query, {})


def scores(
    site: Site, dataset: Dataset, runs: Sequence[str], query: Query, parts: Mapping[str, NDArray[np.int64]],
    measure: str | None = None,
) -> Row:  # fmt: skip
    """A histogram.

    Args:
        site: the site.
        dataset: whose samples were scored.
        runs: that can be asked for; the first is shown where none is.
        query: `run` and `metric`.
        parts: samples that are counted for themselves too.
        measure: the metric where none is asked for.

    Returns:
        run, runs, metric, metrics, edges [B + 1], counts {name: [B]}, without: how many have no score.
    """
    nothing: Row = {"run": None, "runs": [], "metric": None, "metrics": [], "edges": [], "counts": {}, "without": 0}
    if not runs:
        return nothing
    run = query.choice("run", runs)
    metrics = [row["metric"] for row in answer(site.store, _METRICS, {"run": run})]
    if not metrics:
        return nothing | {"run": run, "runs": list(runs)}
    usual: str = measure if measure is not None and measure in metrics else metrics[0]
    metric = query.choice("metric", [usual, *(m for m in metrics if m != usual)])
    values = site.scores(run, metric, dataset)
    there = values[np.isfinite(values)]
    edges = _edges(there)
    counts = {"all": np.histogram(there, edges)[0].tolist()} if len(edges) else {}
    for name, samples in parts.items() if len(edges) else ():
        some = values[samples]
        counts[name] = np.histogram(some[np.isfinite(some)], edges)[0].tolist()
    return {
        "run": run, "runs": list(runs), "metric": metric, "metrics": metrics, "edges": edges.tolist(),
        "counts": counts, "without": int(len(values) - len(there)),
    }  # fmt: skip


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(values):
        return np.empty(0)
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high if high > low else low + 1, BINS + 1)
