"""Every command that help texts and pages recommend, also within a sentence, is one that the command line takes."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from pageblocks import NAMES, PAGES, ROOT, SHELLS, language, read, script

from tamis.flows.cli.app import cli

# Nothing is run but bash: of `tamis` the words are written down, everything else is not found, and not missed.
_NOTED = """
PATH=/nowhere
command_not_found_handle() { return 0; }
tamis() { printf '%s\\0' "$@" >&3; printf '\\0' >&3; }
"""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that is no group, and its path."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None, name
            yield from leaves(sub, (*path, name))
    else:
        yield path, command


def called(text: str, folder: Path) -> list[list[str]]:
    """The words of each `tamis` that a script calls, with loops, variables and quotes as bash takes them."""
    noted = folder / "noted"
    noted.touch()
    done = subprocess.run(
        ["bash", "-c", f"exec 3>{noted}\n{_NOTED}{text}\nexit 0"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (text, done.stderr)
    assert "syntax error" not in done.stderr, (text, done.stderr)
    return [one.removesuffix("\0").split("\0") for one in noted.read_text().split("\0\0") if one]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[str]], None]:
    """The command line, whose commands do nothing and whose files need not be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tamis.flows.cli.selections.select._select", lambda *_: None)
    monkeypatch.setattr("tamis.flows.cli.score._score", lambda *_: None)
    for _, command in leaves(cli):
        monkeypatch.setattr(command, "callback", lambda **_: None)
        for parameter in command.params:
            if isinstance(parameter.type, click.Path):
                monkeypatch.setattr(parameter.type, "exists", False)

    def run(words: list[str]) -> None:
        try:
            cli.main(args=words, prog_name="tamis", standalone_mode=False)
        except click.UsageError as error:
            pytest.fail(f"tamis {shlex.join(words)}: {error.format_message()}")

    return run


def test_the_examples_of_every_help_text(parse: Callable[[list[str]], None], tmp_path: Path) -> None:
    for path, command in leaves(cli):
        examples = called((command.help or "").partition("Example")[2].partition("\n")[2], tmp_path)
        assert examples, path
        for words in examples:
            parse(words)
    for words in called("\n".join(re.findall(r"^tamis .*", cli.help or "", re.MULTILINE)), tmp_path):
        parse(words)


def test_the_commands_of_the_blocks(parse: Callable[[list[str]], None], tmp_path: Path) -> None:
    """Also of those that no test can run. Modules whose first line is their file's name are there."""
    pages = [block for page in PAGES for block in read(page)]
    for block in pages:
        for name in re.findall(r"\A# (\w+\.py)\n", str(block.parsed)):
            (tmp_path / name).write_text(str(block.parsed))
    found = [words for block in pages if language(block) in SHELLS for words in called(script(block), tmp_path)]
    assert len(found) > 150
    for words in found:
        parse(words)


def test_no_block_is_without_a_language() -> None:
    """A block of commands that is not called one would be read by no test."""
    for name, page in zip(NAMES, PAGES, strict=True):
        for kind, body in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            if kind not in SHELLS and not name.startswith("docs/reference/"):
                assert not re.search(r"^(\$ )?(\w+=\S+ )*tamis ", body, re.MULTILINE), (name, body)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "docs/reference/cli.md"])
def test_the_commands_within_sentences(name: str) -> None:
    """Their names and options exist; what is left out, or stands in capitals, is the reader's."""
    prose = re.sub(r"^```.*?^```", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    for text in re.findall(r"`(?:[A-Z]+=\S+ )*tamis ([a-z-][^`]*)`", prose):
        command: click.Command = cli
        words = shlex.split(" ".join(text.split()))
        words = words[2:] if words[:1] == ["--store"] else words
        while words and isinstance(command, click.Group):
            if words[0].isupper() or words[0].startswith("-") or ":" in words[0]:
                break
            sub = command.get_command(click.Context(command), words[0])
            assert sub is not None, text
            command, words = sub, words[1:]
        known = command.get_params(click.Context(command))
        options = {name for parameter in known for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--") and word not in ("--help", "--version"):
                assert word.partition("=")[0] in options, text
