"""`tamis sql`: every type has a form that others read, nothing is lost, and nothing in an answer steers a terminal."""

import csv
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from terminal import HEARING

from tamis.flows.cli.output import plain
from tamis.flows.escapes import shown, shown_lines
from tamis.store import Store
from tamis.store.sql.query import distinct

ODD = """
    select [1, null, 3] as list, {'a': 'x', 'b': [1.5]} as struct, map {'k': 1} as map, array_value(1, 2) as fixed,
           interval '1 month 2 days' as interval, date 'infinity' as day, timestamp '-infinity' as never,
           timestamptz 'infinity' as always, date '290000-01-01' as far, '\\xAA\\x00'::blob as blob,
           '2bb5c2a8-4c35-4d6f-8a2b-9b2b5f1f1a01'::uuid as uuid, 170141183460469231731687303715884105::hugeint as huge,
           12345678901234567890.123456789::decimal(38, 9) as exact, '101'::bit as bits, time '01:02:03' as time,
           union_value(n := 1) as either, 'a'::enum('a', 'b') as kind, null as nothing, true as yes
"""


def strict(text: str) -> Any:
    """JSON as its standard has it."""

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse, parse_float=str)


@pytest.fixture
def empty(tamis: Any) -> None:
    assert tamis("init").code == 0


@pytest.fixture
def ask(tamis: Any, empty: None) -> Any:
    def asked(*arguments: object) -> str:
        said = tamis("sql", *arguments)
        assert said.code == 0, said.err
        return said.out

    return asked


def test_every_type_has_a_form_in_json(ask: Any) -> None:
    [row] = strict(ask(ODD, "--format", "json"))
    assert row["list"] == [1, None, 3]
    assert row["struct"] == {"a": "x", "b": ["1.5"]}
    assert row["map"] == {"k": 1}
    assert row["fixed"] == [1, 2]
    assert (row["interval"], row["day"], row["never"], row["always"]) == (
        "1 month 2 days", "infinity", "-infinity", "infinity",
    )  # fmt: skip
    assert row["far"].startswith("290000-01-01")
    assert row["huge"] == 170141183460469231731687303715884105
    assert row["exact"] == "12345678901234567890.123456789"  # as a number: no digit is lost
    assert (row["bits"], row["time"], row["kind"], row["nothing"], row["yes"]) == ("101", "01:02:03", "a", None, True)


def test_every_type_has_a_form_in_csv(ask: Any) -> None:
    [row] = csv.DictReader(io.StringIO(ask(ODD, "--format", "csv")))
    assert json.loads(row["list"]) == [1, None, 3]
    assert json.loads(row["struct"]) == {"a": "x", "b": [1.5]}
    assert json.loads(row["map"]) == {"k": 1}
    assert (row["interval"], row["day"], row["never"]) == ("1 month 2 days", "infinity", "-infinity")
    assert (row["huge"], row["exact"]) == ("170141183460469231731687303715884105", "12345678901234567890.123456789")
    assert (row["blob"], row["bits"], row["nothing"]) == ("\\xAA\\x00", "101", "")
    assert row["uuid"] == "2bb5c2a8-4c35-4d6f-8a2b-9b2b5f1f1a01"


def test_every_type_has_a_form_in_parquet(ask: Any, tmp_path: Path) -> None:
    out = tmp_path / "odd.parquet"
    ask(ODD, "--out", out)
    table = pq.read_table(out)
    assert table["list"].to_pylist() == [[1, None, 3]]
    assert table["struct"].to_pylist() == [{"a": "x", "b": [1.5]}]
    assert table["interval"].to_pylist() == ["1 month 2 days"]
    assert table["huge"].type == pa.decimal128(38, 0)
    assert table["blob"].to_pylist() == [b"\xaa\x00"]
    assert table["exact"].type == pa.decimal128(38, 9)
    assert table.num_columns == 19
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_every_type_has_a_form_in_a_table(ask: Any) -> None:
    said = ask(ODD)
    for shown_as in ("[1, NULL, 3]", "1 month 2 days", "infinity", "-infinity", "12345678901234567890.123456789"):
        assert shown_as in said


def test_what_json_has_no_number_for(ask: Any) -> None:
    asked = """select 'nan'::double as a, '-inf'::float as b, ['inf'::double, 1] as c, 'NaN, "Infinity"' as d,
               {'NaN': 'nan'::double} as e, sum(v) as f, avg(v % 10) as g from (values (9007199254740993), (2)) t(v)"""
    assert strict(ask(asked, "--json")) == [{
        "a": "NaN", "b": "-Infinity", "c": ["Infinity", "1.0"], "d": 'NaN, "Infinity"', "e": {"NaN": "NaN"},
        "f": 9007199254740995, "g": "2.5",
    }]  # fmt: skip
    [row] = csv.DictReader(io.StringIO(ask(asked, "--format", "csv")))
    assert strict(row["c"]) == ["Infinity", "1.0"]
    assert math.isnan(float(row["a"]))


def test_answers_of_commands_are_json_too() -> None:
    made = plain(
        {"a": [math.nan, -math.inf, 1.5], "b": np.int64(3), "c": np.float32("nan"), 4: Path("x"), "d": (True,)}
    )
    assert made == {"a": ["NaN", "-Infinity", 1.5], "b": 3, "c": "NaN", 4: "x", "d": [True]}
    json.dumps(made, allow_nan=False)


def test_columns_of_one_name_are_all_there(ask: Any, tmp_path: Path, tamis: Any) -> None:
    asked = 'select 1 as a, 2 as a, 3 as a_1, 4 as A, 5 as " ", 6 as "x""\'y", 7 as a'
    values = {"a": 1, "a_2": 2, "a_1": 3, "A": 4, " ": 5, "x\"'y": 6, "a_3": 7}
    assert json.loads(ask(asked, "--json")) == [values]
    ask(asked, "--out", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [values]
    assert list(csv.reader(io.StringIO(ask(asked, "--format", "csv")))) == [list(values), list("1234567")]
    assert ask(asked).splitlines()[3].replace("│", "").split() == list("1234567")
    assert Store.open(tmp_path / "store").query(asked).to_pylist() == [values]
    assert distinct(["b", "b", "b_1", "b"]) == ["b", "b_2", "b_1", "b_3"]


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_answer_without_rows(ask: Any, form: str, tmp_path: Path) -> None:
    out = tmp_path / "answer"
    ask("select 1 as a, [1] as b limit 0", "--format", form, "--out", out)
    if form == "csv":
        assert out.read_text() == '"a","b"\n'
    elif form == "json":
        assert json.loads(out.read_text()) == []
    else:
        assert pq.read_table(out).column_names == ["a", "b"]


def test_an_answer_of_many_batches_is_whole(ask: Any, tmp_path: Path) -> None:
    asked = "select range as n from range(50001)"
    assert [row["n"] for row in json.loads(ask(asked, "--json"))] == list(range(50001))
    assert ask(asked, "--format", "csv").splitlines() == ['"n"', *map(str, range(50001))]
    ask(asked, "--out", tmp_path / "n.parquet")
    assert pq.read_table(tmp_path / "n.parquet")["n"].to_pylist() == list(range(50001))


def test_json_and_another_format_are_not_both_obeyed(tamis: Any, empty: None, tmp_path: Path) -> None:
    for arguments in (
        ("sql", "select 1", "--json", "--format", "csv"),
        ("sql", "select 1", "--json", "--format", "table"),
        ("selection", "export", "x", "--json", "--format", "parquet"),
        ("sql", "select 1", "--format", "table", "--out", tmp_path / "x"),
    ):
        said = tamis(*arguments)
        assert said.code == 2, arguments
        assert "--format" in said.err
    assert json.loads(tamis("sql", "select 1 as a", "--json", "--format", "json").out) == [{"a": 1}]
    assert not (tmp_path / "x").exists()


def test_a_file_shows_the_whole_answer_or_what_was_there(tamis: Any, empty: None, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("before")
    broken = "select case when range = 70000 then error('too late') else range end as n from range(90000)"
    said = tamis("sql", broken, "--out", out)
    assert said.code == 1
    assert "too late" in said.err
    assert out.read_text() == "before"
    assert {p.name for p in tmp_path.iterdir()} == {"out.csv", "store"}
    assert tamis("sql", "select 1 as a", "--out", out).code == 0
    assert out.read_text() == '"a"\n1\n'


@pytest.mark.parametrize(
    "query",
    [
        "-- how many\nselect 1 as n",
        "--\nselect 1 as n",
        "--json is an option, this is not\nselect 1 as n",
        "--x=1 y\nselect 1 as n",
        "/* x */ select 1 as n -- y",
        "  \n-- x\n\nselect 1 as n;\n-- y",
    ],
)
def test_a_query_may_begin_with_a_comment(tamis: Any, empty: None, query: str) -> None:
    for arguments in ((query, "--format", "csv"), ("--format", "csv", query), ("--format", "csv", "--", query)):
        said = tamis("sql", *arguments)
        assert (said.code, said.out) == (0, '"n"\n1\n'), said.err


def test_mistyped_options_are_still_told(tamis: Any, empty: None) -> None:
    for option in ("--fromat", "--fromat=csv", "-x"):
        said = tamis("sql", "select 1", option)
        assert said.code == 2
        assert "o such option" in said.err


@pytest.mark.parametrize(
    "at",
    ["runs=999999", "runs=99999999999999999999999", "runs=-1", "runs=²", "runs=٣", "runs=", "scores", "0000-00-00"],
)
def test_a_state_that_never_was(tamis: Any, empty: None, at: str) -> None:
    said = tamis("sql", "select count(*) from runs", "--at", at)
    assert said.code == 1
    assert said.err.startswith("Error: ")
    assert len(said.err.splitlines()) == 1, said.err
    assert "is not a state" in said.err or "has no state" in said.err


@pytest.mark.parametrize("at", ["0001-01-01", "9999-12-31T23:59:59", "2999-01-01T00:00:00+14:00", "1969-12-31"])
def test_times_far_away_are_answered_or_refused_in_a_line(tamis: Any, empty: None, at: str) -> None:
    said = tamis("sql", "select count(*) as n from runs", "--at", at)
    assert said.code == 0 or len(said.err.splitlines()) == 1, said.err


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202eevil"


@pytest.fixture
def hostile(tamis: Any, tmp_path: Path) -> None:
    """A dataset whose keys would steer a terminal."""
    with tarfile.open(tmp_path / "h.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for i in range(3):
            for name, data in ((f"{HOSTILE}{i}.png", b"image"), (f"{HOSTILE}{i}.cls", b"1")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    said = tamis("init"), tamis("dataset", "add", "d", tmp_path / "h.tar")
    assert [s.code for s in said] == [0, 0], said


STEERING = ("\x1b", "\x07", "\x9b", "\u202e")


def test_what_would_steer_a_terminal_is_shown(tamis: Any, hostile: None) -> None:
    for arguments in (
        ("sql", "select key from samples"),
        ("sql", 'select 1 as "\x1b[31m"'),
        ("sql", f'select * from "{HOSTILE}"'),
        ("sql", "select error(key) from samples"),
    ):
        said = tamis(*arguments)
        assert not any(mark in said.out + said.err for mark in STEERING), arguments
        assert "\\x1b" in said.out + said.err, arguments
    assert json.loads(tamis("sql", "select key from samples limit 1", "--json").out)[0]["key"] == f"{HOSTILE}0"
    assert shown("a\tb\n\x00\udc80é") == "a\\tb\\n\\x00\\udc80é"
    assert shown_lines("a\n\x1b") == "a\n\\x1b"


def on_terminal(arguments: list[str], columns: int = 80) -> str:
    """What a command sends to a terminal."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tamis.flows.cli", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=env,
    )
    os.close(follower)
    said = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(leader)
    assert process.wait(60) == 0, said
    return said.decode()


def test_csv_and_json_on_a_terminal_do_not_steer_it(hostile: None, tmp_path: Path) -> None:
    for form in ("csv", "json"):
        said = on_terminal(["--store", str(tmp_path / "store"), "sql", "select key from samples", "--format", form])
        assert not any(mark in said for mark in STEERING), said
        assert "evil2" in said


def test_a_narrow_terminal_shows_rows_below_one_another(empty: None, tmp_path: Path) -> None:
    columns = ", ".join(f"'value number {i}' as column_{i}" for i in range(9))
    said = on_terminal(["--store", str(tmp_path / "store"), "sql", f"select {columns} from range(2)"], columns=40)
    lines = [line.rstrip() for line in said.splitlines()]
    assert lines.count("column_3  value number 3") == 2
    assert max(map(len, lines)) <= 40


def test_a_table_is_as_wide_as_it_must_be_where_there_is_no_terminal(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "select repeat('x', 300) as a, 'b' as b"
    assert "x" * 300 in ask(long)
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, ask(long).splitlines())) <= 40
    wide = ask("select 'aaaaaaaaaaaaaa' as a, 'bbbbbbbbbbbbbb' as b, 'cccccccccccccc' as c")
    assert "a  aaaaaaaaaaaaaa" in wide.splitlines()


def test_names_that_rich_would_read_as_more_are_shown_as_they_are(ask: Any) -> None:
    assert ":dog: [red]x[/red]" in ask("select ':dog: [red]x[/red]' as a")


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_reader_that_goes_away_ends_it_quietly(empty: None, tmp_path: Path, form: str) -> None:
    command = f"{sys.executable} -m tamis.flows.cli --store {tmp_path / 'store'} sql"
    query = "select range, repeat('x', 100) as x from range(1000000)"
    reader = f"{sys.executable} -c 'import os; os.read(0, 100)'"
    script = f'set -o pipefail; {command} "{query}" --format {form} --limit 20000 | {reader}'
    made = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert (made.returncode, made.stderr) == (0, "")


def test_ctrl_c_ends_a_running_query(empty: None, tmp_path: Path) -> None:
    query = "select count(*) from range(1000000) a, range(1000000) b where a.range + b.range = 7"
    process = subprocess.Popen(
        [*HEARING, sys.executable, "-m", "tamis.flows.cli", "--store", str(tmp_path / "store"), "sql", query],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("tamis-sql-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # from the connection to the running query
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, "Traceback" in err, "Interrupted" in err) == ("", False, True)
    assert not list(tmp_path.glob("tamis-sql-*"))


def test_memory_is_an_option(tamis: Any, ask: Any) -> None:
    assert "1.0 GiB" in ask("select current_setting('memory_limit') as m", "--memory", "1GiB")
    said = tamis("sql", "select 1", "--memory", "plenty")
    assert said.code == 2
    assert "'plenty' is not a memory limit" in said.err
