"""A dataset whose images are of several formats: each is packed as it is, told by its bytes, and decoded as ever."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_dataset, picture_samples
from tamis.store.errors import ShardError
from tamis.store.shards.checking import check_pictures
from tamis.store.shards.folders import find_pictures, path_keys
from tamis.training.decoding.decode import decode_images
from tamis.training.decoding.pixels import decoder_key
from tamis.training.decoding.suffixes import is_executable
from tamis.training.streaming.batches import Chosen, load_batches
from tamis.training.streaming.lookup import Index

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tiff": "TIFF", "ppm": "PPM"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One image of each format in each of two classes, and a JPEG by its other suffix."""
    drawn = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "in" / kind / "deep.er").mkdir(parents=True)
        for suffix, form in (*FORMATS.items(), ("JPEG", "JPEG")):
            pixels = drawn.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, form)
            (tmp_path / "in" / kind / "deep.er" / f"{suffix}.v2.{suffix}").write_bytes(file.getvalue())
    return tmp_path / "in"


def packed(store: Store, pictures: Path, tmp_path: Path, **options: Any) -> Dataset:
    found = find_pictures(pictures)
    return pack_dataset(
        store.datasets, "mixed", lambda: picture_samples(found, **options), tmp_path / "out" / "mixed",
        classes=found.classes, image=found.kind,
    )  # fmt: skip


def test_each_image_is_decoded_as_what_it_is(store: Store, pictures: Path, tmp_path: Path) -> None:
    dataset = packed(store, pictures, tmp_path)
    assert dataset.image == "png;jpg;webp;ppm;bmp;gif;tif"
    assert dataset.samples == 16
    members = dataset.members().to_pydict()["members"]
    assert [sorted(m["name"] for m in sample) for sample in members][:2] == [["cls", "jpg"]] * 2  # JPEG.v2.JPEG first
    found = find_pictures(pictures)
    files = [group[place] for place in range(8) for group in found.files]
    chosen = [Chosen(np.arange(16), np.ones(16, np.float32))]
    (loaded,) = load_batches(Index.open(store, dataset), chosen)
    for image, label, file in zip(loaded.batch.images, loaded.batch.labels, files, strict=True):
        suffix = found.packed_as(file)
        assert (image == decode_images([file.read_bytes()], suffix)[0]).all()
        assert found.classes[int(label)] == file.relative_to(pictures).parts[0]


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="not a readable jpg;png image"):
        decode_images([b"neither"], "jpg;png")


def test_keys_keep_the_path(store: Store, pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat" / "a.png").write_bytes((pictures / "cat" / "deep.er" / "png.v2.png").read_bytes())
    (pictures / "cat" / "a.jpg").write_bytes((pictures / "cat" / "deep.er" / "jpg.v2.jpg").read_bytes())
    keys = path_keys(find_pictures(pictures))
    assert keys[pictures / "dog" / "deep.er" / "png.v2.png"] == "dog/deep.er/png_v2"
    assert (keys[pictures / "cat" / "a.png"], keys[pictures / "cat" / "a.jpg"]) == ("cat/a_png", "cat/a_jpg")
    assert len(set(keys.values())) == 18
    assert sorted(packed(store, pictures, tmp_path, keep_paths=True).keys()) == sorted(keys.values())


def test_bad_images_are_named_refused_or_left_out(pictures: Path) -> None:
    good = pictures / "cat" / "deep.er" / "png.v2.png"
    (pictures / "cat" / "half.png").write_bytes(good.read_bytes()[:60])
    (pictures / "dog" / "not.jpg").write_bytes(b"no picture")
    found = find_pictures(pictures)
    with pytest.raises(ShardError, match=r"2 of 18 images .* cannot be decoded \(cat/half\.png: .*--skip-bad"):
        check_pictures(found)
    left = check_pictures(found, skip=True)
    assert left.samples == 16
    assert [(s.why, s.count, s.some) for s in left.skipped] == [
        ("images that cannot be decoded", 2, ("cat/half.png", "dog/not.jpg"))
    ]
    assert check_pictures(left) is left


def test_where_none_is_left_it_is_refused_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"x")
    with pytest.raises(ShardError, match="1 of 1 images"):
        check_pictures(find_pictures(tmp_path), skip=True)


def test_shards_of_several_formats_are_indexed_by_themselves(store: Store, pictures: Path, tmp_path: Path) -> None:
    dataset = packed(store, pictures, tmp_path)
    again = store.datasets.add("found", [shard.uri for shard in dataset.shards], classes=dataset.classes)
    assert (again.image, again.key) == (dataset.image, dataset.key)


def test_what_stands_for_others_counts_as_each_of_them() -> None:
    assert decoder_key(("png;jpg", 32)) == decoder_key(("jpg", 32)) != {}
    assert decoder_key(("png;bmp", 32)) == {}
    assert is_executable("jpg;pkl")
    assert not is_executable("jpg;png")
