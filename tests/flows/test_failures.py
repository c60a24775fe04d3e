"""What a command says when something goes wrong: one line, JSON where asked for, and the way to see more."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tamis.flows.cli import app as commands
from tamis.flows.errors import ServerUnreachable
from tamis.flows.failures import explained
from tamis.flows.server.settings import check_server, shown
from tamis.flows.server.temporary import temporary_server
from tamis.store.errors import DatasetNotFound
from tests.flows.test_killed_flows import command


def test_an_error_that_nobody_expected_is_one_line(tamis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        """As Rust's panics come: no Exception."""

    monkeypatch.setattr("tamis.store.Store.create", _raising(Panic("called `unwrap`\n on a None")))
    said = tamis("init")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: Panic: called `unwrap` on a None. ")
    assert said.err.count("\n") == 1
    assert "--verbose" in said.err
    told = json.loads(tamis("init", "--json").err)
    assert told["error"] == "Panic"
    assert "called `unwrap` on a None" in told["message"]
    traced = tamis("init", "--verbose")
    assert "raise error" in traced.err
    assert traced.err.splitlines()[-1] == said.err.strip()
    monkeypatch.setenv("TAMIS_DEBUG", "1")
    assert "raise error" in json.loads(tamis("init", "--json").err)["traceback"]
    monkeypatch.setenv("TAMIS_DEBUG", "0")
    assert "raise error" not in tamis("init").err


def _raising(error: BaseException) -> Any:
    def raising(*_: object, **__: object) -> None:
        raise error

    return raising


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x: Permission denied: check who may"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "/data/x: Read-only file system: it lies on a read"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "No space left (/data/x): make room"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files: raise the limit"),
        (MemoryError(), "MemoryError. "),
        (DatasetNotFound("No dataset x."), "No dataset x."),
        (ValueError("odd"), "ValueError: odd. "),
        (RuntimeError("cannot make /x (os error 30)"), "cannot make /x (os error 30): it lies on a read-only medium"),
        (DatasetNotFound("Not\nread.\n   0: <unknown>\n   1: clone"), "Not\nread."),
    ],
)  # fmt: skip
def test_what_is_said(error: Exception, said: str) -> None:
    assert explained(error).startswith(said)
    assert "<unknown>" not in explained(error)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nope",), "NoSuchCommand|UsageError", "nope"),  # the second with Click 8.1
        (("select", "random"), "MissingParameter", "--dataset"),
        (("init", "--nope"), "NoSuchOption", "--nope"),
        (("select", "random", "--dataset", "d", "--budget", 1, "--seed", "x"), "BadParameter", "--seed"),
        (("score", "uncertainty", "--dataset", "d"), "UsageError", "--proxy"),
    ],
)
def test_wrong_usage_is_json_when_asked(tamis: Any, arguments: tuple[Any, ...], error: str, words: str) -> None:
    said = tamis("--json", *arguments)
    assert (said.code, said.out) == (2, "")
    told = json.loads(said.err)
    assert told["error"] in error.split("|")
    assert words in told["message"]
    plain = tamis(*arguments)
    assert plain.code == 2
    assert plain.err.startswith("Usage: tamis")
    assert "Error: " in plain.err


@pytest.fixture
def nobody() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path, nobody: str, made: Path) -> None:
    given = command("-m", "tamis.flows.cli", "--store", made / "full", "--json", "select", "random",
                    "--dataset", "digits", "--budget", 5)  # fmt: skip
    given["env"]["PREFECT_API_URL"] = f"http://ann:secret@{nobody}/api?key=secret"
    ran = subprocess.run(**given, capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    told = json.loads(line)
    assert told["error"] == "ServerUnreachable"
    assert told["message"].startswith(f"The Prefect server at http://{nobody}/api does not answer")
    assert "prefect server start" in told["message"]
    assert "--runner direct" in told["message"]
    assert "secret" not in line


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ann:secret@host/api", "The address in PREFECT_API_URL is not the address of a server"),
        ("nothing", "nothing is not the address of a server"),
        ("ftp://host/api", "ftp://host/api is not the address of a server"),
        ("http://[::1", "The address in PREFECT_API_URL is not the address of a server"),
    ],
)
def test_an_address_of_no_server_is_refused(url: str, words: str) -> None:
    with pytest.raises(ServerUnreachable) as refused:
        check_server(url)
    assert str(refused.value).startswith(words)
    assert "secret" not in str(refused.value)


def test_something_else_than_a_prefect_server_is_refused() -> None:
    root = temporary_server().removesuffix("/api")  # a path too short, the usual mistake
    with pytest.raises(ServerUnreachable, match="HTTP status 404: expected the API of a Prefect server"):
        check_server(root)
    check_server(f"{root}/api/")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200/api"),
        ("https://ann:pw@host/api?token=t#f", "https://host/api"),
        ("http://host:port:x/api", "The address in PREFECT_API_URL"),
        ("", "The address in PREFECT_API_URL"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, said: str) -> None:
    assert shown(url) == said


def test_a_server_of_a_settings_file_is_found(tmp_path: Path, nobody: str) -> None:
    """Not only PREFECT_API_URL says where the server is."""
    (tmp_path / "prefect.toml").write_text(f'[api]\nurl = "http://{nobody}/api"\n')
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    code = "from tamis.flows.server.settings import server_url; print(server_url())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False,
                         cwd=tmp_path, env=environment)  # fmt: skip
    assert ran.stdout == f"http://{nobody}/api\n", ran.stderr


def test_commands_have_the_option_that_messages_recommend() -> None:
    def walk(path: tuple[str, ...], one: Any) -> None:
        for name, sub in getattr(one, "commands", {}).items():
            walk((*path, name), sub)
        if not getattr(one, "commands", None):
            assert any("--verbose" in option.opts for option in one.params), path

    walk(("tamis",), commands.cli)
