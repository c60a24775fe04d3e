"""Shards of numbered images, and selections of them."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import Select, Write, numbered

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Request, RoundData, Selection


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two threads on a shared machine make small models slower, and sums depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture
def write() -> Write:
    """Writes a shard of (key, {suffix: bytes}) samples."""

    def write_shard(path: Path, samples: Sequence[tuple[str, Mapping[str, bytes]]]) -> Path:
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                for suffix, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return path

    return write_shard


@pytest.fixture
def sixty(store: Store, tmp_path: Path, write: Write) -> Dataset:
    """60 numbered samples of 3 classes in 3 shards of 25, 25 and 10."""
    shards: list[Path] = []
    for first, last in ((0, 25), (25, 50), (50, 60)):
        samples = [(f"s{i:03d}", {"png": numbered(i), "cls": b"%d" % (i % 3)}) for i in range(first, last)]
        shards.append(write(tmp_path / f"sixty-{first}.tar", samples))
    return store.datasets.add("sixty", shards)


@pytest.fixture
def select(store: Store) -> Select:
    """Publishes a selection; weights default to the sample's number + 1."""

    def publish(
        dataset: Dataset, *rounds: tuple[int, Sequence[int]], weights: Sequence[float] | None = None
    ) -> Selection:
        data: list[RoundData] = []
        for first_epoch, samples in rounds:
            chosen = np.asarray(samples)
            given = chosen + 1.0 if weights is None else np.asarray(weights)
            data.append(RoundData(samples=chosen, weights=given, first_epoch=first_epoch))
        request = Request(dataset, "by-hand", 1, {"rounds": repr(rounds)})
        return store.selections.publish(request, "chosen", data, seconds=0.0).selection

    return publish
