"""`tamis ui` as a process, and `tamis report html`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pagekit import CLASSES, HOSTILE_ERROR

from tamis.flows.cli.app import main
from tamis.flows.web.errors import BadQuestion, PortTaken
from tamis.flows.web.serving import take
from tamis.store import Store


def test_two_on_one_port() -> None:
    first = take("127.0.0.1", 0)
    try:
        with pytest.raises(PortTaken, match=rf"port {first.port}: .*in use.*--port"):
            take("127.0.0.1", first.port)
    finally:
        first.listening.close()
    take("127.0.0.1", first.port).listening.close()


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(PortTaken, match=r"Cannot listen on 192\.0\.2\.1"):
        take("192.0.2.1", 0)


@pytest.mark.parametrize("token", ["short", "x" * 15, "has spaces in the token", "é" * 20, ""])
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(BadQuestion, match="at least 16 letters and digits"):
        take("127.0.0.1", 0, token)


def test_the_command(shown: Store, tmp_path: Path) -> None:
    """It prints its address, serves, refuses a second one on its port, and ends at Ctrl-C."""
    command = [sys.executable, "-m", "tamis.flows.cli", "--store", shown.root.url, "ui", "--json", "--port"]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as served:
        try:
            assert served.stdout is not None
            url = json.loads(b"".join(iter(served.stdout.readline, b"}\n")) + b"}")["url"]
            assert httpx.get(f"{url}home.json", timeout=60).json()["selections"] == 4
            port = url.rstrip("/").rpartition(":")[2]
            second = subprocess.run([*command, port], capture_output=True, text=True, timeout=120, check=False)
            assert second.returncode == 1
            assert "Another `tamis ui` may be running" in second.stderr
        finally:
            served.send_signal(signal.SIGINT)
        served.communicate(timeout=60)
    assert served.returncode in (0, 130)


def report(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["--store", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_report_html(shown: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "odd.html"
    code, said = report(capsys, shown.root.url, "report", "html", "odd", "--out", out, "--images", "3")
    assert (code, said) == (0, f"Written to {out}\n")
    text = out.read_text()
    assert "default-src 'none'" in text
    assert text.count("data:image/jpeg;base64,") == 2 + 3
    assert CLASSES[0] not in text
    assert HOSTILE_ERROR not in text
    for outside in ("http://", "https://", "<script", "<link", 'src="/'):
        assert outside not in text
    code, said = report(capsys, shown.root.url, "report", "html", "odd", "some-0", "--out", out)
    assert code == 1
    assert "Compare selections of one dataset" in said
