"""`tamis score module:function`: from the command line through the flow to scores that selections use."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store

SCORERS = """
from tamis.training import Scorer

def spread(outputs, targets, task):
    '''How far apart the outputs are.'''
    return outputs.amax(dim=1) - outputs.amin(dim=1)

NARROW = Scorer("narrow", 2, {"spread": "lower"}, ("spread",), frozenset({"classification"}),
                lambda *given: {"spread": spread(*given)})
BOXES = Scorer("boxes", 1, {"spread": "lower"}, (), frozenset({"regression"}), lambda *_: {})
"""


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scorers_here.py").write_text(SCORERS)
    return Store.open(shutil.copytree(made / "full", tmp_path / "store"))


def test_a_scorer_of_ones_own_scores_and_is_selected_by(tamis: Any, store: Store) -> None:
    brief = ("--dataset", "digits", "--proxy", "preact8", "--epochs", 1, "--runner", "direct", "--json")
    first = tamis("score", "scorers_here:NARROW", *brief)
    assert first.code == 0, first.err
    (row,) = first.json
    assert (row["cached"], row["parts_computed"], row["metrics"]) == (False, 5, {"samples": 1498})
    again = tamis("score", "scorers_here:NARROW", *brief, "--force")
    assert (again.json[0]["run"], again.json[0]["confirmed"]) == (row["run"], True)
    run = store.runs.get(row["run"])
    assert run.config["scorer"] | {"code": ""} == {"name": "scorers_here:NARROW", "version": 2, "code": ""}
    values = store.runs.scores(run.key, "spread", 1498)
    chosen = tamis("select", "uncertainty", "--dataset", "digits", "--measure", "spread", "--budget", 5, "--json")
    assert chosen.code == 0, chosen.err
    samples, _ = store.selections.get(chosen.json["selection"]).round_at(0)
    assert samples.tolist() == np.argsort(values, kind="stable")[:5].tolist(), "low scores are hard"

    Path("scorers_here.py").write_text(f"{SCORERS}\n# changed\n")
    other = tamis("score", "scorers_here:NARROW", "--dataset", "digits", "--run", row["model_run"], "--json")
    assert other.code == 0, other.err
    assert other.json[0]["run"] != row["run"], "the source is part of the key"
    refused = tamis("score", "scorers_here:BOXES", "--dataset", "digits", "--run", row["model_run"])
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "scorers_here:BOXES takes models of regression, but this one was trained for classification" in refused.err


def test_help_says_what_it_scores(tamis: Any, store: Store) -> None:
    said = tamis("score", "scorers_here:spread", "--help").out
    assert "How far apart the outputs are." in said
    assert "Metrics: spread (higher is harder)." in said
    assert "tamis score scorers_here:spread --dataset cifar10" in said
    assert "uncertainty" in tamis("score", "--help").out
    assert tamis("score", "spread", "--dataset", "digits").code == 2
