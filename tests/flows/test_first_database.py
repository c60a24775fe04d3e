"""The database that temporary servers start with: what is kept, what is given, and what is not taken."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from tamis.flows.server import first_database


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the database of the installed Prefect is kept, in a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return first_database._kept()


def database(home: Path, table: str = "alembic_version") -> Path:
    home.mkdir()
    with contextlib.closing(sqlite3.connect(home / first_database.NAME)) as made:
        made.execute("pragma journal_mode = wal")
        made.execute(f"create table {table} (version_num text)")
        made.execute(f"insert into {table} values ('abc')")
        made.commit()
        # as a running server leaves it: what was written last is in the log beside
        first_database.keep(home)
    return home / first_database.NAME


def test_what_is_kept_is_given(tmp_path: Path, kept: Path) -> None:
    (tmp_path / "second").mkdir()
    assert not first_database.give(tmp_path / "second"), "none has been made yet"
    assert list((tmp_path / "second").iterdir()) == []
    database(tmp_path / "first")
    assert kept.parent.is_dir()
    assert [file.name for file in kept.parent.iterdir()] == [kept.name], "nothing else is left in the cache"
    assert first_database.give(tmp_path / "second")
    with contextlib.closing(sqlite3.connect(tmp_path / "second" / first_database.NAME)) as given:
        assert given.execute("select version_num from alembic_version").fetchall() == [("abc",)]


@pytest.mark.parametrize("damage", ["text", "cut", "foreign", "empty"])
def test_what_is_damaged_is_not_given_and_goes(tmp_path: Path, kept: Path, damage: str) -> None:
    database(tmp_path / "first", "other" if damage == "foreign" else "alembic_version")
    whole = kept.read_bytes()
    kept.write_bytes({"text": b"no database", "cut": whole[:5000], "foreign": whole, "empty": b""}[damage])
    home = tmp_path / "second"
    home.mkdir()
    assert not first_database.give(home)
    assert list(home.iterdir()) == []


def test_of_another_version_of_prefect_none_is_taken(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(tmp_path / "first")
    monkeypatch.setattr("tamis.flows.server.first_database.metadata.version", lambda _: "99.0")
    (tmp_path / "second").mkdir()
    assert not first_database.give(tmp_path / "second")


def test_where_there_can_be_no_cache_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    home = database(tmp_path / "first").parent
    assert not first_database.give(home.parent)
