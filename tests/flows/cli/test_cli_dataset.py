"""`tamis dataset`: what is skipped is said, nothing is written over, shards move and classes are renamed."""

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tamis.store.summaries import SHOWN, by_class


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def good(path: Path, count: int = 3) -> Path:
    return tar(path, *((f"{i}.{e}", d) for i in range(count) for e, d in (("png", png()), ("cls", b"%d" % (i % 2)))))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(4):
        path = tmp_path / "in" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png() + bytes([i]))
    return tmp_path / "in"


def test_pack_says_what_it_skips(tamis: Any, pictures: Path) -> None:
    tamis("init")
    (pictures / "cat" / "9.heic").write_bytes(b"x")
    (pictures / "dog" / ".DS_Store").write_bytes(b"x")
    (pictures / "emu").mkdir()
    said = tamis("dataset", "pack", "d", pictures, "--json")
    assert said.code == 0, said.err
    assert said.json["samples_by_class"] == {"cat": 2, "dog": 2, "emu": 0}
    assert {s["some"][0]: s["count"] for s in said.json["skipped"]} == {"cat/9.heic": 1, "dog/.DS_Store": 1, "emu": 1}
    again = tamis("dataset", "pack", "d", pictures)
    assert again.code == 0, again.err
    assert "files of .heic" in again.out
    assert "'dog/.DS_Store'" in again.out


def test_pack_writes_over_nothing(tamis: Any, pictures: Path, tmp_path: Path) -> None:
    tamis("init")
    assert tamis("dataset", "pack", "d", pictures).code == 0
    (pictures / "cat" / "more.png").write_bytes(png())
    for arguments in (["d"], ["d", "--out", tmp_path / "store" / "shards" / "d"], ["d", "--out", tmp_path / "new"]):
        said = tamis("dataset", "pack", arguments[0], pictures, *arguments[1:], "--json")
        assert said.code == 1
        assert "Nothing was written" in said.err
    said = tamis("dataset", "pack", "../../evil", pictures)
    assert (said.code, "evil" in said.err) == (1, True)
    assert tamis("dataset", "verify", "d").code == 0
    assert not list(tmp_path.parent.rglob("*evil*"))
    assert not (tmp_path / "new").exists()


def test_add_says_what_it_skips(tamis: Any, tmp_path: Path) -> None:
    tamis("init")
    members = [("a.png", png()), ("a.cls", b"1"), ("README", b"hi"), ("._a.png", b"?")]
    said = tamis("dataset", "add", "d", tar(tmp_path / "a.tar", *members), "--json")
    assert said.code == 0, said.err
    (skipped,) = said.json["skipped"]
    assert (skipped["count"], skipped["some"]) == (2, ["README", "._a.png"])
    assert "moved" not in said.json


def test_moved_shards_and_corrected_names(tamis: Any, tmp_path: Path) -> None:
    tamis("init")
    (tmp_path / "classes.txt").write_text("cat\ngod\n")
    shard = good(tmp_path / "a.tar")
    key = tamis("dataset", "add", "d", shard, "--json").json["key"]
    (tmp_path / "new").mkdir()
    there = Path(shutil.move(shard, tmp_path / "new" / "b.tar"))
    said = tamis("dataset", "relocate", "d", there, "--json")
    assert said.json == {"dataset": "d@1", "key": key, "moved": 1, "first_shard": str(there)}
    assert tamis("dataset", "verify", "d").code == 0
    back = Path(shutil.move(there, shard))
    (tmp_path / "classes.txt").write_bytes("cat\ndog\n".encode("utf-16"))
    added = tamis("dataset", "add", "d", back, "--json").json
    assert (added["moved"], added["renamed"], added["key"]) == (1, True, key)
    assert added["samples_by_class"] == {"cat": 2, "dog": 1}
    (tmp_path / "names").write_text("Katze\nHund\nMaus\n")
    said = tamis("dataset", "classes", "d", tmp_path / "names", "--json")
    assert said.json == {"dataset": "d@1", "classes": ["Katze", "Hund", "Maus"]}
    assert tamis("dataset", "show", "d", "--json").json["samples_by_class"] == {"Katze": 2, "Hund": 1, "Maus": 0}
    (tmp_path / "names").write_text("Katze\n")
    assert tamis("dataset", "classes", "d", tmp_path / "names").code == 1
    assert "Hund" in tamis("dataset", "classes", "d").out
    assert tamis("dataset", "relocate", "d", good(tmp_path / "other.tar", 5)).code == 1


@pytest.mark.parametrize("kind", ["pipe", "folder", "latin-1"])
def test_class_names_that_cannot_be_read(tamis: Any, tmp_path: Path, kind: str) -> None:
    tamis("init")
    path = tmp_path / "names"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xfcber\n")
    said = tamis("dataset", "add", "d", good(tmp_path / "a.tar"), "--classes", path)
    assert said.code in (1, 2)
    assert "names" in said.err
    assert tamis("dataset", "ls", "--json").json == []


def test_samples_by_class_have_bounds_whatever_the_labels_are() -> None:
    """Stores from before labels had a range may hold any."""
    assert by_class(np.array([0, 10**9, 10**17, -1]), ()) == ({"0": 1, str(10**9): 1, str(10**17): 1}, 0)
    many, more = by_class(np.arange(5000), ("only",))
    assert (len(many), more, many["only"]) == (SHOWN, 4000, 1)
    assert by_class(np.array([0, 2, 2]), ("crane", "x", "crane")) == ({"crane (0)": 1, "x": 0, "crane (2)": 2}, 0)
    assert by_class([2], ()) == ({"0": 0, "1": 0, "2": 1}, 0)


def test_a_dry_run_says_all_and_writes_nothing(tamis: Any, pictures: Path, tmp_path: Path) -> None:
    tamis("init")
    (pictures / "cat" / "bad.jpg").write_bytes(b"no picture")
    refused = tamis("dataset", "pack", "d", pictures, "--check", "--dry-run")
    assert refused.code == 1
    assert "cat/bad.jpg" in refused.err
    before = sorted(tmp_path.rglob("*"))
    planned = tamis("dataset", "pack", "d", pictures, "--skip-bad", "--dry-run", "--per-shard", 3, "--json")
    assert planned.code == 0, planned.err
    assert sorted(tmp_path.rglob("*")) == before
    made = tamis("dataset", "pack", "d", pictures, "--skip-bad", "--per-shard", 3, "--keys", "path", "--json")
    assert made.code == 0, made.err
    same = ("samples", "shards", "image", "samples_by_class", "skipped")
    assert [planned.json[name] for name in same] == [made.json[name] for name in same]
    assert tamis("sql", "select key from samples order by sample limit 1", "--json").json == [{"key": "cat/0"}]
