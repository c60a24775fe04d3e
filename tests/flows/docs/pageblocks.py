"""The blocks of the pages, and a real bash that runs them, whose `tamis` is the command line in this process.

What is long in a page is short here: one epoch, the smallest model, 200 digits under the names of the pages' datasets.
A service only checks its file. Keys of runs, which differ in every store, are replaced.
"""

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

from tamis.flows.cli.app import main
from tamis.store import Store

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SHELLS = ("sh", "bash", "shell", "console")
_MARK = re.compile(r"<!-- (not run|file): ([^\n]+) -->\n\Z")


def read(page: Path) -> list[Example]:
    """The blocks of shell, consoles, Python and TOML in a page, in order. They evaluate to nothing by themselves."""
    sybil = Sybil([CodeBlockParser(one, lambda example: None) for one in (*SHELLS, "python", "toml")], path=str(ROOT))
    return list(sybil.parse(page).examples())


def language(block: Example) -> str:
    return str(block.region.lexemes["arguments"])


def marked(block: Example, kind: str) -> str | None:
    """The reason in `<!-- not run: REASON -->` above a block, or the name in `<!-- file: NAME -->`."""
    found = _MARK.search(block.document.text[: block.region.start])
    return found[2] if found and found[1] == kind else None


def script(block: Example) -> str:
    """What a shell is given: of a console, the lines behind its prompt."""
    text = str(block.parsed)
    if language(block) != "console":
        return text
    return "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)", text, re.MULTILINE))


def shorter(arguments: list[str]) -> list[str]:
    """The same command with little to do."""
    for i, word in enumerate(arguments[:-1]):
        if word in ("--epochs", "--trials"):
            arguments[i + 1] = "2" if "gradmatch" in arguments else "1"  # two rounds, to be compared
        elif word == "--every":
            arguments[i + 1] = "1"
        elif word == "--cutout":
            arguments[i + 1] = "4"
        elif word in ("--model", "--proxy") and ":" not in arguments[i + 1]:
            arguments[i + 1] = "preact8"
    if "serve" in arguments:
        return [*arguments, "--dry-run"]
    return [word for word in arguments if word != "--watch"]


_SHIM = """#!{python} -IS
import os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
said = [os.getcwd(), *(f"{{n}}={{v}}" for n, v in os.environ.items() if n.startswith("TAMIS_")), "--", *sys.argv[1:]]
link.sendall("\\0".join(said).encode())
link.shutdown(socket.SHUT_WR)
code, out, err = b"".join(iter(lambda: link.recv(65536), b"")).split(b"\\0", 2)
sys.stdout.buffer.write(out)
sys.stderr.buffer.write(err)
sys.exit(int(code))
"""


def keys(store: Path) -> dict[str, str]:
    """What the pages call runs, and the keys of such runs in a store."""
    runs = Store.open(store).runs.all() if store.exists() else []
    trained = [run for run in runs if run.kind == "train"]
    scored = [run for run in runs if run.kind == "score"]
    named = [
        ("5e77c1", trained[:1]),  # trained on everything, and evaluated
        ("1f0c9a", [run for run in trained if run.selection][:1]),
        ("3fadd7", scored[-2:][:1]),  # the two that were scored last
        ("b2bc33", scored[-1:]),
        ("9b20c4", [run for run in runs if run.kind == "features"][-1:]),
    ]
    return {name: found[0].key for name, found in named if found}


@dataclass
class Shell:
    """A bash in a folder of its own, with what earlier scripts exported. Its store is `work`."""

    folder: Path
    environment: dict[str, str]

    def run(self, text: str) -> str:
        """Run a script; a command that fails ends it, and the test."""
        shims = self.folder / ".bin"
        shims.mkdir(exist_ok=True)
        kept = shims / "environment"
        with socket.socket(socket.AF_UNIX) as asked:
            asked.bind("")  # the system gives it a name
            asked.listen()
            asked.settimeout(0.05)
            (shims / "tamis").write_text(_SHIM.format(python=sys.executable, address=asked.getsockname()))
            (shims / "tamis").chmod(0o755)
            with (shims / "said").open("wb") as said:
                process = subprocess.Popen(
                    ["bash", "-e", "-o", "pipefail", "-c", f"{self.placed(text)}\nenv -0 > {kept}"],
                    cwd=self.folder,
                    env=self.environment | {"PATH": f"{shims}:/usr/bin:/bin"},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    self._answer(asked.accept()[0])
        printed = (shims / "said").read_text()
        assert process.returncode == 0, f"{text}\n{printed}"
        pairs = [one.partition("=") for one in kept.read_text().split("\0") if one]
        self.environment = {name: value for name, _, value in pairs if name not in ("PWD", "OLDPWD", "SHLVL", "_")}
        return printed

    def placed(self, text: str) -> str:
        """The text, with folders of this one in place of absolute paths, and with two seeds."""
        text = re.sub(r"(?<=[\s\"'])/(?=data/|new/)", f"{self.folder}/", text)
        return text.replace("for seed in 0 1 2;", "for seed in 0 1;")

    def replaced(self, text: str) -> str:
        """The text, with the keys of this store's runs in place of the page's."""
        if re.search(r"\b[0-9a-f]{6}", text):
            for shown, key in keys(self.folder / "work").items():
                text = re.sub(rf"\b{shown}[0-9a-f]*(\.\.\.)?", key, text)
        return text

    def _answer(self, link: socket.socket) -> None:
        """Run what one `tamis` of the shell was called with."""
        with link:
            link.settimeout(None)
            words = b"".join(iter(lambda: link.recv(65536), b"")).decode().split("\0")
            end = words.index("--")
            with contextlib.chdir(words[0]), pytest.MonkeyPatch.context() as patch:
                for name, _, value in (word.partition("=") for word in words[1:end]):
                    patch.setenv(name, value)
                patch.syspath_prepend(words[0])
                patch.setenv("PATH", str(self.folder / ".bin"), prepend=os.pathsep)
                code, out, err = call(shorter([self.replaced(word) for word in words[end + 1 :]]))
            with contextlib.suppress(BrokenPipeError):
                link.sendall(b"\0".join([str(code).encode(), out, err]))


def call(arguments: list[str]) -> tuple[int, bytes, bytes]:
    """The command line: exit code, stdout and stderr."""
    said = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(one, encoding="utf-8") for one in said)
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    out.flush()
    err.flush()
    return code, said[0].getvalue(), said[1].getvalue()


def shorter_python(source: str) -> str:
    """The same program with little to do."""
    less = {r'"epochs": \d+': '"epochs": 2', r"every=\d+": "every=1", r'"model": "\w+"': '"model": "preact8"'}
    for long, short in less.items():
        source = re.sub(long, short, source)
    return source
