"""Curves of files and packages: latencies and rates worked out by hand, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from curvekit import people, written

from tamis.store import Store
from tamis.store.errors import PackageNotFound
from tamis.training.errors import ReportError
from tamis.training.mainstream.events.model import Events
from tamis.training.reports.mainstream.tasks import application, published, stored


def test_a_file_of_curves(tmp_path: Path) -> None:
    """Segments lie between frozen layers; accuracy does not fall where less is shared."""
    found = published(written(tmp_path))
    assert (found.bases, found.unit, found.whole()) == ({"base": (4.0, 3.0)}, "units", 8.0)
    cats, buses = found.tasks
    assert [(o.branch, o.tpr, o.fpr, o.seconds) for o in cats.options] == [
        (0, 0.95, 0.05, 8.0), (1, 0.95, 0.1, 4.0), (2, 0.6, 0.2, 1.0),
    ]  # fmt: skip
    assert [o.tpr for o in buses.options] == [0.8, 0.7, 0.5]
    with pytest.raises(ReportError, match="does not say what its events are like"):
        application(cats, "a")
    assert application(cats, "a", Events(1, 1, 0.5, 0)).options == cats.options


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"layer_latencies": []}, "layer_latencies"),
        ({"layer_latencies": [4.0, -2.0, 1.0, 1.0]}, "layer_latencies.1"),
        ({"layer_latencies": [0.0, 0.0, 0.0, 0.0]}, "no latency above 0"),
        ({"frozen_accuracy_falsepositive": {}}, "frozen_accuracy_falsepositive"),
        ({"frozen_accuracy_falsepositive": {"cats": []}}, "do not rise"),
        ({"frozen_accuracy_falsepositive": {"cats": [[0, 1.5, 0.1]]}}, "less than or equal to 1"),
        ({"frozen_accuracy_falsepositive": {"cats": [[0, 0.5, 0.1], [0, 0.5, 0.1]]}}, "do not rise"),
        ({"frozen_accuracy_falsepositive": {"cats": [[0, 0.5, 0.1], [4, 0.5, 0.1]]}}, "fewer than the 4 latencies"),
        ({"frozen_accuracy_falsepositive": {"a": [[0, 0.5, 0.1]], "b": [[0, 0.5, 0.1], [1, 0.5, 0.1]]}}, "different"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ReportError, match=words) as refused:
        published(written(tmp_path, **changed))
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read"):
        published(tmp_path / "none.json")
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(ReportError, match="has no curves"):
        published(tmp_path / "no.json")


def test_packages_of_a_store(store: Store) -> None:
    """The candidate at branchpoint 0 shares less than that at 1 and is worse: no plan takes it."""
    people(store)
    found = stored(store, ["people"])
    (task,) = found.tasks
    assert [(o.branch, o.tpr, o.seconds, o.name) for o in task.options] == [
        (1, 0.95, 4.0, "features.1"), (2, 0.6, 1.0, "features.2"),
    ]  # fmt: skip
    assert (task.events, task.package) == (Events(2.5, 1.0, 0.125, 0.25), "people@1")
    assert (found.unit, found.source, found.whole()) == ("s", "people@1; slow board", 8.0)


def test_packages_that_cannot_be_used(store: Store) -> None:
    made = people(store, profile=False)
    with pytest.raises(ReportError, match="has no latency profile: "):
        stored(store, ["people"])
    store.packages.profiles.put(made.base, [4.0], device="slow board", threads=1)
    with pytest.raises(ReportError, match="on 'fast board'; measured on: slow board"):
        stored(store, ["people"], "fast board")
    with pytest.raises(ReportError, match="a candidate at branchpoint 2, the profile of its base 1 segments"):
        stored(store, ["people"])
    with pytest.raises(ReportError, match="named twice"):
        stored(store, ["people", "people@1"])
    with pytest.raises(PackageNotFound, match="people"):
        stored(store, ["peopel"])
