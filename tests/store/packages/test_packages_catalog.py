"""Packages in a store: keys, versions, claims, what a killed build leaves, the frontier, latency profiles, SQL."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packkit import EVENTS, base, candidate, package, publish, weights
from storekit import together

from tamis.store import Store
from tamis.store.errors import BaseNotFound, BlobCorrupt, InvalidName, PackageError, PackageNotFound
from tamis.store.packages import Candidate, EventFigures, pareto_of

CHILD = Path(__file__).with_name("package_child.py")
MOMENTS = 17  # more than a third of the writes of building


def test_a_package_is_what_was_published(store: Store) -> None:
    made = publish(store)
    found = store.packages.get("trains")
    assert (made.created, made.package, found.ref) == (True, found, "trains@1")
    assert store.packages.all() == [found] == [store.packages.get(found.key)]
    assert (found.events, found.classes, found.config, found.lineage) == (
        EVENTS, ("no train", "train"), {"optimizer": "adam"}, {"by": "hand"},
    )  # fmt: skip
    assert [(c.branch, c.frozen, c.accuracy, c.correlation) for c in found.candidates] == [
        (0, 0, 0.875, 0.5), (1, 3, 0.9375, None), (2, 6, 0.75, None),
    ]  # fmt: skip
    assert [store.packages.weights(c) for c in found.candidates] == [weights(0), weights(1), weights(2)]


def test_the_same_package_is_found_and_another_is_the_next_version(store: Store) -> None:
    first, again, other = publish(store), publish(store), publish(store, seed=1)
    assert [p.created for p in (first, again, other)] == [True, False, True]
    assert [p.package.ref for p in (first, again, other)] == ["trains@1", "trains@1", "trains@2"]
    named = publish(store, "buses")
    assert (named.created, named.package.ref, named.package.key) == (True, "buses@1", first.package.key)
    assert not publish(store, "buses").created
    assert store.packages.get("trains").ref == "trains@2"
    fewer = publish(store, branches=2)
    assert (fewer.package.ref, fewer.package.key == first.package.key) == ("trains@3", False)
    told = publish(store, events=EventFigures(2.5, 1.0, 0.25, 0.5))
    assert told.package.ref == "trains@4"
    assert publish(store, lineage={"by": "somebody else"}).package == first.package


def test_whole_numbers_are_the_same_numbers(store: Store) -> None:
    of = base(store)
    one = store.packages.finish_candidate(replace(candidate(of, 0), accuracy=1, tpr=1, fpr=0), weights(0))
    first = store.packages.publish(package(of, events=EventFigures(2, 1, 1, 0)), [one])
    again = store.packages.publish(package(of, events=EventFigures(2.0, 1.0, 1.0, 0.0)), [one.key])
    assert (again.created, again.package) == (False, first.package)
    assert Store.open(store.root.url).packages.get("trains") == first.package


def test_a_finished_candidate_is_the_answer_to_its_key(store: Store) -> None:
    of = base(store)
    one = candidate(of, 1)
    assert store.packages.candidate(one.key) is None
    done = store.packages.finish_candidate(one, weights(1))
    again = store.packages.finish_candidate(replace(one, accuracy=0.5), weights(2))
    assert again == done == store.packages.candidate(one.key)
    assert store.packages.weights(done) == weights(1)
    assert store.query("select count(*) as n from candidates")["n"].to_pylist() == [0]


def test_a_base_is_kept_once_however_many_packages_use_it(store: Store) -> None:
    for seed in range(3):
        publish(store, f"app{seed}", seed)
    assert len(store.packages.bases.all()) == 1
    assert len({one.base for one in store.packages.all()}) == 1
    assert len([name for name, _ in store.root.list("blobs")]) == 1 + 9
    key = store.packages.bases.all()[0].key
    assert store.packages.bases.get(key).source == "made by hand"
    assert base(store, 1).key != key
    with pytest.raises(BaseNotFound, match=r"there are: .*\(tiny\)"):
        store.packages.bases.get("f" * 32)


def _race(path: Path, number: int) -> None:
    publish(Store.open(path), seed=number // 2)


def test_processes_at_once_leave_one_package_a_key_and_a_version_each(store: Store) -> None:
    path = Path(store.root.url)
    together(_race, path, 3)
    found = Store.open(path).packages.all()
    assert [one.ref for one in found] == ["trains@1", "trains@2"]
    assert sorted(one.seed for one in found) == [0, 1]
    assert len(Store.open(path).packages.candidates()) == 6
    assert len(Store.open(path).packages.bases.all()) == 1


def test_killed_at_any_write_building_goes_on_where_it_was(made: Path, tmp_path: Path) -> None:
    places = [shutil.copytree(made / "empty", tmp_path / str(i)) for i in range(MOMENTS)]
    path = os.pathsep.join([str(CHILD.parent), str(CHILD.parents[1])])
    done = subprocess.run(
        [sys.executable, str(CHILD), *map(str, places)], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    died = [int(line) == -signal.SIGKILL for line in done.stdout.split()]
    assert (died[0], died[-1], died) == (True, False, sorted(died, reverse=True))
    finished = []
    for place in places[: died.index(False) + 1]:
        store = Store.open(place)
        packages, kept = store.packages.all(), store.packages.candidates()
        seen = store.query("select count(*) as n from candidates")["n"].to_pylist()
        assert seen == [2 if packages else 0]
        finished.append(len(kept))
        whole = publish(store, branches=2)
        assert (whole.created, whole.package.ref) == (not packages, "trains@1")
        assert store.packages.candidates()[: len(kept)] == kept
        assert [store.packages.weights(c) for c in whole.package.candidates] == [weights(i) for i in range(2)]
    assert finished == sorted(finished)
    assert set(finished) == {0, 1, 2}


def test_refs_are_told_what_there_is(store: Store) -> None:
    publish(store)
    with pytest.raises(PackageNotFound, match=r"there are: trains\. Did you mean 'trains'\?"):
        store.packages.get("trans")
    with pytest.raises(PackageNotFound, match="has versions 1 to 1, not 2"):
        store.packages.get("trains@2")
    with pytest.raises(InvalidName, match="after '@' comes a version"):
        store.packages.get("trains@x")
    with pytest.raises(PackageNotFound, match="there are: trains"):
        store.packages.get("../trains")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": float("nan")}, r"accuracy is nan: expected a number from 0 to 1"),
        ({"tpr": 1.5}, r"tpr is 1\.5"),
        ({"fpr": True}, "fpr is True"),
        ({"correlation": -0.1}, "correlation is -0.1: .* or null"),
        ({"branch": -1}, "branch is -1: expected a whole number 0 to 4095"),
        ({"branch": 1.0}, "branch is 1.0"),
        ({"parameters": 10**400}, "parameters is a very large number"),
        ({"metrics": {"x": float("inf")}}, "metrics is .*: expected an object of plain JSON"),
        ({"metrics": {"x": object()}}, "metrics is"),
        ({"branchpoint": "a\0b"}, "branchpoint is"),
        ({"branchpoint": "\ud800"}, "branchpoint is"),
        ({"key": "../../etc"}, "key is '../../etc': expected a key"),
    ],
)
def test_candidates_that_cannot_be_are_refused(store: Store, change: dict[str, object], said: str) -> None:
    of = base(store)
    with pytest.raises(PackageError, match=said):
        store.packages.finish_candidate(replace(candidate(of, 0), **change), weights(0))
    assert store.packages.candidates() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"event_class": "bus"}, "the event is class 'bus': expected one of no train, train"),
        ({"events": EventFigures(1.0, 2.0, 0.5, 0.0)}, "expected a minimum of at most the average"),
        ({"events": EventFigures(1.0, 1.0, 0.0, 0.0)}, "frequency is 0.0: expected a number above 0 to 1"),
        ({"events": EventFigures(1.0, 1.0, 0.5, 1.5)}, "correlation is 1.5"),
        ({"events": EventFigures(1.0, 1.0, 0.5, 0.0, ("colour",))}, "measured is"),
        ({"image_size": 0}, "image_size is 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
    ],
)
def test_packages_that_cannot_be_are_refused(store: Store, change: dict[str, object], said: str) -> None:
    with pytest.raises(PackageError, match=said):
        publish(store, branches=1, **change)
    assert store.packages.all() == []


def test_candidates_of_a_package_are_finished_of_one_base_and_each_once(store: Store) -> None:
    of, other = base(store), base(store, 1)
    one = store.packages.finish_candidate(candidate(of, 0), weights(0))
    with pytest.raises(PackageError, match="has 0 candidates: expected 1 to"):
        store.packages.publish(package(of), [])
    with pytest.raises(PackageError, match="names a candidate twice"):
        store.packages.publish(package(of), [one, one.key])
    with pytest.raises(PackageNotFound, match="is not finished"):
        store.packages.publish(package(of), [candidate(of, 1).key])
    with pytest.raises(PackageError, match="expected candidates of one base"):
        store.packages.publish(package(other), [one])
    with pytest.raises(BaseNotFound):
        store.packages.finish_candidate(replace(candidate(of, 1), base="0" * 32), weights(1))
    with pytest.raises(InvalidName, match="a package"):
        store.packages.publish(package(of, "No Name"), [one])


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", weights(0)[:-1], weights(0) + b"x", b"\xff" * 64])
def test_weights_are_whole_safetensors(store: Store, data: bytes) -> None:
    of = base(store)
    with pytest.raises(PackageError, match="no whole safetensors file"):
        store.packages.finish_candidate(candidate(of, 0), data)
    assert store.packages.candidates() == []


def test_damaged_weights_are_noticed(store: Store) -> None:
    one = publish(store).package.candidates[0]
    file = Path(store.root.url) / "blobs" / one.blob[:2] / one.blob
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BlobCorrupt):
        store.packages.weights(one)


def test_the_frontier_has_what_nothing_beats() -> None:
    def of(branch: int, accuracy: float) -> Candidate:
        return Candidate(f"{branch:031d}a", "b" * 32, branch, "", branch, 0, accuracy, 0.5, 0.5)

    points = [(0, 0.9), (1, 0.9), (2, 0.8), (3, 0.85), (4, 0.5), (4, 0.6)]
    assert [c.pareto for c in pareto_of([of(*p) for p in points])] == [False, True, False, True, False, True]
    assert [c.pareto for c in pareto_of([of(1, 0.5), replace(of(1, 0.5), key="c" * 32)])] == [True, True]


def test_sql_shows_candidates_of_published_packages(store: Store) -> None:
    publish(store, branches=2)
    publish(store, "buses", branches=2)
    store.packages.finish_candidate(candidate(base(store), 2), weights(2))
    rows = store.query(
        "select package, branch, accuracy, pareto, metrics->>'epochs' as epochs from candidates order by 1, 2"
    )
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        ("buses@1", 0, 0.875, False, "0"), ("buses@1", 1, 0.9375, True, "1"),
        ("trains@1", 0, 0.875, False, "0"), ("trains@1", 1, 0.9375, True, "1"),
    ]  # fmt: skip
    asked = "select name, average, event_class, config->>'optimizer' as how from packages where name = 'trains'"
    assert store.query(asked).to_pylist() == [{"name": "trains", "average": 2.5, "event_class": "train", "how": "adam"}]
    joined = (
        "select count(*) as n from candidates c join bases b on b.base = c.base join packages p on p.name = 'trains'"
    )
    assert store.query(joined)["n"].to_pylist() == [4]
    assert store.query("select count(*) as n from candidates", at={"packages": 1})["n"].to_pylist() == [2]


def test_the_newest_profile_of_a_device_counts(store: Store) -> None:
    of, profiles = base(store), store.packages.profiles
    assert profiles.get(of.key, device="ARM x4", threads=4) is None
    profiles.put(of.key, [0.5, 0.25], device="ARM x4", threads=4, rest=0.125, stats={"rounds": 20})
    profiles.put(of.key, [0.5, 0.5], device="ARM x4", threads=1)
    newest = profiles.put(of.key, [0.25, 0.25], device="ARM x4", threads=4)
    found = Store.open(store.root.url).packages.profiles.get(of.key, device="ARM x4", threads=4)
    assert found == newest
    assert (newest.version, newest.segments, newest.rest) == (2, (0.25, 0.25), None)
    assert [(one.threads, one.version) for one in profiles.all()] == [(4, 2), (1, 1)]
    shown = store.query("select device, version, segments from profiles where threads = 4 order by version").to_pylist()
    assert [row["segments"] for row in shown] == [[0.5, 0.25], [0.25, 0.25]]
    with pytest.raises(PackageError, match="segments is"):
        profiles.put(of.key, [float("nan")], device="x", threads=1)
    with pytest.raises(PackageError, match="threads is 0"):
        profiles.put(of.key, [1.0], device="x", threads=0)


def test_a_store_from_before_has_none_and_takes_some(store: Store) -> None:
    folder = Path(store.root.url)
    for name in ("bases", "candidates", "packages", "profiles"):
        for part in ("tables", "index"):
            shutil.rmtree(folder / part / name, ignore_errors=True)
    opened = Store.open(folder)
    assert (opened.packages.all(), opened.packages.bases.all(), opened.packages.profiles.all()) == ([], [], [])
    with pytest.raises(PackageNotFound, match="there are: none"):
        opened.packages.get("trains")
    for name in ("packages", "candidates", "profiles", "bases"):
        assert opened.query(f"select count(*) as n from {name}")["n"].to_pylist() == [0]
    assert publish(opened).package.ref == "trains@1"


def test_an_index_that_is_lost_is_made_again(store: Store) -> None:
    first = publish(store)
    publish(store, "buses")
    for name in ("bases", "candidates", "packages"):
        shutil.rmtree(Path(store.root.url) / "index" / name)
    opened = Store.open(store.root.url)
    assert opened.packages.get("trains") == first.package
    assert not publish(opened, "buses").created
    assert publish(opened, seed=1).package.ref == "trains@2"
