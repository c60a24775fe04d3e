"""What a query's connection can open, whatever SQL reaches it: here the check of the statement is left out."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec import AbstractFileSystem
from storekit import WRITES_IN_CTE, publish

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import QueryError, QueryRefused, StoreFormatError, TamisError
from tamis.store.sql.files import TableFiles, connect, lock, memory_limit, parse_memory
from tamis.store.sql.query import ask, fetch
from tamis.store.sql.statements import tables_read
from tamis.store.tables.tables import TABLES

# {inside} lies in the store's tables folder, {live} is a file of it, {known} that file's name for the connection.
ATTACKS = [
    "copy (select 1 as a) to '{live}' (format parquet)",
    "copy (select 1 as a) to '{inside}'",
    "copy (select 1 as a) to '{outside}'",
    "copy (select 1 as a) to '{known}' (format parquet)",
    "copy (select 1 as a) to '{known}' (format parquet, use_tmp_file false)",
    "copy (select 1 as a) to 'tamis://new.parquet'",
    "copy (select 1 as a) to 'tamis://new.csv' (use_tmp_file false)",
    "copy (select 1 as a, 2 as b) to 'tamis://datasets' (format parquet, partition_by a, overwrite)",
    "copy (select 1 as a) to 'tamis://datasets' (format parquet, per_thread_output, overwrite)",
    "copy (select 1 as a) to 'tamis://../../x'",
    "copy (select 1 as a) to 'TAMIS://x'",
    "copy (select 1 as a) to 'file://{outside}'",
    "copy (select 1 as a) to '/dev/stdout'",
    "copy (select 1 as a) to '{link}/x'",
    "with x as (copy (select 1 as a) to '{live}' (format parquet)) select * from x",
    "attach '{outside}' as other",
    "attach '{live}' as other",
    "attach 'tamis://other' as other",
    "export database '{outside}'",
    "export database 'tamis://x'",
    "import database '{outside}'",
    "install httpfs",
    "load httpfs",
    "load '{secret}'",
    "set lock_configuration = false",
    "set enable_external_access = true",
    "set allowed_directories = ['/']",
    "set temp_directory = '{outside}'",
    "set profiling_output = '{outside}'; set enable_profiling = 'json'",
    "pragma enable_profiling = 'json'",
    "set log_query_path = '{outside}'",
    "from read_text('{secret}')",
    "from read_blob('{secret}')",
    "from read_csv('{secret}')",
    "from '{secret}'",
    "from read_text('{link}/secret.csv')",
    "from read_text('{live}')",
    "from read_text('tamis:///{secret}')",
    "from read_text('tamis://../secret.csv')",
    "from read_csv('tamis://{secret}')",
    "from parquet_metadata('{live}')",
    "from sniff_csv('{secret}')",
    "from read_text('http://127.0.0.1:9/x')",
    "from read_parquet('https://127.0.0.1:9/x.parquet')",
    "from read_parquet('s3://bucket/x.parquet')",
    "select getenv('HOME')",
    "from held",
]


@pytest.fixture
def places(store: Store, tmp_path: Path, dataset: Dataset) -> dict[str, str]:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhush\n")
    tables = Path(store.root.table_uri(""))
    (tables / "link").symlink_to(tmp_path)
    return {
        "secret": str(secret),
        "outside": str(tmp_path / "out"),
        "inside": str(tables / "out"),
        "link": str(tables / "link"),
        "live": str(next((tables / "datasets").glob("*.parquet"))),
        "known": "tamis://datasets/0.parquet",
    }


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def answer_of(connection: duckdb.DuckDBPyConnection, statement: str) -> str:
    try:
        return str(connection.execute(statement).fetchall())
    except duckdb.Error as error:
        return f"refused: {error}"


def test_no_statement_writes_or_reads_anything_else(store: Store, places: dict[str, str], tmp_path: Path) -> None:
    before = content(tmp_path)
    held = pa.table({"word": ["hush"]})
    for statement in ATTACKS:
        connection = ask(store.tables, store.root, "select * from datasets").connection
        answered = answer_of(connection, statement.format(**places))
        assert "hush" not in answered, statement
        assert answered == "[]" or answered.startswith("refused: "), statement
        assert content(tmp_path) == before, statement
    assert held.num_rows == 1
    assert store.datasets.get("digits").ref == "digits@1"


def test_what_is_attached_is_changed_in_memory_alone(store: Store, places: dict[str, str], tmp_path: Path) -> None:
    """DuckDB 2 takes a Parquet file for a database; what is made in it stays in memory."""
    before = content(tmp_path)
    connection = ask(store.tables, store.root, "select * from datasets").connection
    for statement in ("attach '{known}' as other", "create table other.t as select 1", "checkpoint other"):
        try:
            connection.execute(statement.format(**places))
        except duckdb.Error:
            continue
    assert content(tmp_path) == before


def test_a_serialised_statement_is_not_run(store: Store, places: dict[str, str], tmp_path: Path) -> None:
    """The engine runs a tree that its own check of the statement never saw."""
    before = content(tmp_path)
    copy = f"with x as (copy (select 1 as a) to '{places['live']}' (format parquet)) select * from x"
    tree = json.dumps(json.loads(duckdb.sql("select json_serialize_sql($1::varchar)", params=[copy]).fetchall()[0][0]))
    asked = "select * from json_execute_serialized_sql($1)"
    with pytest.raises(QueryRefused, match="calls json_execute_serialized_sql"):
        store.query(asked, [tree])
    with pytest.raises(duckdb.Error):
        ask(store.tables, store.root, "select * from datasets").connection.execute(asked, [tree]).fetchall()
    assert content(tmp_path) == before


def test_every_verb_of_a_file_system_but_reading_is_refused() -> None:
    files = TableFiles()
    reading = {
        "open", "exists", "isfile", "isdir", "glob", "info", "size", "modified", "unstrip_protocol", "refuse", "fail",
        "add",
    }  # fmt: skip
    verbs = {v for v in dir(AbstractFileSystem) if not v.startswith("_") and callable(getattr(AbstractFileSystem, v))}
    assert verbs >= {"rm", "mv", "mkdir", "pipe", "put", "touch", "copy", "makedirs", "created", "ls", "cat"}
    for verb in verbs - reading:
        with pytest.raises(QueryRefused, match="writes none"):
            getattr(files, verb)("tamis://x")


@pytest.mark.parametrize("mode", ["wb", "ab", "rb+", "r+b", "xb", "w", "r"])
def test_no_other_mode_opens_a_file(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "run=a%20b" / "a.parquet"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    files = TableFiles()
    [name] = files.add("losses", str(tmp_path), pa.table({"path": ["run=a%20b/a.parquet"]}))
    assert name == "tamis://losses/run=a%20b/0.parquet"
    assert files.open(name).read(3) == b"abc"
    with pytest.raises(QueryRefused):
        files.open(name, mode)
    with pytest.raises(QueryRefused):
        files.open(str(path))
    with pytest.raises(QueryRefused):
        files.open(name).write(b"x")


def test_a_file_has_one_position_for_each_thread(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 40)
    files = TableFiles()
    [name] = files.add("runs", str(tmp_path), pa.table({"path": [path.name]}))
    file = files.open(name)
    together = threading.Barrier(8)

    def read(part: int) -> bool:
        for step in range(100):
            begin = (part * 31 + step * 7) % 10_000
            file.seek(begin)
            together.wait(10)
            if file.read(5) != (bytes(range(256)) * 40)[begin : begin + 5] or file.tell() != begin + 5:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


@pytest.mark.parametrize("damage", ["gone", "cut", "fifo", "folder"])
def test_a_file_that_cannot_be_read_is_named(store: Store, dataset: Dataset, damage: str) -> None:
    publish(store, dataset, chosen=range(1000))
    path = next(Path(store.root.table_uri("selection_samples")).rglob("*.parquet"))
    asked = ask(store.tables, store.root, "select * from selection_samples")
    size = path.stat().st_size
    path.unlink()
    if damage == "cut":
        path.write_bytes(b"PAR1" * (size // 8))
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(TamisError) as caught:
        fetch(asked)
    if damage != "cut":  # what is cut is taken for another file, by its size
        assert isinstance(caught.value, StoreFormatError)
        assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_file_that_ends_too_early_is_never_read_as_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": range(100_000)}), path)
    files = TableFiles()
    [name] = files.add("runs", str(tmp_path), pa.table({"path": [path.name]}))
    file = files.open(name)
    os.truncate(path, 1000)
    file.seek(990)
    with pytest.raises(StoreFormatError, match="ends after 1000 bytes, expected 1990"):
        file.read(1000)


def test_what_does_not_fit_goes_to_a_folder_of_the_query_alone_which_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    connection = connect(TableFiles(), 64 * 2**20)
    lock(connection, reads_files=True)
    [folder] = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    limit = connection.sql("select value from duckdb_settings() where name = 'max_temp_directory_size'").fetchall()
    assert limit[0][0].endswith("iB")
    sorting = connection.execute("select a from range(6000000) t(a) order by a * 7 % 1000003, a")
    assert sorting.fetchone() == (0,)
    assert any(folder.rglob("*.tmp"))
    del sorting, connection
    assert not list(tmp_path.iterdir())


def test_without_a_place_to_spill_to_memory_must_do(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    assert store.query("select count(*) as n from datasets")["n"].to_pylist() == [0]
    with pytest.raises(QueryError, match=r"needs more than the 67 MB of memory.*--memory 8GB"):
        store.query("select a from range(30000000) t(a) order by a * 7 % 1000003", memory=64 * 2**20)


def test_an_answer_may_not_be_larger_than_the_query_may(store: Store) -> None:
    with pytest.raises(QueryError, match="The answer takes more than the 67 MB"):
        store.query("select a from range(100000000) t(a)", memory=64 * 2**20)


def test_memory_can_be_set(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    asked = "select current_setting('memory_limit') as set"
    assert store.query(asked, memory=2**30)["set"].to_pylist() == ["1.0 GiB"]
    monkeypatch.setenv("TAMIS_SQL_MEMORY", "512MiB")
    assert store.query(asked)["set"].to_pylist() == ["512.0 MiB"]
    monkeypatch.setenv("TAMIS_SQL_MEMORY", "plenty")
    with pytest.raises(QueryError, match="'plenty' is not a memory limit"):
        store.query(asked)
    monkeypatch.delenv("TAMIS_SQL_MEMORY")
    assert 64 * 2**20 <= memory_limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@pytest.mark.parametrize("text", ["", "1", "-5GB", "1e9", "64 parsecs", "inf", "٣GB", "9" * 40])
def test_what_is_no_memory_limit(text: str) -> None:
    with pytest.raises(QueryError, match="is not a memory limit"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("select 1", set[str]()),
        ("from range(3)", set()),
        ("-- from scores\nfrom runs", {"runs"}),
        ("/* x */ explain -- y\n (format json) /* z */ select 'é' from scores", {"scores"}),
        ("explain (from runs)", {"runs"}),
        ("explain analyze from RUNS", {"runs"}),
        ("with a as (from runs), b as (from scores) from a, b", {"runs", "scores"}),
        ("with runs as (from runs) from runs", {"runs"}),
        ("with recursive r as (select 1 as n union all select n + 1 from r where n < 3) from r, losses", {"losses"}),
        ("pivot runs on status in ('finished') using count(*)", {"runs"}),
        ("from range(3), information_schema.tables", set(TABLES)),
        ("from duckdb_columns()", set(TABLES)),
        ("describe runs", set(TABLES)),
        ("from query_table('runs')", set(TABLES)),
        ("from query('from runs')", set(TABLES)),
    ],
)
def test_which_tables_a_statement_reads(query: str, named: set[str]) -> None:
    assert tables_read(query, TABLES) == named


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("explain /* x */ analyze copy (select 1) to 'x'", "is of the kind COPY"),
        ("explain execute p", "is of the kind EXECUTE"),
        pytest.param("explain analyze with x as (copy (select 1) to 'x') from x", "holds COPY", marks=WRITES_IN_CTE),
        ("from query('copy (select 1) to ''x''')", "is of the kind COPY"),
        ("from query('fr' || 'om runs')", "takes one text"),
        ("from query(getvariable('x'))", "takes one text"),
        ("pivot samples on label using count(*)", r" in \(0, 1"),
        ("-- x\nexplain pivot samples on label using count(*)", r" in \(0, 1"),
        ("from (pivot samples on label using count(*))", r" in \(0, 1"),
        ("select (select count(*) from read_text('x'))", "calls read_text"),
        ("from Glob('*')", "calls glob"),
        ("from json_execute_serialized_sql('x')", "calls json_execute_serialized_sql"),
        ("from enable_logging('x')", "calls enable_logging"),
        ("from read_duckdb('x')", "calls read_duckdb"),
    ],
)
def test_statements_that_are_not_taken(query: str, why: str) -> None:
    with pytest.raises(QueryRefused, match=why):
        tables_read(query, TABLES)


@pytest.mark.parametrize("query", ["select " + "1+" * 3000 + "1", "select " + "(" * 5000 + ")" * 5000, "\udcff"])
def test_texts_that_no_parser_takes(store: Store, query: str) -> None:
    with pytest.raises(QueryError):
        store.query(query)
