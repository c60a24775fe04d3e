"""`tamis cull` killed while the teacher looks: the same command goes on behind the last part that was kept."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from boxed import boxed
from numbered import Write

from tamis.store import Store
from tamis.store.datasets.packing import pack_samples

COUNT, FIRST, AT = 24, 8, 6  # the teacher's look during which the process dies
HERE = Path(__file__).parent


@pytest.fixture
def write() -> Write:
    """Writes a shard of (key, {suffix: bytes}) samples."""
    return lambda path, samples: pack_samples([(key, dict(members)) for key, members in samples], path)[0]


def test_killed_in_stage_2(tmp_path: Path, write: Write) -> None:
    torch.set_num_threads(1)
    stores = [Store.create(tmp_path / name) for name in ("killed", "whole")]
    for store, name in zip(stores, ("killed", "whole"), strict=True):
        (tmp_path / f"shards-{name}").mkdir()
        boxed(store, tmp_path / f"shards-{name}", write, "street", range(COUNT))
    log = tmp_path / "seen"
    dying = tmp_path / "dying"
    dying.write_text(f"{log}\n{AT}")
    died = _cull(tmp_path / "killed", dying)
    assert died.returncode == -signal.SIGKILL, died.stderr
    looked = len(log.read_text().splitlines())
    assert looked == AT
    killed, whole = stores
    assert [one.status for one in killed.runs.all() if one.kind == "detect"] == ["finished"], "the student's"
    assert not [one for one in killed.selections.all() if one.name == "street-culled"]
    again = _cull(tmp_path / "killed", dying)
    assert again.returncode == 0, again.stderr
    kept = json.loads(again.stdout)
    assert kept["teacher_frames"] == FIRST
    assert len(log.read_text().splitlines()) <= looked + FIRST, "no more than the part that was under way again"
    other = tmp_path / "other"
    other.write_text(str(tmp_path / "seen-whole"))
    undisturbed = _cull(tmp_path / "whole", other)
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert [_samples(store) for store in stores] == [_samples(whole)] * 2


def _samples(store: Store) -> list[int]:
    return store.selections.get("street-culled").round_at(0)[0].tolist()


def _cull(store: Path, weights: Path) -> subprocess.CompletedProcess[str]:
    asked = ("cull", "street", "--teacher", "painted:dying", "--teacher-weights", weights, "--student",
             "painted:student", "--first", FIRST, "--keep", 4, "--preset", "paper", "--score-batch", 2, "--json",
             "--store", store)  # fmt: skip
    where = os.pathsep.join((str(HERE), os.environ.get("PYTHONPATH", "")))
    return subprocess.run(
        [sys.executable, "-m", "tamis.flows.cli", *map(str, asked)], capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": where, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
