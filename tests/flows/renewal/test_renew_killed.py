"""`tamis dataset renew` in processes of its own: killed in the middle, two at once, and without anything to do."""

import json
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tamis.flows.configs import Resources
from tamis.flows.renewal.config import RenewConfig
from tamis.flows.work import run
from tamis.store import Store
from tests.flows.test_killed_flows import command, die_after

# Runs `tamis` and says which of some libraries it has loaded.
LOADED = """
import sys
from tamis.flows.cli.app import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in ("torch", "prefect") if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture
def grown(tmp_path: Path, digits: dict[str, list[Path]]) -> Path:
    """A folder with a config, shards, and a store that lacks the last two of them."""
    (tmp_path / "shards").mkdir()
    shards = [Path(shutil.copy2(path, tmp_path / "shards")) for path in digits["train"]]
    Store.create(tmp_path / "store").datasets.add("digits", shards[:3])
    (tmp_path / "renew.toml").write_text(
        'dataset = "digits"\nshards = ["shards/train-*.tar"]\n\n'
        '[[proxies]]\nmodel = "tiny_model:linear"\nepochs = 1\naugment = "none"\n\n'
        '[[selections]]\nmeasure = "entropy"\nbudget = "40%"\n\n[[selections]]\nmethod = "random"\nbudget = "10%"\n'
    )
    shutil.copy(Path(__file__).parents[2] / "tiny_model.py", tmp_path)
    return tmp_path


def asked(grown: Path) -> tuple[str, ...]:
    return ("dataset", "renew", "--config", str(grown / "renew.toml"), "--device", "cpu", "--json")


def everything(store: Store) -> list[Any]:
    """What readers see."""
    chosen = [(one.ref, one.key, one.dataset, one.round_at(0)[0].tolist()) for one in store.selections.all()]
    runs = sorted((one.kind, one.status, one.dataset, one.key) for one in store.runs.all())
    scores = store.query("select run, metric, count(*), count(distinct sample), sum(value) from scores group by all")
    versions = [(row["version"], row["shards"], row["samples"]) for row in store.datasets.all()]
    return [chosen, runs, sorted(map(str, scores.to_pylist())), versions]


def test_killed_in_the_middle_it_completes_and_then_loads_nothing(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grown)
    shutil.copytree(grown / "store", grown / "whole")
    for writes in (2, 7):  # among the rows of the new version; among the parts
        died = die_after(writes, grown / "store", *asked(grown))
        assert died.returncode == -signal.SIGKILL, died.stderr
    killed = Store.open(grown / "store")
    assert killed.datasets.get("digits").ref == "digits@2"
    assert not killed.selections.all()
    config = RenewConfig.model_validate(tomllib.loads((grown / "renew.toml").read_text()))
    for where in ("store", "whole"):
        done = run("renew", str(grown / where), config, Resources(device="cpu"), runner="direct")
        assert (done.dataset, done.nothing_new) == ("digits@2", False)
    assert everything(killed) == everything(Store.open(grown / "whole"))
    given = command("-c", LOADED, "--store", grown / "store", *asked(grown))
    idle = subprocess.run(**given, capture_output=True, timeout=240, check=True)
    assert json.loads(idle.stdout)["nothing_new"]
    assert idle.stderr.splitlines()[-1] == "[]"


def test_two_at_once_leave_one_answer(grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(grown)
    given = command("-m", "tamis.flows.cli", "--store", grown / "store", *asked(grown))
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(**given, **pipes) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (json.loads(out) for out, _ in said)
    same = ("dataset", "vanished", "moved")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert [one["run"] for one in first["passes"]] == [one["run"] for one in second["passes"]]
    chosen, runs, _, versions = everything(Store.open(grown / "store"))
    assert [one[0] for one in chosen] == ["digits-entropy@1", "digits-random@1"]
    assert [one[:3] for one in runs] == [("score", "finished", "digits@2"), ("train", "finished", "digits@2")]
    assert versions == [(1, 3, 900), (2, 5, 1498)]
