"""What SQL sees of a store: a view a table, over the files that belong to something published, all of one state.

Heads decide. The files of a payload are those of attempts that the head names, whatever state of the payload's own log
is asked for; only what a run writes part by part (losses, looks, events) is looked at as it was. A merged file holds
rows of many attempts: where the head is looked at as it was before the merging, the view takes the rows of its attempts
only.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tamis.store.datasets.changes import holding
from tamis.store.processes import is_gone
from tamis.store.tables.arrow import pc
from tamis.store.tables.claims import FINISHED
from tamis.store.tables.lives import COLUMNS, numbered
from tamis.store.tables.log import Row
from tamis.store.tables.snapshot import At, Snapshot
from tamis.store.tables.specs import LOG, TABLES
from tamis.store.tables.tables import Tables

# The order in which tables are opened: what a row refers to is published before it, so it is opened after it.
_ORDER = (
    "packages",
    "candidates",
    "profiles",
    "bases",
    "selections",
    "priorities",
    "runs",
    "datasets",
    *(name for name, spec in TABLES.items() if spec.head),
    "dataset_changes",
)
_HIDDEN = {"attempt", "files", "process"}

# What a view shows, where that is not simply the table's columns without what is hidden.
_VIEWS = {
    # Runs are events; the newest is the state, and `finished` is final.
    "runs": f"""select run, kind, dataset, model, config::json as config, selection,
                       case when status = 'running' and process in (select unnest(getvariable('gone')))
                            then 'interrupted' else status end as status,
                       metrics::json as metrics, seconds::json as seconds, blob, error, code, updated, {LOG}
                from {{source}}
                qualify row_number() over (
                    partition by run order by status = 'finished' desc, {LOG} desc nulls last, updated desc) = 1""",
    # Classes have the names that the run gave them.
    "boxes": """with kinds as (select run, from_json(config -> '$.classes', '["VARCHAR"]') as names
                               from runs where kind in ('detect', 'annotations')),
                     named as (select run, unnest(names) as class, generate_subscripts(names, 1) - 1 as label
                               from kinds)
                select b.run, b.sample, b.label, n.class, b.score, b.x1, b.y1, b.x2, b.y2
                from {source} b left join named n on b.run = n.run and b.label = n.label""",
    # Of the candidates, which are finished one by one, those of published packages.
    "candidates": f"""select p.name || '@' || p.version as package, c.candidate, c.base, c.branch, c.branchpoint,
                             c.frozen, c.parameters, c.accuracy, c.tpr, c.fpr, c.correlation, p.one.pareto as pareto,
                             c.metrics::json as metrics, c.seconds, c.blob, c.bytes, c.created, c.{LOG}
                      from (select name, version, unnest(candidates) as one from packages) p
                      join {{source}} c on p.one.content = c.content""",
    "packages": """select * exclude (config, lineage), config::json as config, lineage::json as lineage
                   from {source}""",
    "profiles": """select * exclude (stats), stats::json as stats from {source}""",
    "losses": """select run, epoch, sample, loss, loss_epoch, epoch - loss_epoch as staleness, probability, selected,
                        correct
                 from {source}""",
    "priorities": f"""select priority, name, version, function::json as function, search, trial, stats::json as stats,
                      created, {LOG} from {{source}}""",
    "selections": """select * exclude (params, stats, attempt, files), params::json as params, stats::json as stats
                     from {source}""",
}

# Views over views: told from the losses alone, whenever they are asked for.
DERIVED = {
    # The newest loss that there is of each sample, and how old it is when the run's last epoch was recorded.
    "losses_newest": """
        with last as (select run, max(epoch) as last from losses group by run),
             newest as (select run, sample, max(epoch) as epoch, arg_max(loss, epoch) as loss,
                               arg_max(loss_epoch, epoch) as loss_epoch
                        from losses where loss is not null group by run, sample)
        select run, newest.sample, epoch, loss, loss_epoch, last - loss_epoch as staleness
        from newest join last using (run)""",
    # A loss that later epochs use again is in the mean once, by the epoch that computed it; where none is recorded by
    # that, all rows count. Of correctness, rows that do not record it are left out.
    "loss_stats": """
        with followed as (
            select *, lag(correct ignore nulls) over (partition by run, sample order by epoch) as before from losses)
        select run, sample, count(*) as epochs,
               coalesce(avg(loss) filter (staleness = 0), avg(loss)) as mean,
               coalesce(var_pop(loss) filter (staleness = 0), var_pop(loss)) as variance,
               min(loss) as min, max(loss) as max, count(*) filter (selected) as selected,
               case when count(correct) > 0 then count(*) filter (before and not correct) end as forgetting,
               min(epoch) filter (correct) as learnt,
               bool_or(correct) and not arg_max(correct, epoch) as forgotten
        from followed group by run, sample""",
}
VIEWS = (*TABLES, *DERIVED)


@dataclass(frozen=True)
class Visible:
    """The files of one view.

    Attributes:
        state: the table that they are of.
        files: as `Snapshot.files`.
        attempts: the only attempts whose rows count, where files hold rows of others too; None where all count.
    """

    state: Snapshot
    files: pa.Table
    attempts: list[str] | None = None

    @property
    def uneven(self) -> bool:
        """Whether files of earlier versions, which lack columns, may be among them."""
        if self.state.table == "losses":
            return not pc.all(self.files["whole"], min_count=0).as_py()
        digests = pc.match_substring_regex(self.files["path"], r"-[0-9a-f]{32}\.parquet$")
        return TABLES[self.state.table].is_head and not pc.all(digests, min_count=0).as_py()


def visible(tables: Tables, names: Collection[str], at: At = None) -> dict[str, Visible]:
    """Of each table, the files that belong to something published, all of one state of the store.

    Args:
        tables: the store's.
        names: of views.
        at: a time, or `{table: version}`; None for now.
    """
    heads = {TABLES[name].head for name in names}
    # A head that is read first names nothing whose payload is not there yet when that is listed afterwards.
    opened = {name: tables.state(name, _when(name, at)) for name in _ORDER if name in heads or name in names}
    return {name: _visible(tables, opened, name) for name in _ORDER if name in names}


def gone(tables: Tables, at: At = None) -> list[str]:
    """Processes that some run is running in by its last word, and that are over; none in the past."""
    if at is not None:
        return []
    rows = tables.read("runs", None, ["status", "process"])
    running = rows.filter(pc.equal(rows["status"], "running"))["process"].unique().to_pylist()
    return [process for process in running if is_gone(process)]


def tables_of(names: Collection[str]) -> set[str]:
    """The tables behind some views."""
    behind = {"losses" if name in DERIVED else name for name in names}
    return behind | {other for name, other in (("boxes", "runs"), ("candidates", "packages")) if name in behind}


def changes_at(tables: Tables, at: At) -> list[Mapping[str, Any]]:
    """The changes of datasets that count in one state of the store."""
    rows: list[Mapping[str, Any]] = list(tables.rows_in_order("dataset_changes", at))
    state = tables.state("datasets", at) if rows else None
    if state is None or not tables.lives(state).gone:
        return rows
    heads: dict[str, list[Row]] = {}
    for head in sorted(tables.alive(state).to_pylist(), key=lambda head: head["version"]):
        heads.setdefault(head["dataset"], []).append(head)
    return [row for row in rows if holding([row], heads.get(row["dataset"], ()))]


def living(tables: Tables, name: str, state: Snapshot, source: str) -> str:
    """A source of SQL rows of a head, less those of things that were removed, and with the names that things have."""
    if name not in COLUMNS or not len(state.life):
        return source
    lives, (thing, number) = tables.lives(state), numbered(name)
    if lives.gone:
        values = ", ".join(f"('{one}', {low}, {high})" for one, low, high in lives.gone)
        source = f"""(select t.* from {source} t anti join (values {values}) g(thing, low, high)
                      on t."{thing}" = g.thing and coalesce(t."{number}", 0) between g.low and g.high)"""
    if lives.renamed:
        values = ", ".join(f"('{one}', '{called}')" for one, called in lives.renamed.items())
        source = f"""(select t.* replace (coalesce(n.called, t."{thing}") as "{thing}")
                      from {source} t left join (values {values}) n(thing, called) on t."{thing}" = n.thing)"""
    return source


def view(name: str, source: str) -> str:
    """The query that a view stands for, over a source of the table's own rows."""
    columns = ", ".join(f'"{column}"' for column in TABLES[name].schema.names if column not in _HIDDEN)
    return _VIEWS.get(name, f"select {columns} from {{source}}").format(source=source)


def _when(name: str, at: At) -> At:
    """Payloads are taken as they are now, unless their own version is asked for."""
    looks_back = isinstance(at, Mapping) or TABLES[name].head is None or TABLES[name].by_parts
    return at if looks_back else None


def _visible(tables: Tables, opened: Mapping[str, Snapshot], name: str) -> Visible:
    state, head = opened[name], TABLES[name].head
    if head is None:
        return Visible(state, state.published)
    if head == "runs":
        return Visible(state, _of_runs(tables, state, opened[head]))
    attempts = tables.attempts(opened[head])
    files = state.files
    named = pc.is_in(files["attempt"], value_set=pa.array(attempts, pa.string()))
    merged = pc.is_valid(files["upto"])
    later = pc.any(pc.greater(files["upto"], opened[head].version), min_count=0).as_py()
    mixed = later or (pc.any(merged, min_count=0).as_py() and tables.lives(opened[head]).gone)
    return Visible(state, files.filter(pc.or_(named, merged)), sorted(attempts) if mixed else None)


def _of_runs(tables: Tables, state: Snapshot, runs: Snapshot) -> pa.Table:
    """What runs write part by part, of all runs; of finished ones the scores, of the attempt that the run names."""
    if TABLES[state.table].by_parts:
        known = tables.alive(runs, ["run"])["run"].combine_chunks().unique()
        return state.files.filter(pc.is_in(state.files["run"], value_set=known)) if len(state.files) else state.files
    rows = tables.alive(runs, ["run", "status", "attempt"]).to_pylist()
    named = {row["run"]: row["attempt"] for row in rows if row["status"] == FINISHED}
    # Runs of earlier versions name no attempt: all that is there is theirs.
    files = state.files.select(["run", "attempt"]).to_pylist() if len(state.files) else []
    seen = [f["run"] in named and named[f["run"]] in (None, f["attempt"]) for f in files]
    return state.files.filter(pa.array(seen, pa.bool_()))
