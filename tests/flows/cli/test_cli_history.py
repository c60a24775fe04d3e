"""`tamis score losses`, `select losses` and `history`, from a trained model to a drawing."""

from pathlib import Path
from typing import Any

import pytest

from tamis.store import Store
from tamis.training.job import TrainConfig, train

RECIPE: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 2, "batch_size": 64, "lr": 0.05, "channels": 1,
}  # fmt: skip


@pytest.fixture
def trained(tamis: Any, digits: dict[str, list[Path]], tmp_path: Path) -> str:
    """A training run that recorded its losses."""
    assert tamis("init").code == 0
    store = Store.open(tmp_path / "store")
    store.datasets.add("digits", digits["train"])
    return train(store, TrainConfig(**RECIPE, record_losses=True)).run.key


def test_from_losses_to_a_selection_and_a_drawing(tamis: Any, trained: str, tmp_path: Path) -> None:
    scored = tamis("score", "losses", "--dataset", "digits", "--run", trained[:8], "--json")
    assert scored.code == 0, scored.err
    [row] = scored.json
    assert (row["cached"], row["model_run"]) == (False, trained)
    again = tamis("score", "losses", "--dataset", "digits", "--run", trained[:8], "--json").json
    assert (again[0]["run"], again[0]["cached"]) == (row["run"], True)
    shown = tamis("history", "--run", row["run"], "--json").json
    assert [(one["epoch"], one["samples"], one["accuracy"]) for one in shown["epochs"]] == [
        (1, 1498, pytest.approx(row["metrics"]["accuracy"])),
    ]  # fmt: skip

    for by, more in (("newest", ()), ("forgotten", ()), ("mean", ("--run", trained)), ("percentile", ("--beta", 3))):
        made = tamis("select", "losses", "--dataset", "digits", "--budget", "10%", "--by", by, *more, "--json")
        assert made.code == 0, made.err
        assert (made.json["size"], made.json["params"]["by"]) == (150, by)
    asked = ("--budget", 9, "--by", "forgetting", "--run", trained, "--name", "often", "--json")
    made = tamis("select", "losses", "--dataset", "digits", *asked)
    assert (made.code, made.json["size"]) == (0, 9)  # training runs record whether predictions were right

    drawn = tamis("history", "--run", trained, "--plot", tmp_path / "bands.svg")
    assert drawn.code == 0, drawn.err
    assert "Drawn in" in drawn.out
    assert (tmp_path / "bands.svg").read_text().startswith("<?xml")
    of = tamis("history", "--sample", 3, "--json").json["rows"]
    assert sorted((one["run"], one["epoch"]) for one in of) == sorted([(trained, 0), (trained, 1), (row["run"], 1)])
    assert "staleness" in tamis("history", "--sample", 3, "--run", trained).out
    chosen = tamis("history", "--selection", "digits-losses", "--json").json["samples"]
    assert (len(chosen), chosen[0]["rounds"], chosen[0]["epochs"]) == (150, [0], [0])
    assert "Only the first 50 of 150" in tamis("history", "--selection", "digits-losses").err


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ((), 2, "Specify what to show"),
        (("--run", "aaaa", "--selection", "b"), 2, "Specify what to show"),
        (("--sample", "1", "--plot", "a.svg"), 2, "A drawing is of a run"),
        (("--run", "aaaa", "--kind", "datamap"), 2, "A drawing is of a run"),
        (("--run", "aaaa"), 1, "'aaaa' names 0 runs"),
        (("--selection", "none"), 1, "none"),
    ],
)
def test_what_history_refuses(tamis: Any, given: tuple[str, ...], code: int, message: str) -> None:
    tamis("init")
    said = tamis("history", *given)
    assert (said.code, message in said.err) == (code, True), said.err
