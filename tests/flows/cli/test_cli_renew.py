"""`tamis dataset renew` as a person writes it: options, a file, and what is wrong with either."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tamis.flows.renewal.config import RenewConfig
from tamis.flows.work import FLOWS
from tests.flows.conftest import Tamis

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "nightly.md"
LINEAR = ("--proxy", "tiny_model:linear", "--epochs", 1, "--augment", "none", "--device", "cpu")


@pytest.fixture
def growing(tamis: Tamis, tmp_path: Path, digits: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the first two shards, which are digits@1 of the store."""
    (tmp_path / "in").mkdir()
    shards = [Path(shutil.copy2(path, tmp_path / "in")) for path in digits["train"][:2]]
    assert tamis("init").code == 0
    assert tamis("dataset", "add", "digits", *shards).code == 0
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_describe_one_selection_and_the_answer_is_told(
    growing: Path, tamis: Tamis, digits: dict[str, list[Path]]
) -> None:
    asked = ("dataset", "renew", "digits", "--shards", "in", *LINEAR, "--measure", "margin", "--budget", "40%",
             "--as", "nightly", "--retrain-growth", "20%")  # fmt: skip
    first = tamis(*asked, "--json")
    assert first.code == 0, first.err
    assert first.json["selections"] == [{"selection": "nightly@1", "created": True, "confirmed": None}]
    idle = tamis(*asked)
    assert idle.out.startswith("Nothing new: digits@1, its scores and 1 selection are up to date.")
    shutil.copy2(digits["train"][2], growing / "in")
    next(iter(sorted((growing / "in").iterdir()))).unlink()
    again = tamis(*asked)
    assert again.code == 1, "the proxy that is due cannot be trained on what is missing"
    assert "is missing" in again.err
    (growing / "in" / "train-000000.tar").write_bytes(digits["train"][0].read_bytes())
    again = tamis(*asked, "--json")
    assert again.code == 0, again.err
    assert again.json["proxies"][0]["reason"] == "grown by 50%, more than 20%; every shard is scored again"
    assert "nightly@2" in again.out
    (growing / "in" / "train-000000.tar").unlink()
    assert "1 shard of digits@2 missing: " in tamis(*asked).err


def test_gradmatch_is_renewed_by_a_pass(growing: Path, tamis: Tamis) -> None:
    said = tamis("dataset", "renew", "digits", *LINEAR, "--method", "gradmatch", "--budget", 20, "--as", "gm", "--json")
    assert said.code == 0, said.err
    assert [one["selection"] for one in said.json["selections"]] == ["gm@1"]


def test_a_file_says_everything(growing: Path, tamis: Tamis) -> None:
    (growing / "n.toml").write_text('dataset = "digits"\n[[selections]]\nmethod = "random"\nbudget = 9\n')
    (growing / "n.json").write_text(json.dumps({"dataset": "digits", "shards": ["in/*.tar"]}))
    (growing / "bad.toml").write_text("dataset = digits\n")
    (growing / "bytes.toml").write_bytes(b"dataset = \xe7\n")
    assert tamis("dataset", "renew", "--config", "n.toml", "--json").json["selections"][0]["selection"] == (
        "digits-random@1"
    )
    assert tamis("dataset", "renew", "digits", "--config", "n.json", "--json").json["nothing_new"]
    for words, said in (
        (("other", "--config", "n.toml"), "n.toml is about digits, not other"),
        (("--config", "n.toml", "--budget", "9", "--epochs", 1), "leave out --epochs, --budget"),
        (("--config", "bad.toml"), "bad.toml cannot be read as TOML"),
        (("--config", "bytes.toml"), "bytes.toml cannot be read as TOML"),
        ((), "NAME with options, or --config FILE"),
        (("digits", "--measure", "margin"), "Specify how much to select"),
    ):
        refused = tamis("dataset", "renew", *words)
        assert (refused.code, said in refused.err) == (2, True), refused.err


def test_what_is_wrong_with_a_field_is_one_line(growing: Path, tamis: Tamis) -> None:
    for words, said in (
        (("--method", "selective-backprop", "--budget", 5), "selections: selective-backprop chooses in the training"),
        (("--measure", "entropi", "--budget", 5), "no scorer gives the measure 'entropi'. Did you mean 'entropy'?"),
        (("--retrain-age", "soon"), "retrain.age: expected a number and m, h, d or w, such as 30d (given: 'soon')"),
        (("--shards", "in/nope-*.tar"), "nope-*.tar' matches no file"),
    ):
        refused = tamis("dataset", "renew", "digits", *LINEAR, *words)
        assert refused.code == 1
        assert said in refused.err
        assert len(refused.err.splitlines()) == 1


def test_the_page_shows_configs_that_are_taken() -> None:
    plain, deployed = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.S))
    one: Any = deployed["deployments"]["nightly"]
    assert FLOWS[one["flow"]].config is RenewConfig
    asked = [RenewConfig.model_validate(config) for config in (plain, one["config"])]
    assert asked[0].model_copy(update={"shards": asked[1].shards}) == asked[1]
    assert RenewConfig.model_validate_json(asked[1].model_dump_json()) == asked[1]
