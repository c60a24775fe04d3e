"""Loss histories: which runs have one, and of a run its quantiles by epoch and its data map.

How: of a run with more than `ROWS` rows, the charts are told from some of its epochs, evenly spaced, and some of its
samples, drawn by a hash of their numbers, and say so; files of other epochs are not read. The charts come after the
page, and are ended when they take too long.
Cost: one scan of two columns of the rows of `FEW` epochs.
Source: the data map of Swayamdipta et al., Dataset Cartography, EMNLP 2020, section 2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tamis.flows.web.asked import Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.store.history import SHARES, with_losses

Row = dict[str, Any]
ROWS = 2_000_000
LISTED, EPOCHS, FEW, ACROSS, UP = 50, 400, 20, 48, 32
SECONDS = 30.0  # of a chart

_LIST = paged(
    """select run, dataset, model, status, updated, (metrics->>'accuracy')::double as accuracy,
              (config->>'epochs')::int as epochs
       from runs where run in (select unnest($keys)) and contains(lower(concat_ws(' ', run, dataset, model)), lower($q))
    """,
    "updated desc, run",
)
_COUNT = "select count(*) as rows from losses where run = $run"
_SOME = "run = $run and {epochs} and ($every = 1 or hash(sample) % $every = 0)"
_BANDS = """
    select epoch, count(*) as samples, avg(loss) as mean, quantile_cont(loss, {shares}) as quantiles,
           avg(correct::int) as accuracy, avg(selected::int) as selected, max(staleness) as staleness
    from losses where {some} and loss is not null group by epoch order by epoch limit {most}"""
# 0.5 is the largest standard deviation of numbers from 0 to 1.
_MAP = """
    with points as (select avg(exp(-loss)) as confidence, stddev_pop(exp(-loss)) as variability
                    from losses where {some} and loss is not null and staleness = 0 group by sample)
    select least({across} - 1, floor(variability / 0.5 * {across}))::int as across,
           least({up} - 1, floor(least(1, greatest(0, confidence)) * {up}))::int as up, count(*) as samples
    from points group by all"""


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Runs that have losses."""
    asked: dict[str, Any] = {"q": query.text("q")}
    keys = sorted(site.store.runs.with_losses())
    page, rows = page_of(answer(site.store, _LIST, asked | {"keys": keys} | span(query, LISTED)), query, LISTED)
    return asked | {"page": page.row(), "runs": rows}


def one(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """A run that has losses; its charts are pages of their own."""
    key = with_losses(site.store, path["key"])
    found = site.store.runs.get(key)
    return {
        "key": key, "dataset": found.dataset, "model": found.model, "status": found.status,
        "last_epoch": site.store.runs.last_epoch(key),
    }  # fmt: skip


def bands(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """Quantiles of the losses by epoch."""
    key = with_losses(site.store, path["key"])
    rows, every, some = _drawn(site, key)
    asked = _BANDS.format(some=some, shares=[*SHARES], most=EPOCHS)
    found = answer(site.store, asked, {"run": key, "every": every}, seconds=SECONDS)
    return {"key": key, "rows": rows, "every": every, "shares": list(SHARES), "epochs": found}


def datamap(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """How many samples have which confidence and variability, in cells."""
    key = with_losses(site.store, path["key"])
    rows, every, some = _drawn(site, key)
    asked = _MAP.format(some=some, across=ACROSS, up=UP)
    cells = answer(site.store, asked, {"run": key, "every": every}, seconds=SECONDS)
    counts = np.zeros((ACROSS, UP), np.int64)
    for cell in cells:
        if cell["across"] is not None:
            counts[cell["across"], cell["up"]] += cell["samples"]
    return {"key": key, "rows": rows, "every": every, "counts": counts.tolist()}


def _drawn(site: Site, key: str) -> tuple[int, int, str]:
    """How many rows a run has, the how-manieth sample is looked at, and which rows those are, as SQL."""
    rows = answer(site.store, _COUNT, {"run": key}, seconds=SECONDS)[0]["rows"]
    if rows <= ROWS:
        return rows, 1, _SOME.format(epochs="true")
    last = site.store.runs.last_epoch(key)
    epochs = sorted({round(i * last / (FEW - 1)) for i in range(FEW)})
    looked = rows * len(epochs) // (last + 1)
    return rows, max(1, -(-looked // ROWS)), _SOME.format(epochs=f"epoch in ({', '.join(map(str, epochs))})")
