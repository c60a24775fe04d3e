"""The command line as a function, and a real Prefect server for the tests that ask for one."""

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tamis.flows.cli.app import main
from tamis.flows.server.settings import prepare
from tamis.flows.server.temporary import temporary_server


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    """The user's Prefect home and cache are not touched."""
    kept = getattr(pytestconfig, "cache", None)  # which lasts: so does the server's first database
    os.environ["XDG_CACHE_HOME"] = str(kept.mkdir("tamis") if kept else tmp_path_factory.mktemp("cache"))
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    os.environ.pop("PREFECT_API_URL", None)
    prepare()


@pytest.fixture(scope="session")
def prefect_server(prefect_home: None) -> str:
    """The address of this process's temporary server."""
    return temporary_server()


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


Tamis = Callable[..., Said]


@pytest.fixture
def tamis(tmp_path: Path) -> Tamis:
    """Run `tamis --store <a store of this test>` with arguments, in this process."""

    def run(*arguments: object, store: Path | None = None) -> Said:
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["--store", str(store or tmp_path / "store"), *map(str, arguments)])
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        return Said(code, _text(out), _text(err))

    return run
