"""The first page: how much there is, and what is newest. One query, over the tables that name things."""

from collections.abc import Mapping
from typing import Any

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site

Row = dict[str, Any]

_HOME = """
    with every as materialized (select run, kind, dataset, model, status, updated, metrics, seconds from runs),
         chosen as materialized (select name, version, dataset, method, size, rounds, seconds, created
                                 from selections),
         there as materialized (select dataset, version, samples, shards, bytes, created from datasets),
         last_runs as (select run, kind, dataset, model, status, updated, (metrics->>'accuracy')::double as accuracy
                       from every order by updated desc limit 8),
         last_selections as (from chosen order by created desc limit 6),
         last_datasets as (from there order by created desc limit 5),
         of_runs as (select count(*) as runs, count(*) filter (status = 'running') as running,
                            count(*) filter (status = 'failed') as failed,
                            coalesce(sum((seconds->>'total')::double) filter (kind = 'train'), 0) as training
                     from every)
    select (select count(distinct dataset) from there) as datasets,
           (select count(*) from there) as dataset_versions,
           (select coalesce(sum(samples), 0)::bigint from (select arg_max(samples, version) as samples from there
                                                           group by dataset)) as samples,
           (select count(*) from chosen) as selections,
           (select coalesce(sum(seconds), 0) from chosen) as selecting,
           (select count(*) from packages) as packages,
           (select list(r) from last_runs r) as last_runs,
           (select list(s) from last_selections s) as last_selections,
           (select list(d) from last_datasets d) as last_datasets,
           of_runs.* from of_runs"""


def show(site: Site, _path: Mapping[str, str], _query: Query) -> Row:
    """Counts, seconds spent, and the newest runs, selections and datasets."""
    found = answer(site.store, _HOME)[0]
    lists = {name: found[name] or [] for name in ("last_runs", "last_selections", "last_datasets")}
    return {"store": site.store.root.url} | found | lists
