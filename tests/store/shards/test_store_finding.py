"""Shards are found by path, pattern, folder or prefix, and a pattern tells what it would have found."""

from pathlib import Path

import pytest
from s3kit import S3Server

from tamis.store import Store
from tamis.store.datasets.arrivals import arrivals
from tamis.store.errors import ShardChanged, ShardError
from tamis.store.shards.finding import Pattern, find_all


def test_each_shard_is_found_once_in_the_order_of_patterns_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b-2.tar", "b-10.tar", "a.tar", "note.txt", "deep/c.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)

    def found(*patterns: str) -> list[str]:
        uris = find_all([Pattern.of(text) for text in patterns], {})
        return [Path(uri).relative_to(tmp_path).as_posix() for uri in uris]

    assert found("b-*.tar") == ["b-10.tar", "b-2.tar"]
    assert found("b-2.tar", "*.tar", "deep") == ["b-2.tar", "a.tar", "b-10.tar", "deep/c.tar"]
    assert found(".") == ["a.tar", "b-10.tar", "b-2.tar"]
    for nothing in ("c-*.tar", "absent.tar", "deep/d*"):
        with pytest.raises(ShardError, match="matches no file"):
            found(nothing)
    with pytest.raises(ShardError, match="empty pattern"):
        found(" ")
    with pytest.raises(ShardError, match=r"a folder|a directory"):
        found("dee*")


@pytest.mark.parametrize(
    ("pattern", "uri", "covered"),
    [
        ("/d/train-*.tar", "/d/train-7.tar", True),
        ("/d/train-*.tar", "/d/test-7.tar", False),
        ("/d/*.tar", "/d/e/f.tar", False),
        ("/d/a.tar", "/d/a.tar", True),
        ("s3://b/p/", "s3://b/p/q/r.tar", True),
        ("s3://b/p", "s3://b/pq/r.tar", False),
        ("s3://b/p/*.tar", "s3://b/p/q/r.tar", False),
    ],
)
def test_a_pattern_covers_what_it_would_find(pattern: str, uri: str, covered: bool) -> None:
    assert Pattern.of(pattern).covers(uri) is covered


def test_shards_on_an_object_store_are_listed_and_not_asked_for_one_by_one(
    s3: S3Server, digits: dict[str, list[Path]], tmp_path: Path
) -> None:
    bucket = s3.bucket()
    for path in digits["train"][:4]:
        s3.upload(path, f"{bucket}/data/{path.name}")
    s3.upload(digits["test"][0], f"{bucket}/database/other.tar")
    store = Store.create(tmp_path / "store")
    uris = [f"{bucket}/data/{path.name}" for path in digits["train"]]
    dataset = store.datasets.add("digits", uris[:3])
    for pattern in (f"{bucket}/data/", f"{bucket}/data", f"{bucket}/data/train-*.tar"):
        s3.counts(reset=True)
        came = arrivals(dataset, [pattern], store.root.options)
        assert (came.fresh, came.vanished, came.touched) == ((uris[3],), (), 0)
        assert s3.counts()["requests"] == {"GET": 1}, "one listing"
    s3.upload(digits["test"][0], uris[1])
    with pytest.raises(ShardChanged, match="changed after it was indexed"):
        arrivals(dataset, [f"{bucket}/data/"], store.root.options)


def test_a_shard_that_was_written_again_with_the_same_bytes_is_the_same(
    tmp_path: Path, digits: dict[str, list[Path]]
) -> None:
    shard = tmp_path / "a.tar"
    shard.write_bytes(digits["test"][0].read_bytes())
    dataset = Store.create(tmp_path / "store").datasets.add("d", [shard])
    shard.write_bytes(shard.read_bytes())
    assert arrivals(dataset, [str(shard)], {}).touched == 1
