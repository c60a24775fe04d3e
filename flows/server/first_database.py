"""The database of a temporary Prefect server, made once for each version of Prefect.

What: `give(home)` puts a fresh database into a server's home, where one has been made before; `keep(home)` makes that
of a server that has just started the one to give; `forget()` makes none that.
How: making it takes Prefect 9 s of CPU; copying takes none. The copy kept lies in the user's cache
(`$XDG_CACHE_HOME/tamis`, or `~/.cache/tamis`), 1 MB, and may be removed at any time. One of another version of Prefect,
or that is damaged, is not taken; where there can be no cache, every server makes its own.
"""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from importlib import metadata
from pathlib import Path

NAME = "prefect.db"


def give(home: Path) -> bool:
    """Copy the database that is kept into a server's home; whether there is one."""
    with contextlib.suppress(OSError, sqlite3.Error):
        shutil.copyfile(_kept(), home / NAME)
        if _whole(home / NAME):
            return True
        forget()
    (home / NAME).unlink(missing_ok=True)
    return False


def keep(home: Path) -> None:
    """Keep a copy of a database that a server has just made and nobody has used."""
    with contextlib.suppress(OSError, sqlite3.Error):
        kept = _kept()
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            made = Path(beside) / NAME
            source, copy = sqlite3.connect(home / NAME), sqlite3.connect(made)
            with contextlib.closing(source), contextlib.closing(copy):
                source.backup(copy)  # whole, also while the server writes
            made.replace(kept)


def forget() -> None:
    """Keep none: the next server makes its own."""
    with contextlib.suppress(OSError):
        _kept().unlink(missing_ok=True)


def _kept() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "tamis" / f"prefect-{metadata.version('prefect')}.db"


def _whole(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        return opened.execute("pragma quick_check").fetchall() == [("ok",)] and bool(
            opened.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchall()
        )
