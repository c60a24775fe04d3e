"""Credentials: in no repr and in no pickle; workers have them all the same."""

import copy
import io
import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.errors import StoreDenied
from tamis.training.streaming.credentials import secret
from tamis.training.streaming.local import LocalReader
from tamis.training.streaming.readers import Media
from tamis.training.streaming.remote import RemoteReader, ShardCache
from tamis.training.streaming.stream import SelectionStream
from tamis.training.streaming.workers import worker_context

SECRET = "hush-hush"
OPTIONS = {"aws_access_key_id": f"{SECRET}-id", "aws_secret_access_key": SECRET, "aws_region": "here"}


@pytest.fixture
def stream(store: Store, dataset: object) -> SelectionStream:
    """Of a store in a folder, which keeps its options without using them."""
    opened = Store.open(store.root.url, OPTIONS)
    return SelectionStream(opened, opened.datasets.get("digits"), yields="batches")


def test_nothing_shows_or_pickles_credentials(stream: SelectionStream, tmp_path: Path) -> None:
    shards, options = stream.dataset.shards, stream.dataset.options
    assert options == OPTIONS
    readers = [LocalReader(shards, str), RemoteReader(shards, str, options)]
    cache = ShardCache(tmp_path, options, limit=1)
    things = [stream, stream.dataset, shards[0], stream._media, Media(options=options), stream._index, *readers, cache]
    for thing in things:
        assert SECRET not in f"{thing!r} {thing}"
    for thing in (*things[:6], cache):
        for dumped in (pickle.dumps(thing), bytes(ForkingPickler.dumps(thing)), pickle.dumps(thing, 2)):
            assert SECRET.encode() not in dumped
    file = io.BytesIO()
    np.save(file, np.array([stream], dtype=object), allow_pickle=True)
    assert SECRET.encode() not in file.getvalue()


def test_a_pickled_stream_says_what_it_lacks(stream: SelectionStream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONS:
        monkeypatch.delenv(name.upper(), raising=False)
    assert secret(OPTIONS) == {"aws_access_key_id", "aws_secret_access_key"}
    loaded: SelectionStream = pickle.loads(pickle.dumps(stream))  # noqa: S301 - made here
    for ask in (lambda: next(loaded.epoch(0)), lambda: next(iter(loaded)), lambda: next(loaded.raw(0, workers=1))):
        with pytest.raises(StoreDenied, match="options aws_access_key_id, aws_secret_access_key are missing"):
            ask()
    for name in secret(OPTIONS):
        monkeypatch.setenv(name.upper(), SECRET)
    assert next(loaded.epoch(0)).samples.tolist() == next(stream.epoch(0)).samples.tolist()


def test_a_copy_has_them(stream: SelectionStream) -> None:
    assert next(copy.copy(stream).epoch(0)).samples.tolist() == next(stream.epoch(0)).samples.tolist()


def test_a_worker_has_them(stream: SelectionStream) -> None:
    (process := worker_context().Process(target=_expect_secret, args=(stream,))).start()
    process.join()
    assert process.exitcode == 0


def _expect_secret(stream: SelectionStream) -> None:
    assert stream.dataset.shards[0].options == OPTIONS
    assert stream._store.root.options == stream._media.options == OPTIONS
    next(stream.epoch(0))
