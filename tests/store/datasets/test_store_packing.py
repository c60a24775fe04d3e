"""Packing: the same samples make the same bytes, from folders, torchvision's datasets and the digits."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits, pack_folder, pack_pairs, pack_samples
from tamis.store.errors import ShardError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 digits as PNG files in one folder a class, as ImageFolder wants them."""
    from sklearn.datasets import load_digits

    digits, root = load_digits(), tmp_path_factory.mktemp("images")
    for i in range(60):
        place = root / f"digit {digits.target[i]}"
        place.mkdir(exist_ok=True)
        Image.fromarray((digits.images[i] * 15).astype(np.uint8)).save(place / f"{i:03d}.png")
    (root / "notes.txt").write_text("not a class")
    (root / ".cache").mkdir()
    return root


def sha(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths]


def contents(paths: list[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            found |= {m.name: tar.extractfile(m).read() for m in tar}
    return found


def test_packing_again_gives_the_same_bytes(tmp_path: Path, folder: Path) -> None:
    for name, pack in (
        ("d", lambda out: pack_digits(out)),
        ("f", lambda out: pack_folder(folder, out, per_shard=25)[0]),
    ):
        one, two = pack(tmp_path / "one" / name), pack(tmp_path / "two" / name)
        assert sha(one) == sha(two)
        assert sha(pack(tmp_path / "one" / name)) == sha(two)
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]


def test_digits(digits: dict[str, list[Path]], store: Store) -> None:
    from sklearn.datasets import load_digits

    train = store.datasets.add("train", digits["train"])
    test = store.datasets.add("test", digits["test"])
    assert (train.samples, test.samples, len(train.shards), len(test.shards)) == (1498, 299, 5, 1)
    target = load_digits().target
    assert train.labels().tolist() == [t for i, t in enumerate(target) if i % 6 != 5]
    assert test.labels().tolist() == [t for i, t in enumerate(target) if i % 6 == 5]
    with (
        Image.open(Path(digits["test"][0]).parent / "x.png", "r")
        if False
        else _first_image(digits["train"][0]) as image
    ):
        assert (image.size, image.mode) == ((8, 8), "L")


def _first_image(path: Path) -> Image.Image:
    with tarfile.open(path) as tar:
        return Image.open(tar.extractfile(tar.next()))


def test_folder_by_class(tmp_path: Path, folder: Path, store: Store) -> None:
    paths, classes = pack_folder(folder, tmp_path / "out", per_shard=25)
    assert classes == [f"digit {d}" for d in range(10)]
    assert [p.name for p in paths] == ["out-000000.tar", "out-000001.tar", "out-000002.tar"]
    dataset = store.datasets.add("d", paths, classes=classes)
    assert (dataset.samples, dataset.classes) == (60, tuple(classes))
    packed = contents(paths)
    files = {p.read_bytes(): int(p.parent.name[-1]) for p in folder.rglob("*.png")}
    images = [packed[f"{key}.png"] for key in dataset.keys(range(60))]
    assert {image: int(label) for image, label in zip(images, dataset.labels(), strict=True)} == files
    assert set(dataset.labels()[:10].tolist()) == set(range(10))


def test_torchvision_dataset_object(tmp_path: Path, folder: Path, store: Store) -> None:
    from torchvision.datasets import ImageFolder

    pairs = ImageFolder(str(folder), allow_empty=True)
    paths, classes = pack_pairs(pairs, tmp_path / "out", per_shard=40, prefix="im")
    assert classes == pairs.classes
    dataset = store.datasets.add("d", paths, classes=classes)
    assert dataset.labels().tolist() == pairs.targets
    assert dataset.keys([0, 59]) == ["im0000000", "im0000059"]
    with tarfile.open(paths[0]) as tar:
        first = Image.open(tar.extractfile("im0000000.png"))
        assert np.array_equal(np.asarray(first), np.asarray(pairs[0][0]))


def test_arrays_grey_and_coloured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (5, 7), np.uint8), rng.integers(0, 256, (5, 7, 3), np.uint8)
    paths, classes = pack_pairs([(grey, 0), (colour, np.int64(1))], tmp_path / "out")
    assert classes == []
    with tarfile.open(paths[0]) as tar:
        for name, array in (("0000000.png", grey), ("0000001.png", colour)):
            assert np.array_equal(np.asarray(Image.open(tar.extractfile(name))), array)
        assert tar.extractfile("0000001.cls").read() == b"1"


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    for wrong in (np.zeros((2, 2)), np.zeros(3, np.uint8), "x", None):
        with pytest.raises(
            ShardError, match=r"Sample 0 is a \w+: a PIL image, or a uint8 array .*without its ToTensor"
        ):
            pack_pairs([(wrong, 0)], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_packed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    for path, message in (
        ("nowhere", r"nowhere is not a folder: expected one with a subfolder"),
        ("empty", r"empty holds no images \(\.png, .*one subfolder per class"),
    ):
        with pytest.raises(ShardError, match=message):
            pack_folder(tmp_path / path, tmp_path / "out")


def test_a_failure_leaves_no_half_written_shard(tmp_path: Path) -> None:
    def broken():
        yield from ((f"{i}", {"png": b"x", "cls": b"1"}) for i in range(3))
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="went away"):
        pack_samples(broken(), tmp_path / "out", per_shard=2)
    assert [p.name for p in tmp_path.iterdir()] == ["out-000000.tar"]
