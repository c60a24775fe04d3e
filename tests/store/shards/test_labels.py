"""Labels of every kind: class numbers, class names, values inside of JSON, numbers to learn."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tamis.store import Store
from tamis.store.errors import ShardError
from tamis.store.shards.labels import Label, parse_label, read_number


def shard(path: Path, labels: list[bytes], suffix: str = "cls") -> Path:
    """One sample a label; keys begin with the shard's own name."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i, label in enumerate(labels):
            for name, data in (("png", b"pixels"), (suffix, label)):
                info = tarfile.TarInfo(f"{path.stem}{i}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def test_where_labels_are() -> None:
    assert parse_label("cls") == Label("cls")
    assert parse_label("json:label.id") == Label("json", ("label", "id"))
    assert parse_label("number:json:boxes.0.x") == Label("json", ("boxes", "0", "x"), number=True)
    for wrong in ("", "json:", "json:a..b", "number:", ":a"):
        with pytest.raises(ShardError, match="has an empty part: expected a member"):
            parse_label(wrong)


def test_names_are_numbered_in_alphabetical_order(store: Store, tmp_path: Path) -> None:
    made = store.datasets.add("d", [shard(tmp_path / "a.tar", [b"dog\n", b"cat", b"\xc3\xa9lan", b"cat"])])
    assert made.classes == ("cat", "dog", "élan")
    assert made.labels().tolist() == [1, 0, 2, 0]
    assert store.datasets.get("d").classes == made.classes
    assert store.datasets.add("d", [tmp_path / "a.tar"]).ref == "d@1"


def test_the_names_that_are_given_decide_the_numbers(store: Store, tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [b"dog", b"cat"])
    made = store.datasets.add("d", [path], classes=["emu", "dog", "cat"])
    assert (made.labels().tolist(), made.classes) == ([1, 2], ("emu", "dog", "cat"))
    with pytest.raises(ShardError, match=r"1 names .* not among the 1 class names that were given \(first: 'cat'\)"):
        store.datasets.add("e", [path], classes=["dog"])


def test_shards_that_are_appended_agree_or_extend(store: Store, tmp_path: Path) -> None:
    store.datasets.add("d", [shard(tmp_path / "a.tar", [b"dog", b"cat"])])
    store.datasets.add("d", [shard(tmp_path / "b.tar", [b"dog"])], append=True)
    third = store.datasets.add("d", [shard(tmp_path / "c.tar", [b"bat", b"cat", b"ant"])], append=True)
    assert third.labels().tolist() == [1, 0, 1, 3, 0, 2]  # numbers that were given stay; new ones stand behind them
    assert third.classes == ("cat", "dog", "ant", "bat")
    assert store.datasets.get("d@2").classes == ("cat", "dog")


def test_shards_may_still_call_a_class_as_it_was_called(store: Store, tmp_path: Path) -> None:
    store.datasets.add("d", [shard(tmp_path / "a.tar", [b"dgo", b"cat"])])
    store.datasets.rename_classes("d", ["cat", "dog"])
    second = store.datasets.add("d", [shard(tmp_path / "b.tar", [b"dgo", b"dog", b"emu"])], append=True)
    assert second.labels().tolist() == [1, 0, 1, 1, 2]
    assert second.classes == ("cat", "dog", "emu")


def test_names_and_numbers_do_not_mix(store: Store, tmp_path: Path) -> None:
    numbers, names = shard(tmp_path / "a.tar", [b"0", b"1"]), shard(tmp_path / "b.tar", [b"dog"])
    with pytest.raises(ShardError, match=r"b\.tar are names of classes, and others .* class numbers without names"):
        store.datasets.add("d", [numbers, names])
    store.datasets.add("d", [numbers])
    with pytest.raises(ShardError, match=r"b\.tar are names of classes, and others"):
        store.datasets.add("d", [names], append=True)
    store.datasets.add("named", [numbers], classes=["cat", "dog"])
    assert store.datasets.add("named", [names], append=True).labels().tolist() == [0, 1, 1]


def test_shards_with_other_names_are_other_shards(store: Store, tmp_path: Path) -> None:
    """Also without digests of their bytes: the index's digest holds the names."""
    one = store.datasets.add("one", [shard(tmp_path / "a.tar", [b"cat"])], digests=False)
    other = store.datasets.add("other", [shard(tmp_path / "a.tar", [b"dog"])], digests=False)
    assert one.shards[0].index_digest != other.shards[0].index_digest


@pytest.mark.parametrize(("values", "expected"), [([3, 0, 3], [3, 0, 3]), (["b", "a", "7"], None)])
def test_a_value_inside_of_json(store: Store, tmp_path: Path, values: list[object], expected: object) -> None:
    contents = [json.dumps({"boxes": [{"id": v}], "id": "x"}).encode() for v in values]
    if expected is None:  # a text is a name, so it has a letter
        with pytest.raises(ShardError, match=r"'7' is neither\); expected .* at boxes\.0\.id\. 1 of 3"):
            store.datasets.add("d", [shard(tmp_path / "a.tar", contents, "json")], label="json:boxes.0.id")
        contents, expected = contents[:2], [1, 0]
    made = store.datasets.add("d", [shard(tmp_path / "a.tar", contents, "json")], label="json:boxes.0.id")
    assert made.labels().tolist() == expected
    assert made.label == "json:boxes.0.id"


@pytest.mark.parametrize(
    ("content", "label", "words"),
    [
        (b'{"a": {"b": 1, "c": 2}}', "json:a.x", r"no a\.x in it: there are b, c"),
        (b'{"a": [1, 2]}', "json:a.2", r"no a\.2 in it: it is \[1, 2\]"),
        (b'{"a": true}', "json:a", "True is neither"),
        (b'{"a": 1.0}', "json:a", "1.0 is neither"),
        (b'{"a": -1}', "json:a", "-1 is neither"),
        (b"{", "json:a", "holds b'{'"),
        (b"\xff\xfe", "cls", "holds b'.xff.xfe'"),
        (b"a\x07", "cls", "is neither"),
        (b"x" * 1001, "cls", "at most 1000 characters, and this one 1001"),
        (b"nan", "number:txt", "nan is not finite"),
        (b"1e999", "number:txt", "inf is not finite"),
        (b"cat", "number:txt", "expected a finite number"),
        (b'{"a": [1]}', "number:json:a", r"\[1\] is not a number"),
    ],
)
def test_what_is_no_label_is_named(store: Store, tmp_path: Path, content: bytes, label: str, words: str) -> None:
    path = shard(tmp_path / "a.tar", [content], parse_label(label).member)
    with pytest.raises(ShardError, match=rf"member a0\.\w+ holds .*{words}|{words}"):
        store.datasets.add("d", [path], label=label)


def test_numbers_to_learn_are_no_classes(store: Store, tmp_path: Path) -> None:
    made = store.datasets.add("d", [shard(tmp_path / "a.tar", [b"1.5\n", b"-2e3"], "txt")], label="number:txt")
    assert made.labels().tolist() == [-1, -1]
    assert [read_number(text, parse_label("number:txt")) for text in (b"1.5\n", b"-2e3")] == [1.5, -2000]
    assert read_number(b'{"a": {"b": 3}}', parse_label("number:json:a.b")) == 3
