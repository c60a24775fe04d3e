"""Augmentation with boxes: they stay around what they were around."""

import pytest
import torch

from tamis.training.steps.augment import augment, resized, with_boxes
from tamis.training.streaming.batches import Batch


def batch(count: int = 40) -> Batch:
    """Black images of 64 pixels, each with a white rectangle and its box, and padding; the last one without."""
    images, labels = torch.zeros(count, 3, 64, 64, dtype=torch.uint8), torch.full((count, 2, 5), -1.0)
    for i in range(count - 1):
        x, y, side = 2 + i % 30, 5 + i % 20, 16 + i % 10
        images[i, :, y : y + side, x : x + side] = 255
        labels[i, 0] = torch.tensor([1.0, x, y, x + side, y + side])
    return Batch(images, labels, torch.ones(count), torch.arange(count))


def around(image: torch.Tensor) -> list[int]:
    rows, columns = (image[0] > 127).nonzero(as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize(("how", "off"), [("crop-flip", 0), ("zoom-flip", 1.5)])
def test_boxes_follow(how: str, off: float) -> None:
    given = batch()
    found = with_boxes(given, how, torch.Generator().manual_seed(3))
    assert found.images.shape == given.images.shape
    assert found.labels.shape == given.labels.shape
    kept = (found.labels[:, 0, 0] >= 0).nonzero()[:, 0].tolist()
    assert len(kept) > 25
    for i in kept:
        assert found.labels[i, 0, 1:].tolist() == pytest.approx(around(found.images[i]), abs=off)
    assert (found.labels[-1] == -1).all()
    assert (found.labels[:, 1] == -1).all()
    again = with_boxes(given, how, torch.Generator().manual_seed(3))
    assert torch.equal(found.images, again.images)
    assert torch.equal(found.labels, again.labels)
    torch.rand(3)
    assert not torch.equal(found.images, with_boxes(given, how, torch.Generator().manual_seed(4)).images)


def test_images_are_shifted_and_mirrored_as_without_boxes() -> None:
    given = batch()
    found = with_boxes(given, "crop-flip", torch.Generator().manual_seed(3))
    assert torch.equal(found.images, augment(given.images, "crop-flip", torch.Generator().manual_seed(3)))
    assert with_boxes(given, "none", torch.Generator()) is given


def test_a_smaller_look_has_smaller_boxes() -> None:
    given = batch()
    found = resized(given, 32, in_image=True)
    assert found.images.shape == (40, 3, 32, 32)
    torch.testing.assert_close(found.labels[:-1, 0, 1:], given.labels[:-1, 0, 1:] / 2)
    assert torch.equal(found.labels < 0, given.labels < 0)
