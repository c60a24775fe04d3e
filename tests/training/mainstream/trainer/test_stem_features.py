"""Stem features: those of the frozen layers in evaluation mode, whatever is kept of them and however they are read."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import asked

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.mainstream.base.splitting import split
from tamis.training.mainstream.trainer.bases import keep_base, open_base
from tamis.training.mainstream.trainer.features import Features, Stem, fitting, folder_of, make_room
from tamis.training.mainstream.trainer.sources import Source, in_order
from tamis.training.streaming.batches import Images


@pytest.fixture
def source(store: Store, few: Dataset) -> Source:
    """Every second digit."""
    samples = np.arange(0, few.samples, 2)
    return Source(store, few, samples, np.ones(len(samples), np.float32), Images(1))


@pytest.fixture
def stem(store: Store, tmp_path: Path) -> tuple[Stem, str]:
    base = keep_base(store, asked(tmp_path), 8)
    model = open_base(store, base)
    return Stem(model, split(model, (1, 8, 8))), base.key


def direct(stem: Stem, source: Source, branch: int) -> torch.Tensor:
    """One segment over all images at once, from the pixels to the branchpoint."""
    (batch,) = source.batches([np.arange(len(source.samples_N))])
    if branch == 0:
        return batch.images
    with torch.no_grad():
        return stem._split.segment(0, branch).eval()(batch.images)


def read(features: Features, branch: int, rows: int = 50) -> torch.Tensor:
    return torch.cat([*features.batches(branch, in_order(len(features.source.samples_N), rows))])


def test_features_kept_or_not_are_those_of_the_stem(source: Source, stem: tuple[Stem, str]) -> None:
    """All kept, some kept (the rest from the nearest below), only images, nothing: the numbers are the same."""
    made, base = stem
    last = len(made.shapes) - 1
    wanted = {branch: direct(made, source, branch) for branch in range(last + 1)}
    for keep in (range(last + 1), (1, last), (0,), ()):
        features = Features(source, made, base, keep, rows=64)
        features.fill()
        assert features.missing() == []
        for branch, one in wanted.items():
            found = read(features, branch)
            assert found.dtype == (torch.uint8 if branch == 0 else torch.float32)
            torch.testing.assert_close(found, one, rtol=1e-5, atol=1e-6)
        for path in folder_of(source).iterdir():
            path.unlink()


def test_rows_come_in_any_order_and_the_base_stays_as_it_was(source: Source, stem: tuple[Stem, str]) -> None:
    made, base = stem
    before = {name: one.clone() for name, one in made._model.state_dict().items()}
    features = Features(source, made, base, (2,), rows=64)
    done = list[int]()
    features.fill(done.append)
    assert sum(done) == len(source.samples_N)
    rows = np.asarray([5, 3, 100, 0])
    (found,) = features.batches(2, [rows])
    assert torch.equal(found, read(features, 2)[torch.from_numpy(rows)])
    assert all(torch.equal(one, before[name]) for name, one in made._model.state_dict().items())


def test_one_pass_runs_each_segment_once(
    source: Source, stem: tuple[Stem, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, base = stem
    ran = list[int]()
    inner = made._segment
    monkeypatch.setattr(made, "_segment", lambda here: ran.append(here) or inner(here))
    last = len(made.shapes) - 1
    Features(source, made, base, range(last + 1), rows=10_000).fill()
    assert ran == list(range(last))
    ran.clear()
    Features(source, made, base, range(last + 1), rows=10_000).fill()
    assert ran == []


def test_what_fits_is_kept_the_smallest_first() -> None:
    sizes = {0: 40, 1: 100, 2: 60, 3: 60, 4: 10}
    assert fitting(sizes, 270) == [0, 1, 2, 3, 4]
    assert fitting(sizes, 169) == [0, 3, 4]  # of two as large, the later one
    assert fitting(sizes, 49) == [4]
    assert fitting(sizes, 0) == []


def test_room_is_made_of_what_was_longest_unused(tmp_path: Path) -> None:
    for at, name in enumerate(("a", "b", "c", "d")):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(b"x" * 100)
        os.utime(path, (at, at))
    killed = tmp_path / ".e.npy.123"
    killed.write_bytes(b"x")
    os.utime(killed, (0, 0))
    make_room(tmp_path, 100, [tmp_path / "a.npy"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "d.npy"]


def test_memory_bounds_the_samples_of_a_pass(source: Source, stem: tuple[Stem, str]) -> None:
    made, base = stem
    widest = max(made.bytes_of(branch) for branch in range(1, len(made.shapes)))
    assert Features(source, made, base, (), rows=10**9).rows == (64 << 20) // widest
    assert Features(source, made, base, (), rows=16).rows == 16
