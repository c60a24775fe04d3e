"""SQL is read-only, sees the store's own tables and nothing else, shows only what is published, and can look back."""

import datetime as dt
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from storekit import WRITES_IN_CTE, counts, publish

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import QueryError, QueryRefused, TamisError
from tamis.store.sql.views import VIEWS
from tamis.store.tables.tables import TABLES

# {inside} is a file name in the store's own tables folder, {outside} one elsewhere.
WRITING = [
    "copy runs to '{outside}'",
    "copy runs to '{inside}'",
    "copy (select 1) to '{inside}' (format parquet)",
    "COPY (SELECT 1) TO '{outside}' (FORMAT csv)",
    "copy runs from '{secret}'",
    "explain analyze copy (select 1) to '{inside}'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{inside}'",
    "explain (analyze, format json) copy (select 1) to '{inside}'",
    "/* a comment */ explain analyze copy (select 1) to '{inside}'",
    "-- a comment\ncopy (select 1) to '{inside}'",
    "-- a comment\nexplain /* another */ analyze copy (select 1) to '{inside}'",
    "with x as (copy (select 1) to '{inside}') select * from x",
    "with x as (copy (select 1) to '{outside}') select * from x",
    "with a as (select 1), x as (copy (select * from runs) to '{inside}' (format parquet)) from a, x",
    "explain analyze with x as (copy (select 1) to '{inside}') select * from x",
    "select * from (with x as (copy (select 1) to '{inside}') select * from x)",
    "select (with x as (copy (select 1) to '{inside}') select count(*) from x)",
    "select * from query('with x as (copy (select 1) to ''{inside}'') from x')",
    "select * from query('copy (select 1) to ''{inside}''')",
    "with x as (insert into runs values (1) returning *) select * from x",
    "with x as (delete from runs returning *) select * from x",
    "with x as (update runs set run = 'x' returning *) select * from x",
    "select 1; copy (select 1) to '{inside}'",
    "select 1; select 2",
    "insert into runs values (1)",
    "update runs set status = 'finished'",
    "delete from runs",
    "truncate runs",
    "merge into runs using scores on true when matched then delete",
    "create table t (i int)",
    "create temp table t (i int)",
    "create table t as select 1",
    "create or replace view runs as select 1",
    "create macro f() as 1",
    "create schema s",
    "create sequence s",
    "create type t as enum ('a')",
    "create secret s (type s3)",
    "create index i on runs (run)",
    "alter view runs rename to r",
    "drop view runs",
    "comment on view runs is 'x'",
    "attach '{outside}' as other",
    "attach ':memory:' as other",
    "detach memory",
    "use memory",
    "install httpfs",
    "load httpfs",
    "force install httpfs from 'http://localhost:1'",
    "set threads = 1",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "set allowed_directories = ['/']",
    "set variable x = 1",
    "reset threads",
    "pragma enable_profiling",
    "pragma database_size",
    "call pragma_version()",
    "export database '{outside}'",
    "import database '{outside}'",
    "checkpoint",
    "vacuum",
    "analyze",
    "begin",
    "commit",
    "rollback",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "",
    "   ",
    ";",
    "-- nothing",
]

READING = [
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_csv('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from sniff_csv('{secret}')",
    "from '{secret}'",
    "select * from '{secret}'",
    "select * from glob('{folder}/*')",
    "select * from glob('/etc/*')",
    "select * from read_text('{mark}')",
    "select * from read_text('{tables}/../tamis.json')",
    "select * from read_text('http://localhost:1/x')",
    "select * from 's3://bucket/x.parquet'",
    "select * from duckdb_secrets()",
    "select * from which_secret('s3://a', 's3')",
    "explain analyze select * from read_text('{secret}')",
    "with x as (from read_text('{secret}')) from x",
    "select * from query('from read_text(''{secret}'')')",
    "select (select content from read_text('{secret}'))",
    "select * from sqlite_scan('{secret}', 'x')",
    "select * from getenv('HOME')",
    "select getenv('HOME')",
]


@pytest.fixture
def places(store: Store, tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhush\n")
    tables = store.root.table_uri("")
    return {
        "secret": str(secret), "folder": str(tmp_path), "outside": str(tmp_path / "out"), "inside": f"{tables}out",
        "tables": tables.rstrip("/"), "mark": f"{store.root.url}/tamis.json",
    }  # fmt: skip


def files_below(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


def test_nothing_that_writes_is_taken(store: Store, places: dict[str, str], tmp_path: Path) -> None:
    before = files_below(tmp_path)
    for statement in WRITING:
        with pytest.raises((QueryRefused, QueryError)) as caught:
            store.query(statement.format(**places))
        assert isinstance(caught.value, TamisError), statement
        assert files_below(tmp_path) == before, statement


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("copy runs to '{inside}'", "is of the kind COPY"),
        ("/* a comment */ explain analyze copy (select 1) to '{inside}'", "is of the kind COPY"),
        pytest.param("with x as (copy (select 1) to '{inside}') from x", "holds COPY", marks=WRITES_IN_CTE),
        pytest.param("with x as (delete from runs returning *) from x", "holds DELETE", marks=WRITES_IN_CTE),
        ("drop view runs", "is of the kind DROP"),
        ("select 1; select 2", "holds 2 statements; expected one that selects"),
    ],
)
def test_refusal_shows_the_statement_and_why(store: Store, places: dict[str, str], statement: str, what: str) -> None:
    with pytest.raises(QueryRefused, match=f"^[\"'].*{what}") as caught:
        store.query(statement.format(**places))
    assert isinstance(caught.value, PermissionError)
    assert "read-only: select, describe, summarize and explain" in str(caught.value) or "one that selects" in what


def test_no_foreign_file_is_read(store: Store, places: dict[str, str]) -> None:
    for statement in READING:
        with pytest.raises((QueryRefused, QueryError)) as caught:
            pytest.fail(f"{statement} was answered with {store.query(statement.format(**places)).to_pylist()}")
        assert "hush" not in str(caught.value), statement


def test_reading_a_foreign_file_says_why_not(store: Store, places: dict[str, str]) -> None:
    with pytest.raises(QueryRefused, match=r"SQL sees the store's own tables and nothing else: datasets, shards"):
        store.query("from read_text('{secret}')".format(**places))


def test_variables_of_the_calling_program_are_out_of_reach(store: Store) -> None:
    secret = pa.table({"word": ["hush"]})
    for statement in (
        "select * from secret",
        "select * from query('from secret')",
        "select * from query_table('secret')",
    ):
        with pytest.raises(QueryError, match=r"secret does not exist"):
            store.query(statement)
    assert secret.num_rows == 1


@pytest.mark.parametrize(
    "statement",
    [
        "select 1",
        "select 1;",
        "values (1)",
        "from runs",
        "table runs",
        "FROM Main.RUNS",
        "describe runs",
        "summarize runs",
        "show tables",
        "explain select * from runs",
        "explain analyze select * from runs",
        "-- why\nexplain select 1",
        "with a as (from runs), b as materialized (from scores) from a, b",
        "with recursive r as (select 1 as n union all select n + 1 from r where n < 3) from r",
        "select * from runs union all select * from runs",
        "pivot runs on status in ('finished') using count(*)",
        "select * from query('from runs')",
        "select * from query_table('runs')",
        "select * from information_schema.tables",
        "select $word as word",
        "select count(*) from selections natural join selection_rounds natural join selection_samples",
    ],
)
def test_what_reads_is_taken(store: Store, statement: str) -> None:
    store.query(statement, {"word": "x"} if "$word" in statement else None)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("selekt 1", 'syntax error at or near "selekt"'),
        ("select * from selektions", "selektions does not exist"),
        ("select nope from runs", 'column "nope" not found'),
        ("select 'a'::int", "Could not convert"),
        ("select error('at run time')", "at run time"),
        ("select ?", "Values were not provided|parameter"),
    ],
)
def test_typos_are_told_with_the_names_of_the_tables(store: Store, statement: str, message: str) -> None:
    with pytest.raises(QueryError, match=rf"(?s){message}.*Tables: datasets, shards, samples, runs, ") as caught:
        store.query(statement)
    assert isinstance(caught.value, ValueError)


def test_an_error_in_the_middle_of_an_answer(store: Store, dataset: Dataset) -> None:
    with pytest.raises(QueryError, match="too late"):
        store.query("select case when sample > 1400 then error('too late') else sample end from samples")


def test_every_view_is_there_and_empty_at_first(store: Store) -> None:
    assert counts(store) == dict.fromkeys(TABLES, 0)
    assert store.query("show tables")["name"].to_pylist() == sorted(VIEWS)
    assert (
        store.query("select (select count(*) from losses_newest) + (select count(*) from loss_stats) as n")["n"][
            0
        ].as_py()
        == 0
    )


def test_views_have_the_same_columns_empty_and_full(store: Store, dataset: Dataset) -> None:
    def columns(at: dict[str, int] | None) -> dict[str, list[tuple[str, str]]]:
        rows = {name: store.query(f"describe {name}", at=at).to_pylist() for name in TABLES}
        return {name: [(row["column_name"], row["column_type"]) for row in found] for name, found in rows.items()}

    publish(store, dataset)
    store.runs.begin(kind="score", key="aaaa1", dataset=dataset.ref)
    store.runs.put_scores("aaaa1", {"entropy": [0.1]}, [0])
    store.runs.put_losses("aaaa1", 0, [0], [0.1], 0)
    store.runs.finish("aaaa1")
    full, empty = columns(None), columns(dict.fromkeys(TABLES, 0))
    assert full == empty
    assert not any(name == "attempt" for found in full.values() for name, _ in found)


def test_what_an_unfinished_run_left_is_not_seen(store: Store, dataset: Dataset) -> None:
    store.runs.put_losses("aaaa1", 0, [0, 1], [0.1, 0.2], 0)
    store.runs.put_scores("aaaa1", {"entropy": [0.1]}, [0])
    assert (counts(store)["losses"], counts(store)["scores"]) == (0, 0)
    store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref)
    assert (counts(store)["losses"], counts(store)["scores"]) == (2, 0)
    store.runs.fail("aaaa1", "no luck")
    assert (counts(store)["losses"], counts(store)["scores"]) == (2, 0)
    store.runs.finish("aaaa1")
    assert (counts(store)["losses"], counts(store)["scores"]) == (2, 1)


def test_the_newest_event_of_a_run_is_its_state(store: Store, dataset: Dataset) -> None:
    for step in (
        lambda: store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref, config={"lr": 0.1}),
        lambda: store.runs.fail("aaaa1", "no luck"),
        lambda: store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref, config={"lr": 0.1}),
        lambda: store.runs.finish("aaaa1", metrics={"accuracy": 0.9}, seconds={"train": 2.0}),
        lambda: store.runs.finish("aaaa1", metrics={"accuracy": 0.1}),
        lambda: store.runs.fail("aaaa1", "too late"),
    ):
        step()
    rows = store.query("select run, status, error, metrics->>'accuracy' as accuracy, config->>'lr' as lr from runs")
    assert rows.to_pylist() == [{"run": "aaaa1", "status": "finished", "error": None, "accuracy": "0.9", "lr": "0.1"}]
    assert [r.metrics for r in store.runs.all()] == [{"accuracy": 0.9}]


def test_a_query_sees_one_state_whatever_is_published_meanwhile(store: Store, dataset: Dataset) -> None:
    publish(store, dataset)
    answer = store.sql("select count(*) as n from selection_samples")
    publish(store, dataset, seed=1)
    assert answer.to_arrow_table()["n"].to_pylist() == [3]
    assert counts(store)["selection_samples"] == 6


def test_looking_back_by_version(store: Store, dataset: Dataset) -> None:
    before = store.tables.versions()
    publish(store, dataset)
    between = store.tables.versions()
    publish(store, dataset, seed=1)
    asked = "select count(*) as n from selections join selection_samples using (selection)"
    found = [store.query(asked, at=at)["n"][0].as_py() for at in (before, between, None)]
    assert found == [0, 3, 6]
    heads_only = {"selections": between["selections"]}
    assert store.query(asked, at=heads_only)["n"][0].as_py() == 3


def test_looking_back_by_time(store: Store, dataset: Dataset) -> None:
    times = []
    for seed in range(3):
        time.sleep(0.02)
        times.append(dt.datetime.now(dt.UTC))
        time.sleep(0.02)
        publish(store, dataset, seed=seed)
    asked = "select (select count(*) from selections) as heads, (select count(*) from selection_samples) as rows"
    found = [store.query(asked, at=at).to_pylist()[0] for at in times]
    assert found == [{"heads": n, "rows": 3 * n} for n in range(3)]
    local = times[2].astimezone().replace(tzinfo=None)
    assert store.query(asked, at=local).to_pylist() == found[2:]
    assert store.query(asked, at=dt.datetime(2001, 1, 1)).to_pylist() == found[:1]
    assert store.query(asked, at=dt.datetime(2999, 1, 1)).to_pylist() == [{"heads": 3, "rows": 9}]


def test_looking_back_at_losses_that_were_replaced(store: Store, dataset: Dataset) -> None:
    store.runs.begin(kind="train", key="aaaa1", dataset=dataset.ref)
    store.runs.put_losses("aaaa1", 0, np.arange(3), [0.1, 0.2, 0.3], 0)
    before = store.tables.versions()
    store.runs.put_losses("aaaa1", 0, np.arange(2), [0.5, 0.5], -1)
    asked = "select sample, loss, staleness from losses order by sample"
    assert store.query(asked)["staleness"].to_pylist() == [1, 1]
    assert store.query(asked, at=before)["sample"].to_pylist() == [0, 1, 2]


def test_history_is_kept_however_old_it_is(store: Store, dataset: Dataset) -> None:
    """Delta drops log entries of a month ago at its next checkpoint unless it is told not to."""
    log = Path(store.root.table_uri("runs")) / "_delta_log"
    for number in range(105):
        if number == 97:
            for entry in log.iterdir():
                os.utime(entry, (long_ago := time.time() - 90 * 86_400, long_ago))
        store.runs.begin(kind="train", key=f"run{number}", dataset=dataset.ref)
    assert any(entry.name.endswith(".checkpoint.parquet") for entry in log.iterdir())
    assert store.query("select count(*) as n from runs", at={"runs": 3})["n"][0].as_py() == 3
    assert len(store.runs.all()) == 105
