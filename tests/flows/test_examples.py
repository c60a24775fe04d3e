"""Every command that messages recommend is one that the command line takes."""

import re
import shlex
from pathlib import Path
from typing import Any

from tamis.store import Store
from tamis.store.advice import command as advised


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
