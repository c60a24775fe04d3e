"""Cutout: how much of an image it covers, where, and with what."""

from dataclasses import replace

import pytest
import torch
from test_loop import RECIPE, batch_of, run
from torch import Tensor, nn

from tamis.training.cutout import cutout
from tamis.training.errors import AugmentError
from tamis.training.models.registry import ImageClassifier


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden(side: int, height: int, width: int, count: int = 4000) -> Tensor:
    """Which pixels of blank images are covered, bool [B, H, W]."""
    images = torch.zeros(count, 1, height, width, dtype=torch.uint8)
    return cutout(images, side, torch.tensor([9.0]), seeded(0))[:, 0] == 9


@pytest.mark.parametrize("side", [1, 5, 16])
def test_one_square_an_image_cut_off_at_the_border(side: int) -> None:
    """Each is that of a centre; every centre occurs."""
    height, width = 16, 20
    squares: dict[bytes, list[tuple[int, int]]] = {}
    for y in range(height):
        for x in range(width):
            square = torch.zeros(height, width, dtype=torch.bool)
            top, left = y - side // 2, x - side // 2
            square[max(top, 0) : top + side, max(left, 0) : left + side] = True
            squares.setdefault(square.numpy().tobytes(), []).append((y, x))
    found = [squares[one.numpy().tobytes()] for one in hidden(side, height, width)]
    drawn = {centre for centres in found for centre in centres}
    assert drawn == {(y, x) for y in range(height) for x in range(width)}


def test_every_pixel_is_the_centre_as_often_as_another() -> None:
    """4,000 draws of 20 pixels: 200 each, within five standard deviations of a binomial share."""
    times = hidden(1, 4, 5).sum(dim=0)
    assert times.sum() == 4000
    assert (times - 200).abs().max() < 5 * (200 * 0.95) ** 0.5


def test_the_covered_share_of_cifar() -> None:
    """The mean over 32 centres of the 16 rows, less those beyond a border, is 14: (14 / 32) ** 2 of the image."""
    rows = sum(min(c + 8, 32) - max(c - 8, 0) for c in range(32)) / 32
    assert rows == 14
    share = hidden(16, 32, 32).float().mean(dim=(1, 2))
    assert share.mean().item() == pytest.approx((14 / 32) ** 2, abs=4 * float(share.std()) / 4000**0.5)
    assert share.max().item() == 0.25
    assert share.min().item() >= (8 / 32) ** 2


def test_what_is_covered_has_the_fill_and_the_rest_stays() -> None:
    images = torch.randint(10, 250, (6, 3, 12, 12), generator=seeded(1), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    found = cutout(images, 4, torch.tensor([0.4, 1.6, 255.0]), seeded(2))
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    covered = (found != images).any(dim=1)
    assert (covered.sum(dim=(1, 2)) >= 4).all()
    for channel, value in enumerate((0, 2, 255)):
        assert (found[:, channel][covered] == value).all()
        assert torch.equal(found[:, channel][~covered], images[:, channel][~covered])


def test_squares_are_a_function_of_the_generator() -> None:
    images = torch.full((20, 1, 9, 9), 7, dtype=torch.uint8)
    one, same, other = (cutout(images, 3, torch.zeros(1), seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (40, 8)])
def test_a_square_larger_than_the_images_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(AugmentError, match=f"cutout is 9 pixels and the images are {size[0]} x {size[1]}"):
        cutout(torch.zeros(2, 1, *size, dtype=torch.uint8), 9, torch.zeros(1), seeded(0))


class Watching(nn.Module):
    """Keeps what it is given, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(64, 10), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return self.linear(images.flatten(1))


def trained_on(mean: float, cut: int | None, augment: str = "crop-flip") -> list[Tensor]:
    network = Watching()
    images = torch.randint(150, 250, (32, 1, 8, 8), generator=seeded(3), dtype=torch.uint8)
    batches = [batch_of(part, torch.zeros(16, dtype=torch.int64)) for part in images.split(16)]
    run(ImageClassifier(network, [mean], [0.25]), batches, replace(RECIPE, augment=augment, cutout=cut))
    return network.seen


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_a_network_sees_zeros_there_and_the_same_crops_elsewhere(augment: str) -> None:
    """Up to the rounding of the mean to a byte: half a byte, over the deviation."""
    mean = 100.3 / 255
    for plain, cut in zip(trained_on(mean, None, augment), trained_on(mean, 4, augment), strict=True):
        differs = plain != cut
        assert differs.any(dim=(1, 2, 3)).all()
        assert differs.float().mean() < 0.25
        assert cut[differs].abs().max() <= 0.5 / 255 / 0.25


def test_each_step_cuts_elsewhere_and_the_same_step_in_the_same_place() -> None:
    first, second = trained_on(0.5, 4)
    assert torch.equal(first, trained_on(0.5, 4)[0])
    assert not torch.equal(first == first.median(), second == second.median())
