"""The first page: how much there is, and what is newest. One query, over the tables that name things."""

from collections.abc import Mapping
from typing import Any

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site

Row = dict[str, Any]

_HOME = """
    with last_runs as (select run, kind, dataset, model, status, updated, (metrics->>'accuracy')::double as accuracy
                       from runs order by updated desc limit 8),
         last_selections as (select name, version, dataset, method, size, rounds, seconds, created
                             from selections order by created desc limit 6),
         last_datasets as (select dataset, version, samples, shards, bytes, created
                           from datasets order by created desc limit 5)
    select (select count(distinct dataset) from datasets) as datasets,
           (select count(*) from datasets) as dataset_versions,
           (select coalesce(sum(samples), 0)::bigint from (select arg_max(samples, version) as samples from datasets
                                                           group by dataset)) as samples,
           (select count(*) from selections) as selections,
           (select coalesce(sum(seconds), 0) from selections) as selecting,
           (select count(*) from packages) as packages,
           (select count(*) from runs) as runs,
           (select count(*) from runs where status = 'running') as running,
           (select count(*) from runs where status = 'failed') as failed,
           (select coalesce(sum((seconds->>'total')::double), 0) from runs where kind = 'train') as training,
           (select list(r) from last_runs r) as last_runs,
           (select list(s) from last_selections s) as last_selections,
           (select list(d) from last_datasets d) as last_datasets"""


def show(site: Site, _path: Mapping[str, str], _query: Query) -> Row:
    """Counts, seconds spent, and the newest runs, selections and datasets."""
    found = answer(site.store, _HOME)[0]
    lists = {name: found[name] or [] for name in ("last_runs", "last_selections", "last_datasets")}
    return {"store": site.store.root.url} | found | lists
