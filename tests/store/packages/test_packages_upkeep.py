"""`tamis verify` and `tamis gc` over packages: what is checked, what is removed, and what never is."""

import os
import time
from pathlib import Path

from packkit import base, candidate, publish, weights

from tamis.store import Store
from tamis.store.packages import Package
from tamis.store.upkeep.collect import collect
from tamis.store.upkeep.verify import verify

DAY = 24 * 3600.0


def age(store: Store, days: float) -> None:
    """Make every blob look as old as that."""
    moment = time.time() - days * DAY
    for name, _ in store.root.list("blobs"):
        os.utime(Path(store.root.url) / name, (moment, moment))


def blob(store: Store, digest: str) -> Path:
    return Path(store.root.url) / "blobs" / digest[:2] / digest


def test_what_is_whole_is_counted(store: Store) -> None:
    publish(store)
    publish(store, "buses", 1)
    report = verify(store)
    assert report.problems == []
    assert [report.checked[kind] for kind in ("base models", "candidates", "packages", "blobs")] == [1, 6, 2, 7]


def test_lost_and_damaged_weights_are_named_and_an_import_heals_them(store: Store, tmp_path: Path) -> None:
    made = publish(store).package
    store.packages.export("trains", tmp_path / "trains")
    blob(store, made.candidates[0].blob).unlink()
    blob(store, made.candidates[1].blob).write_bytes(b"other")
    problems = verify(store).problems
    assert len(problems) == 2
    assert made.candidates[0].key[:12] in problems[0]
    assert made.candidates[1].blob in problems[1]
    age(store, 1)  # what was put a moment ago is taken for whole
    assert not store.packages.import_(tmp_path / "trains").created
    assert verify(store).problems == []


def test_a_package_that_says_something_else_is_named(store: Store) -> None:
    made = publish(store).package
    said = store.tables.found("packages", "name/trains", 1)
    assert said is not None
    row = said.rows[0] | {"version": 2, "dataset": "street@2"}
    assert store.tables.publish("packages", [row], {"name/trains": 2, f"named/trains/{made.key}": 1})
    assert [p for p in verify(store).problems if "trains@2 is not what was published" in p]


def test_only_weights_that_nothing_names_are_removed_and_only_after_a_day(store: Store) -> None:
    made: Package = publish(store, branches=2).package
    of = base(store)
    built = store.packages.finish_candidate(candidate(of, 2), weights(2))  # by a build that was killed then
    store.runs.begin(kind="train", key="aaaa1", dataset="street@1")
    store.runs.finish("aaaa1", model=store.blobs.put(b"of a run"))
    lost = store.blobs.put(weights(99))  # by one that was killed before
    assert collect(store) == []
    age(store, 2)
    assert [(one.name, one.why) for one in collect(store, dry_run=True)] == [
        (f"blobs/{lost[:2]}/{lost}", "never published")
    ]
    assert store.blobs.exists(lost)
    assert [one.name for one in collect(store)] == [f"blobs/{lost[:2]}/{lost}"]
    assert not store.blobs.exists(lost)
    assert verify(store).problems == []
    assert store.packages.weights(built) == weights(2)
    assert [store.packages.weights(c) for c in made.candidates] == [weights(0), weights(1)]


def test_what_is_put_again_has_its_day_anew(store: Store) -> None:
    store.blobs.put(weights(99))
    age(store, 2)
    store.blobs.put(weights(99))
    assert collect(store) == []
