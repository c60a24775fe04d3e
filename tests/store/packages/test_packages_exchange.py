"""Packages as folders: what comes out goes in again, whole or not at all, and nothing hostile gets any further."""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packkit import base, candidate, package, publish, rewrite, weights

from tamis.store import Store
from tamis.store.errors import InvalidName, PackageError, TamisError
from tamis.store.packages import Base, Package
from tamis.store.packages.manifest import document, file_of
from tamis.store.packages.records import package_key

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Package]:
    """A folder with a package of three candidates, and what it is of. Do not write."""
    folder = tmp_path_factory.mktemp("exported")
    store = Store.create(folder / "store")
    made = publish(store).package
    store.packages.export("trains", folder / "trains")
    return folder / "trains", made


@pytest.fixture
def folder(exported: tuple[Path, Package], tmp_path: Path) -> Path:
    """A copy of the folder, to be spoilt."""
    return Path(shutil.copytree(exported[0], tmp_path / "trains"))


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store into which nothing gets, however often it is tried."""
    return Store.create(tmp_path_factory.mktemp("blank") / "store")


def refused(store: Store, folder: Path, said: str) -> None:
    """Importing is refused in one line, and nothing of the package is in the store."""
    with pytest.raises(PackageError, match=said) as caught:
        store.packages.import_(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert store.packages.all() == []
    assert store.packages.candidates() == []
    assert store.packages.bases.all() == []
    assert store.root.list("blobs") == []


def test_what_comes_out_goes_in_again(store: Store, exported: tuple[Path, Package], tmp_path: Path) -> None:
    folder, made = exported
    assert sorted(p.name.split("-")[0] for p in folder.iterdir()) == [
        "0000",
        "0001",
        "0002",
        "base.safetensors",
        "manifest.json",
    ]
    first = store.packages.import_(folder)
    assert (first.created, first.package.ref, first.package.key) == (True, "trains@1", made.key)
    assert first.package.candidates == made.candidates
    assert [c.pareto for c in first.package.candidates] == [c.pareto for c in made.candidates]
    assert first.package.lineage == {
        "by": "hand",
        "imported": {"package": "trains@1", "created": made.created and made.created.isoformat()},
    }
    again, named = store.packages.import_(folder), store.packages.import_(folder, name="site-b")
    assert [(p.created, p.package.ref) for p in (again, named)] == [(False, "trains@1"), (True, "site-b@1")]
    store.packages.export("site-b", tmp_path / "second")
    for file in folder.glob("*.safetensors"):
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes()
    assert Store.create(tmp_path / "third").packages.import_(tmp_path / "second").package.key == made.key


def test_without_its_base_it_goes_where_that_is(store: Store, tmp_path: Path) -> None:
    made = publish(store).package
    told = store.packages.export("trains", tmp_path / "small", with_base=False)
    assert not (tmp_path / "small" / "base.safetensors").exists()
    assert told.files == 4
    other = Store.create(tmp_path / "other")
    refused(other, tmp_path / "small", "has no weights of its base model tiny")
    base(other)
    assert other.packages.import_(tmp_path / "small").package.key == made.key


def test_candidates_trained_elsewhere_stand_beside_those_of_the_same_key(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    of = base(other)
    theirs = other.packages.finish_candidate(candidate(of, 1), weights(77))
    other.packages.publish(package(of), [theirs])
    other.packages.export("trains", tmp_path / "theirs")
    ours = store.packages.finish_candidate(candidate(base(store), 1), weights(1))
    got = store.packages.import_(tmp_path / "theirs").package.candidates[0]
    assert (got.key, store.packages.weights(got)) == (ours.key, weights(77))
    assert store.packages.candidate(ours.key) == ours
    assert store.packages.publish(package(of), [ours]).package.ref == "trains@2"
    shutil.rmtree(Path(store.root.url) / "index" / "candidates")
    opened = Store.open(store.root.url)
    assert (opened.packages.candidate(ours.key), opened.packages.get("trains@1").candidates) == (ours, (got,))


def test_a_folder_with_something_in_it_is_not_written_to(store: Store, tmp_path: Path) -> None:
    publish(store)
    (tmp_path / "empty").mkdir()
    assert store.packages.export("trains", tmp_path / "empty").files == 5
    before = {p.name: p.read_bytes() for p in (tmp_path / "empty").iterdir()}
    for there in (tmp_path / "empty", Path(store.root.url) / "tamis.json"):
        with pytest.raises(PackageError, match="is not an empty folder"):
            store.packages.export("trains", there)
    assert {p.name: p.read_bytes() for p in (tmp_path / "empty").iterdir()} == before
    with pytest.raises(PackageError, match="is a URL"):
        store.packages.export("trains", "s3://bucket/trains")


def test_an_export_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    one = publish(store).package.candidates[2]
    (Path(store.root.url) / "blobs" / one.blob[:2] / one.blob).unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(TamisError, match="No blob"):
        store.packages.export("trains", tmp_path / "out" / "trains")
    assert list((tmp_path / "out").iterdir()) == []


def _spoil(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how == "altered":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "truncated":
        file.write_bytes(data[:-7])
    elif how == "too large":
        with file.open("ab") as end:
            end.truncate(len(data) + (1 << 30))
    elif how == "missing":
        file.unlink()
    elif how == "a link":
        file.rename(file.with_suffix(".there"))
        file.symlink_to(file.with_suffix(".there"))
    elif how == "a folder":
        file.unlink()
        file.mkdir()
    elif how == "a pipe":
        file.unlink()
        os.mkfifo(file)


@pytest.mark.parametrize("which", ["base.safetensors", "0002-*.safetensors", "manifest.json"])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("altered", "bytes that were changed|is no manifest|was altered"),
        ("truncated", "of .* bytes|is no manifest"),
        ("too large", "expected at most"),
        ("missing", "is missing"),
        ("a link", "is a link"),
        ("a folder", "is a directory"),
        ("a pipe", "is a named pipe"),
    ],
)
def test_files_that_are_not_those_that_were_exported(
    blank: Store, folder: Path, which: str, how: str, said: str
) -> None:
    _spoil(next(folder.glob(which)), how)
    refused(blank, folder, said)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../base.safetensors", "sub/base.safetensors", ".safetensors", "..", "", "a\0.safetensors",
     "base.bin", "x" * 200 + ".safetensors", "base.safetensors\n", 7, ["base.safetensors"]],
)  # fmt: skip
def test_names_stay_inside_the_folder(blank: Store, folder: Path, name: object) -> None:
    rewrite(folder, lambda body: body["base"].update(file=name))
    refused(blank, folder, "base: file is .*: expected a name such as base.safetensors, no path")
    rewrite(
        folder, lambda body: (body["base"].update(file="base.safetensors"), body["candidates"][1].update(file=name))
    )
    refused(blank, folder, "candidate 2: file is")


def _in(place: str, **fields: Any) -> Change:
    def change(body: dict[str, Any]) -> None:
        (body["candidates"][0] if place == "candidate" else body["package"]["events"] if place == "events"
         else body if place == "top" else body[place]).update(fields)  # fmt: skip

    return change


HOSTILE: list[tuple[Change, str]] = [
    (_in("top", format=2), "format 2: this tamis reads"),
    (_in("top", format=True), "format True"),
    (_in("top", format="1"), "format '1'"),
    (_in("top", kind="wheel"), "says kind 'wheel'"),
    (_in("top", more=1), "has 'more', which is unknown"),
    (lambda body: body.pop("base"), "lacks 'base'"),
    (_in("top", candidates=[]), "expected a list of 1 to"),
    (_in("top", candidates={}), "expected a list of 1 to"),
    (_in("top", candidates=[7]), "candidate 1 is 7: expected an object"),
    (lambda body: body["candidates"].append(body["candidates"][0]), "has a candidate twice"),
    (lambda body: body["candidates"].pop(), "was altered: its key is"),
    (lambda body: body["candidates"][1].update(file=body["candidates"][0]["file"]), "names a file twice"),
    (_in("candidate", accuracy=0.99), "candidate 1 was altered: its key is"),
    (_in("candidate", accuracy="0.9"), "accuracy is '0.9'"),
    (_in("candidate", accuracy=-0.5), "accuracy is -0.5"),
    (_in("candidate", branch=10**30), "branch is 1000"),
    (_in("candidate", bytes=1 << 62), "bytes is 4611686018427387904"),
    (_in("candidate", blob="../" * 20), "expected a sha256"),
    (_in("candidate", base="0" * 32), "was altered"),
    (_in("candidate", metrics=[1]), "metrics is"),
    (_in("candidate", metrics={"x": "y" * (2 << 20)}), "metrics is"),
    (_in("base", mean=[0.5]), "mean has 1 numbers"),
    (_in("base", std=[0.0, 0.5, 0.5]), "std is"),
    (_in("base", outputs=0), "outputs is 0"),
    (_in("base", model="other"), "base was altered"),
    (_in("package", name="../x"), "name is '../x'"),
    (_in("package", name="x" * 101), "name is"),
    (_in("package", version=0), "version is 0"),
    (_in("package", seed=1), "package was altered"),
    (_in("package", created="yesterday"), "created is 'yesterday'"),
    (_in("package", classes="train"), "classes is 'train'"),
    (_in("package", config={"a": {"b": None}}), "package was altered"),
    (_in("events", average=0.5), "expected a minimum of at most the average"),
    (_in("events", frequency=2), "frequency is 2"),
    (_in("events", measured=["everything"]), "measured is"),
]


@pytest.mark.parametrize(("change", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_manifests_that_say_what_cannot_be(blank: Store, folder: Path, change: Change, said: str) -> None:
    rewrite(folder, change)
    refused(blank, folder, said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"tpr": 0.75', '"tpr": NaN', "has NaN for a number"),
        ('"tpr": 0.75', '"tpr": 1e999', "was altered"),
        ('"tpr": 0.75', f'"tpr": {"9" * 5000}', "is no manifest"),
        ('"tpr": 0.75', '"tpr": 0.75, "tpr": 0.75', "names a field twice"),
        ('"by": "hand"', '"by": "\\ud800"', "was altered"),
        ('"by": "hand"', f'"by": {"[" * 100_000}{"]" * 100_000}', "is no manifest|was altered"),
        ('"by": "hand"', '"by": "foot"', "was altered: it does not have the digest"),
    ],
)
def test_json_that_is_none(blank: Store, folder: Path, old: str, new: str, said: str) -> None:
    file = folder / "manifest.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    refused(blank, folder, said)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff\xfe", b'"m-package"', b"{}", b"[" * 200_000])
def test_documents_that_are_no_manifest(blank: Store, folder: Path, data: bytes) -> None:
    (folder / "manifest.json").write_bytes(data)
    refused(blank, folder, "is no manifest|says kind None")


def test_what_is_signed_throughout_is_still_safetensors(
    blank: Store, exported: tuple[Path, Package], tmp_path: Path
) -> None:
    """Whoever writes every digest anew may hand on other weights, but nothing that is not safetensors."""
    data, made = b"\x80\x04\x95\x00.", exported[1]
    bad = {"blob": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    of = Base("tiny", 10, 3, 16, (0.5,) * 3, (0.25,) * 3, **bad)
    one = replace(made.candidates[0], base=of.key, **bad)
    new = replace(made, base=of.key, candidates=(one,))
    new = replace(new, key=package_key(new, [one]))
    (tmp_path / "manifest.json").write_bytes(document(new, of, with_base=True))
    for name in ("base.safetensors", file_of(one)):
        (tmp_path / name).write_bytes(data)
    refused(blank, tmp_path, "holds no whole safetensors file")


def test_names_given_to_an_import(store: Store, folder: Path) -> None:
    with pytest.raises(InvalidName, match="a package"):
        store.packages.import_(folder, name="No Name")
    with pytest.raises(PackageError, match="cannot be read"):
        store.packages.import_(folder / "nothing")
    (folder / "README.md").write_text("Trains.")  # is nobody's business
    assert store.packages.import_(folder, name="mine").package.ref == "mine@1"


def test_packages_on_object_stores(s3: Any, exported: tuple[Path, Package], tmp_path: Path) -> None:
    store = Store.create(f"{s3.bucket()}/some/store")
    made = store.packages.import_(exported[0]).package
    assert (made.ref, made.key) == ("trains@1", exported[1].key)
    assert publish(store).package == made
    assert publish(store, seed=1).package.ref == "trains@2"
    opened = Store.open(store.root.url)
    assert [one.ref for one in opened.packages.all()] == ["trains@1", "trains@2"]
    assert opened.packages.weights(made.candidates[1]) == weights(1)
    asked = "select package, count(*) filter (pareto) as best from candidates group by all order by 1"
    assert opened.query(asked).to_pylist() == [{"package": "trains@1", "best": 2}, {"package": "trains@2", "best": 2}]
    opened.packages.export("trains@2", tmp_path / "out")
    assert Store.create(tmp_path / "local").packages.import_(tmp_path / "out").package.seed == 1
