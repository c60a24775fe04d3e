"""Networks for small images: the parameter counts of the papers, and what their layers make of 32 pixels."""

import pytest
import torch
from torch import nn

from tamis.training.errors import UnknownModelError
from tamis.training.models.plain import PlainResNet
from tamis.training.models.registry import build_model, model_names
from tamis.training.models.wide import WideResNet


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def sizes(model: nn.Module, pixels: int) -> list[int]:
    """Of the images that each convolution gives."""
    found: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _given, made: found.append(made.shape[-1]))
    with torch.inference_mode():
        assert model.eval()(torch.zeros(1, 3, pixels, pixels)).shape == (1, 10)
    return found


@pytest.mark.parametrize(("depth", "published"), [(20, 0.27e6), (32, 0.46e6), (44, 0.66e6), (56, 0.85e6), (110, 1.7e6)])
def test_plain_resnets_have_the_sizes_of_table_6(depth: int, published: float) -> None:
    """Convolutions, two numbers a channel of BatchNorm, the last layer: shortcuts of option A have no parameters."""
    model = build_model(f"resnet{depth}", num_classes=10)
    blocks, total = (depth - 2) // 6, 3 * 9 * 16 + 2 * 16
    for width, out in ((16, 16), (16, 32), (32, 64)):
        total += 9 * width * out + 2 * out + (2 * blocks - 1) * (9 * out * out + 2 * out)
    assert parameters(model) == total + 64 * 10 + 10
    assert parameters(model) == pytest.approx(published, rel=0.02)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == depth


def test_the_shortcut_takes_every_second_pixel_and_adds_zero_channels() -> None:
    model = build_model("resnet20", num_classes=10).eval()
    assert isinstance(model, PlainResNet)
    block = model.stages[3]
    nn.init.zeros_(block.norm2.weight)  # f(x) = 0
    x = torch.rand(2, 16, 8, 8)
    found = block(x)
    assert found.shape == (2, 32, 4, 4)
    assert torch.equal(found[:, 8:24], x[:, :, ::2, ::2])
    assert not found[:, :8].any()
    assert not found[:, 24:].any()


@pytest.mark.parametrize(
    ("name", "published"),
    [("wrn-40-1", 0.6e6), ("wrn-40-2", 2.2e6), ("wrn-40-4", 8.9e6), ("wrn-16-8", 11.0e6), ("wrn-28-10", 36.5e6)],
)
def test_wide_resnets_have_the_sizes_of_table_4(name: str, published: float) -> None:
    depth, widen = map(int, name.split("-")[1:])
    model = build_model(name, num_classes=10)
    blocks, total, width = (depth - 4) // 6, 3 * 9 * 16, 16
    for out in (16 * widen, 32 * widen, 64 * widen):
        for number in range(blocks):
            opens = number == 0 and (width != out or out > 16 * widen)
            total += 9 * width * out + 2 * width + 9 * out * out + 2 * out + (width * out if opens else 0)
            width = out
    assert parameters(model) == total + 2 * width + 10 * width + 10
    assert parameters(model) == pytest.approx(published, rel=0.061 if name == "wrn-40-1" else 0.025)  # one digit


def test_a_wide_block_drops_between_its_convolutions_alone() -> None:
    plain, dropping = (build_model(f"wrn-10-2{drop}", num_classes=10, seed=1) for drop in ("", "-drop0.4"))
    assert isinstance(dropping, WideResNet)
    assert {m.p for m in dropping.modules() if isinstance(m, nn.Dropout)} == {0.4}
    assert parameters(plain) == parameters(dropping)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain.eval()(x), dropping.eval()(x))
        assert not torch.equal(plain.train()(x), dropping.train()(x))
        block = dropping.stages[0].train()
        nn.init.zeros_(block.conv2.weight)
        y = torch.rand(2, 16, 8, 8)
        assert torch.equal(block(y), block.shortcut(torch.relu(block.norm1(y))))


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet20"])
def test_stages_halve_the_image_twice(name: str) -> None:
    found = sizes(build_model(name, num_classes=10), 32)
    assert found == sorted(found, reverse=True)
    assert set(found) == {32, 16, 8}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "mobilenet_v2"])
def test_a_stem_for_small_images_keeps_their_size(name: str) -> None:
    """torchvision's halves an image five times, one of 32 pixels to 1; the other begins with all of them, to 4."""
    usual, small = (sizes(build_model(f"{name}{suffix}", num_classes=10), 32) for suffix in ("", "-cifar"))
    assert (usual[0], usual[-1]) == (16, 1)
    assert (small[0], small[-1]) == (32, 4)
    assert len(usual) == len(small)


def test_the_stem_of_a_resnet_is_one_small_convolution() -> None:
    usual, small = (build_model(f"resnet18{suffix}", num_classes=10) for suffix in ("", "-cifar"))
    assert parameters(usual) - parameters(small) == 3 * 64 * (49 - 9)
    assert not any(isinstance(m, nn.MaxPool2d) for m in small.modules())
    grey = build_model("resnet18-cifar", num_classes=10, in_channels=1)
    assert parameters(small) - parameters(grey) == 2 * 64 * 9
    assert grey(torch.rand(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet20", "densenet121-cifar"])
def test_weights_are_drawn_from_the_seed(name: str) -> None:
    one, same, other = (build_model(name, num_classes=4, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_small_ones_are_listed() -> None:
    assert {"resnet20", "resnet56", "wrn-28-10", "resnet18-cifar", "mobilenet_v2-cifar"} <= set(model_names())
    assert "vgg16-cifar" not in model_names()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrn-27-10", r"6n\+4 and a width at least 1; near it: wrn-28-10"),
        ("wrn-4-2", "near it: wrn-10-2"),
        ("wrn-16-0", "near it: wrn-16-1"),
        ("wrn-16-4-drop1.5", "No model"),
        ("vgg16-cifar", "No model"),
        ("resnet26", "names near it: .*resnet20"),
        ("preact20-cifar", "No model"),
    ],
)
def test_unknown_names_are_told(name: str, words: str) -> None:
    with pytest.raises(UnknownModelError, match=words):
        build_model(name, num_classes=10)
