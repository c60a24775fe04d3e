"""WebDataset dicts of datasets whose labels are no plain class numbers."""

from pathlib import Path

from numbered import Write, numbered

from tamis.store import Store
from tamis.training.streaming.stream import SelectionStream


def test_names_of_classes_come_as_their_numbers(store: Store, tmp_path: Path, write: Write) -> None:
    samples = [(f"s{i}", {"png": numbered(i), "cls": name}) for i, name in enumerate((b"dog", b"cat", b"dog"))]
    dataset = store.datasets.add("d", [write(tmp_path / "d.tar", samples)])
    stream = SelectionStream(store, dataset, shuffle=False)
    assert [one["cls"] for one in stream] == [b"1", b"0", b"1"]
    [batch] = stream.epoch(0)
    assert batch.labels.tolist() == [1, 0, 1]


def test_a_label_inside_of_a_member_stands_beside_it(store: Store, tmp_path: Path, write: Write) -> None:
    contents = [b'{"id": 4}', b'{"id": 0}']
    samples = [(f"s{i}", {"png": numbered(i), "json": content}) for i, content in enumerate(contents)]
    dataset = store.datasets.add("d", [write(tmp_path / "d.tar", samples)], label="json:id")
    found = list(SelectionStream(store, dataset, shuffle=False))
    assert [(one["json"], one["cls"]) for one in found] == [(contents[0], b"4"), (contents[1], b"0")]
    assert "cls" not in next(iter(SelectionStream(store, dataset, shuffle=False, members=["png"])))


def test_numbers_to_learn_come_as_they_lie(store: Store, tmp_path: Path, write: Write) -> None:
    samples = [("s0", {"png": numbered(0), "txt": b"1.5"})]
    dataset = store.datasets.add("d", [write(tmp_path / "d.tar", samples)], label="number:txt")
    [found] = SelectionStream(store, dataset, shuffle=False)
    assert found["txt"] == b"1.5"
    assert "cls" not in found
