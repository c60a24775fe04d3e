"""Every command that help texts, pages and messages recommend is one that the command line takes."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tamis.flows.cli.app import cli
from tamis.store import Store
from tamis.store.advice import command as advised

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None, name
            yield from leaves(sub, (*path, name))
    else:
        yield path, command


def lines(text: str) -> list[list[str]]:
    """The words of each line that calls tamis, without what the shell does with them; quotes may go over lines."""
    left = re.sub(r"\\\n\s*", " ", text).splitlines()
    found: list[list[str]] = []
    while left:
        called = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*tamis (.*)", left.pop(0))
        if called is None:
            continue
        line = called[1]
        while line.count('"') % 2 and left:
            line += "\n" + left.pop(0)
        words = shlex.split(line, comments=True)
        if any(word.startswith("$") for word in words):
            continue  # options that a script has put into a variable
        ends = [i for i, word in enumerate(words) if word in ("|", ">", "&&", "&", ";") or word.startswith("2>")]
        found.append(words[: ends[0]] if ends else words)
    return found


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """The command line, whose commands do nothing and whose files need not be there."""
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


def test_the_examples_of_every_help_text(parse: Callable[[list[str]], None]) -> None:
    for path, command in leaves(cli):
        examples = lines((command.help or "").partition("Example")[2])
        assert examples, path
        for words in examples:
            parse(words)
    for words in lines(cli.help or ""):
        parse(words)


def test_the_commands_of_the_pages(
    parse: Callable[[list[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that a page shows, and whose first line is their file's name, are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tamis.flows.cli.selections.select._select", lambda *_: None)
    monkeypatch.setattr("tamis.flows.cli.score._score", lambda *_: None)
    shown = "\n".join(page.read_text() for page in PAGES)
    for name, body in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", shown, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(body)
    found = [
        words
        for page in PAGES
        for block in re.findall(r"^```(?:sh|bash|console|shell)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for words in lines(block)
    ]
    assert len(found) > 10
    for words in found:
        parse(words)


def test_what_messages_advise_works(tamis: Any, digits: dict[str, list[Path]], tmp_path: Path) -> None:
    """From one refusal to the next, each time by the command that was recommended, copied."""
    where = tmp_path / "my store"

    def advice(said: Any) -> list[str]:
        assert said.code == 1, said
        (line,) = re.findall(r"`(tamis [^`]*)`", said.err)
        return shlex.split(line)[3:]  # tamis --store WHERE

    assert tamis(*advice(tamis("dataset", "ls", store=where)), store=where).code == 0
    store = Store.open(where)
    store.datasets.add("digits", digits["test"])
    select = ("select", "uncertainty", "--dataset", "digits", "--budget", 5)
    refused = tamis(*select, store=where)
    assert f"tamis --store '{where}' score uncertainty --dataset digits@1" in refused.err
    scored = tamis(*advice(refused), "--epochs", 1, store=where)
    assert scored.code == 0, scored.err
    assert tamis(*select, store=where).code == 0
    begun = store.runs.begin(kind="train", key="ab" * 16, dataset="digits@1").key
    listed = tamis(*advice(tamis(*select, "--scores", begun, store=where)), "--json", store=where)
    assert [r["kind"] for r in listed.json] == ["score"]
    match = tamis("select", "gradmatch", "--dataset", "digits", "--run", begun, store=where)
    assert [r["key"] for r in tamis(*advice(match), "--json", store=where).json if r["key"] == begun] == [begun]


def test_advice_is_quoted(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "it's mine")
    words = shlex.split(advised(store.root, "sql", "describe scores").strip("`"))
    assert words == ["tamis", "--store", str(tmp_path / "it's mine"), "sql", "describe scores"]
