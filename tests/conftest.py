"""Shared by all tests: real digits in real shards, and stores in folders of their own."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads crawl on a busy machine

from s3kit import S3Server, running

# How long a case takes on a busy machine says nothing about it.
settings.register_profile("tamis", deadline=None)
settings.load_profile("tamis")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """scikit-learn's digits as shards: {"train": 5 tars, 1,498 samples; "test": 1 tar, 299 samples}. Do not write."""
    folder = tmp_path_factory.mktemp("digits")
    return {"train": pack_digits(folder / "train"), "test": pack_digits(folder / "test", test=True)}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, digits: dict[str, list[Path]]) -> Path:
    """A folder with two stores to copy: `empty`, and `full` with the training digits as digits@1. Do not write."""
    folder = tmp_path_factory.mktemp("stores")
    Store.create(folder / "empty")
    Store.create(folder / "full").datasets.add("digits", digits["train"])
    return folder


@pytest.fixture
def store(tmp_path: Path, made: Path, request: pytest.FixtureRequest) -> Store:
    """A store of the test's own: empty, or with digits@1 where the test asks for `dataset` too."""
    which = "full" if "dataset" in request.fixturenames else "empty"
    return Store.open(shutil.copytree(made / which, tmp_path / "store"))


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """The training digits as digits@1 of `store`."""
    return store.datasets.get("digits")


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """`real("cifar10")` is the folder of that dataset, for tests marked `real`; without it they skip."""

    def folder(name: str) -> Path:
        given = os.environ.get("TAMIS_DATA")
        if not given:
            pytest.skip(f"needs real data: make test-real DATA=DIR, with {name} in DIR/{name}")
        if not (Path(given) / name).is_dir():
            pytest.skip(f"needs real data, and {given} has no folder {name}")
        return Path(given) / name

    return folder


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with running() as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that speaks S3 and the environment that leads to it, also for processes that the test starts."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    yield _s3_server
    _s3_server.fault()
