"""SQL over loss history at size: 100 runs x 20 epochs x 50,000 samples are 10^8 rows, one file an epoch.

The peer is DuckDB by hand: `read_parquet` over the same list of files, given to it. Both begin with a new connection
and end with an Arrow table, so ours pays for reading the table's log and for the views.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from benchlib import Result, folder, medians
from deltalake import DeltaTable

from tamis.store import Store

BY_HAND = "read_parquet(getvariable('files'), hive_partitioning = true)"
QUERIES = {
    "newest loss by sample, one run": "select sample, arg_max(loss, epoch) as loss from {losses} where run = '{run}' "
    "group by sample",
    "newest loss by sample, all runs": "select run, sample, arg_max(loss, epoch) as loss from {losses} "
    "group by run, sample",
    "top 10,000 by mean loss": "select sample, avg(loss) as mean from {losses} group by sample "
    "order by mean desc, sample limit 10000",
    "one sample's history": "select run, epoch, loss from {losses} where sample = 77 order by run, epoch",
}


def run(quick: bool, data: Path | None) -> list[Result]:
    runs, epochs, samples = (3, 2, 100) if quick else (100, 20, 50_000)
    with folder(kept=f"losses-{runs}x{epochs}x{samples}") as path:
        store = build(path / "store", runs, epochs, samples)
        results = [line for name in QUERIES for line in _compare(store, name, 2 if quick else 5)]
        return [*results, *(_memory(path / "store", name) for name in QUERIES)]


def build(path: Path, runs: int, epochs: int, samples: int) -> Store:
    """A store with that loss history; what an earlier, interrupted build left is used."""
    store = Store.open_or_create(path)
    done = {r.key for r in store.runs.all() if r.status == "finished"}
    everyone = np.arange(samples)
    for number in range(runs):
        key = _key(number)
        if key in done:
            continue
        store.runs.begin(kind="train", key=key, dataset="made@1")
        for epoch in range(epochs):
            draw = np.random.default_rng([number, epoch])
            loss = draw.exponential(2.0 / (epoch + 1), samples).astype(np.float32)
            store.runs.put_losses(key, epoch, everyone, loss, epoch, selected=loss > 0.1)
        store.runs.finish(key)
    return store


def _compare(store: Store, name: str, repeats: int) -> list[Result]:
    text = QUERIES[name]
    ours = text.format(losses="losses", run=_key(1))
    theirs = text.format(losses=BY_HAND, run=_key(1))
    log = store.root.table_uri("losses")
    files = DeltaTable(log).file_uris()
    _same(store.query(ours), _by_hand(files, theirs).to_arrow_table())
    work: list[Callable[[], object]] = [
        lambda: store.query(ours),
        lambda: _by_hand(files, theirs).to_arrow_table(),
        lambda: store.sql(ours),
        lambda: _by_hand(files, theirs),
        lambda: _by_hand(DeltaTable(log).file_uris(), theirs).to_arrow_table(),
    ]
    all_ours, all_theirs, connect_ours, connect_theirs, listed = medians(repeats, *work)
    note = f"{len(files)} files"
    return [
        Result(name, all_ours, "s", "DuckDB by hand", all_theirs, 1.3, note),
        Result("  the same", all_ours, "s", "by hand, reading the log", listed, note=note),
        Result("  of it, until DuckDB begins", connect_ours, "s", "DuckDB by hand", connect_theirs, note=note),
    ]


def _by_hand(files: list[str], query: str) -> duckdb.DuckDBPyRelation:
    connection = duckdb.connect()
    connection.execute("set variable files = ?", [files])
    return connection.sql(query)


def _same(ours: pa.Table, theirs: pa.Table) -> None:
    order = [(name, "ascending") for name in ours.column_names if name in ("run", "sample", "epoch")]
    ours, theirs = ours.sort_by(order), theirs.sort_by(order)
    if ours.num_rows != theirs.num_rows or not ours["sample" if "sample" in ours.column_names else "epoch"].equals(
        theirs["sample" if "sample" in theirs.column_names else "epoch"]
    ):
        raise RuntimeError("The two ways of asking do not agree: what is compared is not the same work.")


def _memory(path: Path, name: str) -> Result:
    """Peak resident memory of a fresh process that asks once."""
    query = QUERIES[name].format(losses="losses", run=_key(1))
    done = subprocess.run([sys.executable, __file__, str(path), query], check=True, capture_output=True, text=True)
    return Result(f"memory: {name}", round(int(done.stdout) / 2**20, 3), "GB", target=4, note="peak, fresh process")


def _key(number: int) -> str:
    return f"{number:032x}"


if __name__ == "__main__":
    Store.open(sys.argv[1]).query(sys.argv[2])
    # Not getrusage: that remembers the size of the process that started this one.
    print(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]
    )
