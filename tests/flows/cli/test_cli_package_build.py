"""`tamis package build`: from digits and a file of weights to a package, found again, and refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tamis.store import Store
from tamis.training.models.registry import build_model

BUILD = (
    "package", "build", "threes", "--dataset", "digits", "--base", "preact8", "--event", "3", "--channels", 1,
    "--mean", 0.3, "--std", 0.4, "--epochs", 1, "--branchpoints", "2", "--average", 4, "--minimum", 1,
    "--frequency", 0.1,
)  # fmt: skip


@pytest.fixture
def ready(tamis: Any, digits: dict[str, list[Path]], tmp_path: Path) -> Any:
    """A store with digits@1, and weights of a base beside it."""
    assert tamis("init").code == 0
    assert tamis("dataset", "add", "digits", *digits["test"]).code == 0
    torch.save(build_model("preact8", num_classes=5, in_channels=1).state_dict(), tmp_path / "base.pth")
    return tamis


def test_a_package_is_built_once_and_found_again(ready: Any, tmp_path: Path) -> None:
    weights = ("--weights", tmp_path / "base.pth")
    made = ready(*BUILD, *weights, "--json")
    assert made.code == 0, made.err
    assert (made.json["package"], made.json["cached"], made.json["trained"]) == ("threes@1", False, 2)
    assert [one["branch"] for one in made.json["candidates"]] == [0, 4]  # of an image, three blocks, the pooled maps
    package = Store.open(tmp_path / "store").packages.get("threes")
    assert [one.accuracy for one in package.candidates] == [one["accuracy"] for one in made.json["candidates"]]
    again = ready(*BUILD, *weights)
    assert again.code == 0, again.err
    assert "Cached: 0 candidates trained, 2 found" in again.out
    assert "threes@1" in again.out
    assert len(Store.open(tmp_path / "store").packages.all()) == 1


@pytest.mark.nightly
def test_candidates_at_once_are_those_made_one_after_the_other(
    ready: Any, digits: dict[str, list[Path]], tmp_path: Path
) -> None:
    """Each in a process of its own, with the same weights and figures."""
    other = tmp_path / "other"
    assert ready("init", store=other).code == 0
    assert ready("dataset", "add", "digits", *digits["test"], store=other).code == 0
    for store, workers in ((None, 1), (other, 2)):
        made = ready(*BUILD, "--weights", tmp_path / "base.pth", "--workers", workers, "--json", store=store)
        assert made.code == 0, made.err
    one, two = (Store.open(at).packages.get("threes").candidates for at in (tmp_path / "store", other))
    assert [each.content for each in one] == [each.content for each in two]


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        (("--event", "person"), 1, "has no class 'person' for the event"),
        (("--weights", "none.pth"), 1, "Weights none.pth cannot be read"),
        (("--base", "preact9"), 1, "preact9"),
        (("--dataset", "digit"), 1, "Did you mean 'digits'?"),
        (("--mean", 0.3, "--std", 0.4, "--std", 0.5), 1, "a number for each of 1 channels"),
        (("--branchpoints", "9"), 1, "ask for 1 to 5 of them"),
        (("--minimum", 9), 1, "longer than the mean"),
        (("--base-run", "abc"), 1, "a base is trained already"),
        (("--optimizer", "lion"), 2, "lion"),
    ],
)
def test_errors_are_one_line(ready: Any, tmp_path: Path, changed: tuple[Any, ...], code: int, said: str) -> None:
    refused = ready(*BUILD, "--weights", tmp_path / "base.pth", *changed, "--json")
    assert refused.code == code
    told = json.loads(refused.err.splitlines()[-1])
    assert said in told["message"]
    assert "\n" not in told["message"]
