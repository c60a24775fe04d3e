"""Adding videos in processes that are killed, or two at once; stores on S3; without PyAV."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from s3kit import S3Server
from videokit import video

from tamis.store import Store
from tamis.store.upkeep.verify import verify
from tamis.store.video import Source
from tamis.store.video.adding import add_videos

CHILD = Path(__file__).with_name("video_child.py")
FRAMES = 50


def child(store: Store, path: Path, *moment: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), store.root.url, str(path), *map(str, moment)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def done(process: subprocess.Popen[str]) -> str:
    said, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return said.strip()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return video(tmp_path / "north.mp4", FRAMES)


@pytest.mark.parametrize(("moment", "shards"), [(("frame", 3), 0), (("frame", 30), 2), (("notes",), 7)])
def test_killed_while_adding(store: Store, source: Path, tmp_path: Path, moment: Any, shards: int) -> None:
    whole = add_videos(store.datasets, "whole", [Source(str(source), "north")], tmp_path / "o", fps="all", per_shard=8)
    died = child(store, source, *moment)
    assert (died.wait(timeout=120), died.communicate()[0]) == (-9, "")
    assert ("site" in {row["dataset"] for row in store.datasets.all()}) == (moment == ("notes",))
    assert len(list((tmp_path / "shards").glob("site-*.tar"))) >= shards
    said = done(child(store, source, "whole"))
    made = store.datasets.get("site")
    assert (f"{made.key} {made.ref}", made.version, made.samples) == (said, 1, FRAMES)
    assert [one.digest for one in made.shards] == [one.digest for one in whole.dataset.shards]
    assert not list((tmp_path / "shards").glob(".*.tmp")), "what the killed one left behind is gone"
    frames = made.frames()
    assert frames is not None
    assert np.allclose(frames.seconds_N, np.arange(FRAMES) / 10)
    assert verify(store).problems == []


def test_two_at_once_make_one_dataset(store: Store, source: Path, tmp_path: Path) -> None:
    both = [child(store, source, "meet", 2) for _ in range(2)]
    first, second = (done(one) for one in both)
    assert first == second
    assert [row["version"] for row in store.datasets.all()] == [1]
    made = store.datasets.get("site")
    assert made.keys() == [f"north-{100 * i:010d}" for i in range(FRAMES)]
    left = {path.suffix for path in (tmp_path / "shards").iterdir()}
    assert left == {".tar"}
    rows = store.query("select count(*) as n, count(distinct sample) as m from frames").to_pylist()
    assert rows == [{"n": FRAMES, "m": FRAMES}]
    assert verify(store).problems == []


def test_a_store_on_s3(s3: S3Server, source: Path, tmp_path: Path) -> None:
    store = Store.create(f"{s3.bucket()}/store")
    made = add_videos(store.datasets, "site", [Source(str(source), "north")], tmp_path / "out", fps="2").dataset
    frames = Store.open(store.root.url).datasets.get("site").frames()
    assert frames is not None
    assert (frames.cameras, frames.seconds_N.tolist()) == (("north",), [i / 2 for i in range(10)])
    early, _ = store.datasets.split("site", {"early": 0.5, "late": 0.5}, by_time=True)
    assert early.keys() == made.keys()[:5]


def test_without_pyav_one_line_says_what_to_install(store: Store, source: Path) -> None:
    code = "import sys\nsys.modules['av'] = None\nfrom tamis.flows.start import main\nmain()"
    command = [sys.executable, "-c", code, "--store", store.root.url, "dataset", "add", "site", str(source)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 1
    assert said.stderr.strip().splitlines() == ["Error: Reading videos needs PyAV: pip install 'tamis[video]'."]
