"""Keys and pixels: what was stored before a decoder changed is found where pixels are the same, and only there."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numbered import Write
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.config import Reselect, TrainConfig
from tamis.training.decoding.decode import LIMIT
from tamis.training.decoding.pixels import decoder_key, image_size_of
from tamis.training.errors import DecodeError
from tamis.training.models.registry import build_model
from tamis.training.models.weights import ModelMeta, pack_model
from tamis.training.planning import plan
from tamis.training.signals import scoring
from tamis.training.streaming.stream import SelectionStream

# (image, image_size) -> key of the scores, of their first part, of a training run and of its selection, as they were
# when pillow decoded and scaled all images.
STORED = {
    ("ppm", None): (
        "5edbdca5628bc65970c7df7967079b57", "094bd17849bcd9e2069d1aeaab7a7f75",
        "5cd58637f94e2d067da1b60a57fdc74b", "9184ae85fa0e65fc84d8d90da67e657e",
    ),
    ("ppm", 8): (
        "8272be658ff2af605ac541395612e9e5", "c02c6c5edb610268fd1d97254a0787bf",
        "38b91c88b91e92bec1789ffca0de8f7d", "a402c7c2cc2a4ed3a0cc2a26a8a50302",
    ),
    ("jpg", None): (
        "9ca338744f39840bae67c395e54158d5", "b4f9072b4261942c532d04d01380bd6d",
        "6869e904e6df46fb44d6b581e748a136", "ab2f576f9bcc8e54ad4f17193f117035",
    ),
    ("jpg", 8): (
        "7bc1f33312f67e60a7fbc13bc14b2efa", "cbf3d7e890a08653270fd9464c193705",
        "7fbd4cb3c8ece19871b421b154c386fd", "ec22ffc61368cbd0a7a8676d8929c5ac",
    ),
}  # fmt: skip


def add(store: Store, folder: Path, write: Write, image: str) -> Dataset:
    samples = [(f"s{i}", {image: b"image %d" % i, "cls": b"%d" % (i % 2)}) for i in range(4)]
    return store.datasets.add(image, [write(folder / f"{image}.tar", samples)])


OLD: dict[str, Any] = {"epochs": 30, "augment": "none"}  # defaults when these keys were made: asked in full they answer


def keep_model(store: Store, size: int | None) -> str:
    meta = ModelMeta("preact8", 2, 3, (0.5,) * 3, (0.25,) * 3, (), size)
    return store.blobs.put(pack_model({"w": torch.zeros(2)}, meta))


def keys(store: Store, dataset: Dataset, size: int | None) -> tuple[str, str, str, str]:
    model = keep_model(store, size)
    decoder = scoring.decoder_of(store, dataset, model)
    config = TrainConfig(dataset=dataset.name, model="preact8", image_size=size, **OLD)
    drafted = plan(store, config.model_copy(update={"reselect": Reselect(budget=2)})).draft
    assert drafted is not None
    return (
        scoring.score_key(dataset, model, decoder),
        scoring.part_key(dataset, dataset.shards[0], model, decoder),
        plan(store, config).key,
        drafted.key,
    )


@pytest.mark.parametrize(("image", "size"), STORED)
def test_keys_change_where_pixels_did(image: str, size: int | None, store: Store, tmp_path: Path, write: Write) -> None:
    found = keys(store, add(store, tmp_path, write, image), size)
    if (image, size) == ("jpg", 8):
        assert not set(found) & {key for stored in STORED.values() for key in stored}
    else:
        assert found == STORED[image, size]


@pytest.mark.parametrize(("image", "size"), STORED)
def test_scores_stored_before_are_found_where_pixels_are_the_same(
    image: str, size: int | None, store: Store, tmp_path: Path, write: Write
) -> None:
    dataset, model = add(store, tmp_path, write, image), keep_model(store, size)
    key = STORED[image, size][0]
    store.runs.begin(kind="score", key=key, dataset=dataset.ref, model="preact8", config={"model": model})
    store.runs.finish(key, metrics={"samples": 4})
    found = scoring.find_scores(store, dataset, model)
    assert store.runs.get(key).status == "finished"
    if (image, size) == ("jpg", 8):
        assert found is None
    else:
        assert found is not None
        assert (found.key, found.metrics) == (key, {"samples": 4})


def test_only_a_scaled_jpeg_names_its_decoder() -> None:
    assert decoder_key(("jpg", 224)) == decoder_key(("left.JPEG", 1)) == decoder_key(("png", 8), ("jpg", 8))
    assert decoder_key(("jpg", 224)) == {"decoder": 3}
    assert decoder_key() == decoder_key(("jpg", None)) == decoder_key(("png", 224), ("webp", 224)) == {}


def test_what_measures_does_not_change_what_is_chosen(store: Store, tmp_path: Path, write: Write) -> None:
    for image in ("ppm", "jpg"):
        add(store, tmp_path, write, image)
    config = TrainConfig(
        dataset="ppm", model="preact8", image_size=8, evaluate_on="jpg", reselect=Reselect(budget=2), **OLD
    )
    drafted = plan(store, config).draft
    assert drafted is not None
    assert drafted.key == STORED["ppm", 8][3]
    whole = config.model_copy(update={"image_size": None})
    assert plan(store, config).key != plan(store, whole).key


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", b"\x04" + bytes(7) + b"null"])
def test_what_is_no_model_says_no_size(data: bytes) -> None:
    assert image_size_of(data) is None


def test_a_scaled_jpeg_is_scored_under_its_new_key_and_found_again(store: Store, tmp_path: Path, write: Write) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file, "JPEG")
    shard = write(tmp_path / "photos.tar", [(f"s{i}", {"jpg": file.getvalue(), "cls": b"1"}) for i in range(3)])
    dataset = store.datasets.add("photos", [shard])
    network = build_model("preact8", num_classes=2)
    meta = ModelMeta("preact8", 2, 3, (0.5,) * 3, (0.25,) * 3, (), 8)
    model = store.blobs.put(pack_model(network.state_dict(), meta))
    old = scoring.score_key(dataset, model, {})
    store.runs.begin(kind="score", key=old, dataset=dataset.ref, model="preact8", config={"model": model})
    store.runs.put_scores(old, {"entropy": [0.1, 0.2, 0.3]}, [0, 1, 2])
    store.runs.finish(old)

    assert scoring.find_scores(store, dataset, model) is None
    assert scoring.missing_parts(store, dataset, model) == [0]
    scoring.score_parts(store, dataset, [0], model, device="cpu")
    assert scoring.missing_parts(store, dataset, model) == []
    run = scoring.finish_scores(store, dataset, model, name="preact8")
    assert scoring.find_scores(store, dataset, model) == run
    assert (run.key != old, run.config["decoder"]) == (True, 3)
    assert len(set(store.runs.scores(run.key, "entropy", 3).tolist())) == 1
    assert store.runs.scores(old, "entropy", 3).tolist() == [0.1, 0.2, 0.3]


def test_a_batch_of_a_stream_has_a_limit_and_names_the_sample(
    store: Store, sixty: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = next(iter(SelectionStream(store, sixty, batch_size=4, shuffle=False).epoch(0))).images.shape[-1]
    monkeypatch.setenv(LIMIT, str(4 * 4 * 3 * side * side))  # four batches are held
    assert len(list(SelectionStream(store, sixty, batch_size=4).epoch(0))) == 15
    with pytest.raises(DecodeError, match=rf"s000 .* is {side} x {side}: 5 such images.*{LIMIT}"):
        next(SelectionStream(store, sixty, batch_size=5, shuffle=False).epoch(0))
