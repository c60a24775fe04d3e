"""Images of samples: what they show, how they are named, and how few of them are kept."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from pagekit import Served
from PIL import Image

from tamis.flows.web import thumbnails
from tamis.flows.web.site import Arrays
from tamis.flows.web.thumbnails import Thumbnails
from tamis.store import Store


def test_a_small_image_is_sent_pixel_by_pixel(page: Served) -> None:
    from sklearn.datasets import load_digits

    found = page.get("/images/digits@1/0")
    assert found.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(io.BytesIO(found.content)).convert("L"))
    assert pixels.shape == (8, 8)
    place = page.store.datasets.get("digits").keys([0])[0]
    assert place in page.get("/datasets/digits@1").text
    assert any(np.abs(pixels / 255 - digit / 16).max() < 0.05 for digit in load_digits().images)


def test_a_large_image_is_scaled(page: Served) -> None:
    found = page.get("/images/odd.name_1-2@1/0?size=96")
    assert found.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(found.content)).size == (96, 72)


def test_an_image_has_a_tag_by_which_a_browser_keeps_it(page: Served) -> None:
    first, other, larger = (page.get(f"/images/odd.name_1-2@1/{n}") for n in ("0", "1", "0?size=384"))
    tags = {each.headers["etag"] for each in (first, other, larger)}
    assert len(tags) == 3
    assert "immutable" in first.headers["cache-control"]
    assert "private" in first.headers["cache-control"]
    again = page.get("/images/odd.name_1-2@1/0", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert page.get("/images/odd.name_1-2@1/0", headers={"if-none-match": other.headers["etag"]}).status_code == 200


def test_images_that_are_kept_take_no_more_than_the_limit(
    store: Store, dataset: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, kept = store.datasets.get("digits"), Thumbnails(store)
    places = kept.places(found, range(40))
    size = len(kept.image(found, places[0], 96).data)
    monkeypatch.setattr(thumbnails, "CACHE", 10 * size)
    monkeypatch.setattr(thumbnails, "_PLACES", 30)
    for place in places:
        kept.image(found, place, 96)
    assert kept.kept_bytes <= 10 * size
    assert [p.sample for p in kept.places(found, [39, 0, 39])] == [39, 0, 39]


def test_arrays_that_are_kept_take_no_more_than_the_limit() -> None:
    arrays, reads = Arrays(100), list[int]()

    def get(key: int, size: int) -> int:
        return arrays.get(key, lambda: reads.append(key) or key, lambda _: size)

    assert [get(1, 60), get(1, 60), get(2, 30), get(3, 30), get(1, 60), get(4, 1000)] == [1, 1, 2, 3, 1, 4]
    assert arrays.bytes <= 100
    assert reads == [1, 2, 3, 1, 4]  # the third put the first out; the fourth is too large to be kept


def test_a_shard_that_is_gone_or_elsewhere(tmp_path: Path, digits: dict[str, list[Path]]) -> None:
    from pagekit import serving

    shards = [Path(shutil.copy(shard, tmp_path)) for shard in digits["train"]]
    store = Store.create(tmp_path / "store")
    store.datasets.add("digits", shards)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for shard in shards:
        shard.rename(moved / shard.name)
    with serving(store) as page:
        gone = page.get("/images/digits@1/0")
        assert gone.status_code >= 400
        assert shards[0].name in gone.text
        assert page.get("/datasets/digits@1").status_code == 200
