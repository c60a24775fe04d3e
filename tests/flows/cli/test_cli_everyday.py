"""Everyday commands: scores and lists from elsewhere, splits, and a list of runs that is shown anew."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from terminal import HEARING

from tamis.store import Store


@pytest.fixture
def indexed(made: Path, tmp_path: Path) -> Store:
    return Store.open(shutil.copytree(made / "full", tmp_path / "store"))


def test_imported_scores_are_selected_by(tamis: Any, indexed: Store, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1498)
    pq.write_table(pa.table({"sample": np.arange(1498), "aum": values}), tmp_path / "aum.parquet")
    given = ("score", "import", tmp_path / "aum.parquet", "--dataset", "digits", "--name", "aum", "--hard", "lower")
    first, second = tamis(*given, "--json"), tamis(*given)
    assert first.code == 0, first.err
    assert (first.json["metrics"], first.json["cached"], "cached" in second.out) == (["aum"], False, True)
    chosen = tamis("select", "uncertainty", "--dataset", "digits", "--measure", "aum", "--budget", 5, "--json")
    assert chosen.code == 0, chosen.err
    samples, _ = indexed.selections.get(chosen.json["selection"]).round_at(0)
    assert samples.tolist() == np.argsort(values)[:5].tolist(), "low scores are hard"
    refused = tamis("select", "uncertainty", "--dataset", "digits", "--budget", 5)
    assert refused.code == 1
    assert "measure 'entropy'" in refused.err


def test_a_list_is_imported_and_exported(tamis: Any, indexed: Store, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("5\n3\n")
    said = tamis("selection", "import", tmp_path / "list.txt", "--dataset", "digits", "--name", "mine", "--json")
    assert said.code == 0, said.err
    assert said.json["selection"] == "mine@1"
    rows = tamis("selection", "export", "mine", "--json").json
    assert [row["sample"] for row in rows] == [5, 3]


def test_k_center_chooses_by_the_features_of_a_run(tamis: Any, indexed: Store) -> None:
    trained = tamis("train", "--dataset", "digits", "--model", "preact8", "--epochs", 1, "--batch-size", 64, "--json")
    made = tamis("score", "features", "--dataset", "digits", "--model-run", trained.json["run"], "--json")
    assert made.code == 0, made.err
    asked = ("select", "k-center", "--dataset", "digits", "--budget", 20, "--features")
    chosen = tamis(*asked, made.json["run"][:12], "--json")
    assert chosen.code == 0, chosen.err
    selection = indexed.selections.get(chosen.json["selection"])
    assert selection.inputs == (made.json["run"],)
    assert selection.stats["seconds"]["score"] > 0
    vectors = indexed.runs.features(made.json["run"], indexed.datasets.get("digits"))
    samples, _ = selection.round_at(0)
    radius = min_distances(vectors, samples).max()
    drawn = np.random.default_rng(0).choice(1498, 20, replace=False)
    assert radius < min_distances(vectors, drawn).max(), "centres are nearer to all samples than random ones"
    refused = tamis(*asked, trained.json["run"])
    assert refused.code == 1
    assert "not features of digits@1" in refused.err


def min_distances(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[N] from each vector to the nearest of the centres."""
    return np.linalg.norm(vectors[:, None] - vectors[centres][None], axis=2).min(axis=1)


def test_parts_are_trained_on_scored_and_told_apart(tamis: Any, indexed: Store) -> None:
    """Scores of a part are those that its samples have in the whole, under the same model."""
    split = tamis("dataset", "split", "digits", "--into", "train=.8,validation=.2", "--stratify", "--json")
    assert split.code == 0, split.err
    assert [one["dataset"] for one in split.json] == ["digits-train@1", "digits-validation@1"]
    trained = tamis("train", "--dataset", "digits-train", "--model", "preact8", "--epochs", 1, "--batch-size", 64,
                    "--augment", "none", "--evaluate-on", "digits-validation", "--json")  # fmt: skip
    assert trained.code == 0, trained.err
    assert trained.json["metrics"]["samples_read"] == split.json[0]["samples"]
    values: dict[str, dict[str, float]] = {}
    for name in ("digits", "digits-train", "digits-validation"):
        scored = tamis("score", "uncertainty", "--dataset", name, "--run", trained.json["run"], "--json")
        assert scored.code == 0, scored.err
        rows = tamis("sql", f"""select s.key, c.value from scores c join samples s using (sample)
                     where c.run = '{scored.json[0]["run"]}' and c.metric = 'entropy' and s.dataset = '{name}'""",
                     "--json").json  # fmt: skip
        values[name] = {row["key"]: float(row["value"]) for row in rows}
    parts = values["digits-train"] | values["digits-validation"]
    assert parts == pytest.approx(values["digits"], abs=1e-5)
    for wrong in ("train", "train=x", "train=.5,train=.5", "=1"):
        assert tamis("dataset", "split", "digits", "--into", wrong).code == 2
    assert "add up to 1.5" in tamis("dataset", "split", "digits", "--into", "a=1,b=.5").err


def test_watching_shows_what_comes_and_ends_at_ctrl_c(indexed: Store) -> None:
    leader, follower = pty.openpty()
    words = ["--store", indexed.root.url, "run", "ls", "--watch", "--every", "0.1"]
    running = subprocess.Popen(
        [*HEARING, sys.executable, "-m", "tamis.flows.cli", *words], stdin=follower, stdout=follower, stderr=follower,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(follower)
    said = bytearray()

    def until(words: bytes) -> None:
        deadline = time.monotonic() + 60
        while words not in said:
            assert time.monotonic() < deadline, bytes(said)
            if select.select([leader], [], [], 0.1)[0]:
                said.extend(os.read(leader, 65536))

    until(b"(none)")
    indexed.runs.begin(kind="train", key="1f0c9a" + "0" * 26, dataset="digits@1")
    until(b"1f0c9a000000")
    until(b"running")
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 0
    os.close(leader)
    assert b"Traceback" not in said


def test_watching_is_for_a_terminal(tamis: Any, indexed: Store) -> None:
    assert "terminal" in tamis("run", "ls", "--watch").err
    assert tamis("run", "ls", "--watch", "--json").code == 2
