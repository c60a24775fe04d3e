"""Digits as the pages' data, and a store in which what the pages take for granted has been made."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pageblocks import Shell
from PIL import Image
from videokit import video

from tamis.store.datasets.packing import digit_samples, pack_samples

# Versions 1 to 3 of a selection, two trained runs, a Grad-Match selection and features, all on 200 digits.
_PREPARED = """
tamis init
tamis dataset add cifar10 data/train-*.tar
tamis dataset add cifar10-test data/test-*.tar
recipe="--dataset cifar10 --model preact8 --epochs 1 --evaluate-on cifar10-test --evaluate-every 1 --record-losses"
tamis train $recipe
tamis score uncertainty --dataset cifar10 --proxy preact8 --epochs 1 --ensemble 2
for budget in 70% 60% 50%; do
  tamis select uncertainty --dataset cifar10 --measure entropy --budget $budget
done
tamis select random --dataset cifar10 --budget 50%
tamis train $recipe --selection cifar10-entropy@1
tamis select gradmatch --budget 10% --every 1 --name cifar10-gradmatch --dataset cifar10 --model preact8 --epochs 1
"""


@pytest.fixture(scope="session")
def page_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards train-000000.tar and -000001.tar of 100 digits each, and one of tests. Do not write."""
    folder = tmp_path_factory.mktemp("pages") / "data"
    pack_samples(list(digit_samples())[:200], folder / "train", per_shard=100)
    pack_samples(list(digit_samples(test=True))[:60], folder / "test")
    return folder


@pytest.fixture(scope="session")
def prepared(page_data: Path, prefect_home: None) -> Path:
    """A store with the pages' datasets, runs and selections. Do not write."""
    folder = page_data.parent
    shell = Shell(folder, {"TAMIS_STORE": "work"})
    shell.run(_PREPARED)
    shell.run("tamis score features --dataset cifar10 --model-run 5e77c1")
    return folder / "work"


@pytest.fixture
def folder_of(tmp_path: Path, page_data: Path, request: pytest.FixtureRequest) -> Callable[[bool], Shell]:
    """A shell beside `data`, and beside a store `work` with all of the above, or without one."""

    def make(with_store: bool) -> Shell:
        shutil.copytree(page_data, tmp_path / "data")
        if with_store:
            shutil.copytree(request.getfixturevalue("prepared"), tmp_path / "work")
            _files(tmp_path)
        return Shell(tmp_path, {"TAMIS_STORE": "work"})

    return make


def _files(folder: Path) -> None:
    """The files that pages name: a shard that came later, lists, scores, pictures."""
    pack_samples(list(digit_samples())[200:250], folder / "later")
    (folder / "later-000000.tar").rename(folder / "data" / "train-000010.tar")
    (folder / "new/place").mkdir(parents=True)
    (folder / ".bin").mkdir()
    (folder / ".bin/mail").symlink_to("/bin/true")  # which a service would tell of failures
    pack_samples(list(digit_samples())[300:400], folder / "incoming/train", per_shard=50)
    (folder / "corrected.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    (folder / "corrected.csv").write_text("sample,label\n" + "\n".join(f"{i},{i % 10}" for i in range(250)))
    (folder / "coreset.csv").write_text("sample,weight\n3,0.5\n7,2\n")
    (folder / "hardest.txt").write_text("3\n7\n")
    columns = {"sample": np.arange(250), "el2n": np.linspace(0, 1, 250)}
    pq.write_table(pa.table(columns), folder / "el2n.parquet")
    (folder / "cameras").mkdir()
    for name in ("cameras/north", "cameras/south", "a", "b", "later"):
        video(folder / f"{name}.mp4")
    for name in ("cat/left.2.png", "dog/one.png"):
        (folder / "pictures" / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8), len(name)).save(folder / "pictures" / name)
