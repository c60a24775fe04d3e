"""Where base models can be cut: blocks of published networks, one tensor at each cut, and what is refused."""

import math

import pytest
import torch
from basenets import Branching, Skipping, Small, Tied
from torch import nn

from tamis.training.errors import BaseModelError
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.models.registry import ImageClassifier, build_model


def cut(name: str, pixels: int) -> Split:
    return split(ImageClassifier(build_model(name, num_classes=10), (0.5,) * 3, (0.2,) * 3), (3, pixels, pixels))


def names(found: Split) -> list[str]:
    return [one.name for one in found.branchpoints]


LAYERS = [f"layer{at}{end}" for at in (1, 2, 3) for end in (".0", "")]
BLOCKS = {  # blocks that the papers count, beside the stem and what the classifier sees
    "resnet18": (32, ["", "maxpool", *LAYERS, "layer4.0", "avgpool"]),
    "mobilenet_v2": (32, ["", *(f"features.{at}" for at in range(18)), "features"]),
    "efficientnet-lite0": (32, ["", *(f"_blocks.{at}" for at in range(15)), "_blocks", "_avg_pooling"]),
    "resnet20": (32, ["", "stem", *(f"stages.{at}" for at in range(8)), "stages"]),
    "preact20": (32, ["", "stem", *(f"stages.{at}" for at in range(8)), "norm"]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "pixels", "expected"), [(name, *rest) for name, rest in BLOCKS.items()])
def test_branchpoints_are_the_ends_of_blocks(name: str, pixels: int, expected: list[str]) -> None:
    found = cut(name, pixels)
    assert names(found) == expected
    last = found.branchpoints[-1]
    head = found.model.get_submodule(found.head)
    assert last.parameters == sum(p.numel() for p in head.parameters())  # everything but the classifier


@pytest.mark.parametrize(
    ("name", "pixels", "at_least"),
    [("mobilenet_v3_small", 32, 14), ("resnet50", 32, 17), ("inception_v3", 96, 14), ("efficientnet_b0", 32, 18)],
)
def test_larger_networks_have_as_many_as_blocks(name: str, pixels: int, at_least: int) -> None:
    found = cut(name, pixels)
    assert found.segments >= at_least
    counts = [one.parameters for one in found.branchpoints]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts) == len(set(names(found)))
    assert all(one.activations == math.prod(one.shape) for one in found.branchpoints)


def test_a_block_without_shortcut_is_not_cut_where_it_is_wide() -> None:
    assert names(split(Small(5), (3, 9, 9))) == ["", "stem", "blocks.0", "blocks.1", "blocks.2"]


def test_a_tensor_that_the_next_block_writes_into_is_no_branchpoint() -> None:
    """What crosses must be the same for every application."""
    assert names(split(Small(5, greedy=True), (3, 9, 9))) == ["", "stem", "blocks.1", "blocks.2"]


def test_a_wide_convolution_between_narrower_ones_is_no_branchpoint() -> None:
    layers = [nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 64, 1), nn.ReLU(), nn.Conv2d(64, 4, 1), nn.Flatten()]
    found = split(nn.Sequential(*layers, nn.Linear(64, 5)), (3, 4, 4))
    assert [one.activations for one in found.branchpoints] == [48, 32, 64]


def test_layers_that_are_used_twice_stay_on_one_side() -> None:
    found = split(Tied(), (3, 4, 4))
    assert [one.layers for one in found.branchpoints] == [0, 1, 2]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Skipping(), "Skipping narrows to a single tensor nowhere between its 3 layers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), "nowhere between its 1 layers"),
        (Branching(), r"Branching cannot be a base model: .* an `if` or `while` .* `if y.sum\(\) > 0:` in forward"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)), "does not give one tensor"),
        (nn.Sequential(nn.Linear(7, 8), nn.Linear(8, 5)), r"does not take images of \[3, 4, 4\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_base_model_is_told_why(model: nn.Module, said: str) -> None:
    with pytest.raises(BaseModelError, match=said) as caught:
        split(model, (3, 4, 4))
    assert "\n" not in str(caught.value)


def test_a_network_is_left_as_it_was() -> None:
    model = Small(5).train()
    model.blocks[0].eval()
    before = {name: one.clone() for name, one in model.state_dict().items()}
    attributes = set(vars(model))
    split(model, (3, 9, 9))
    assert model.training
    assert not model.blocks[0].training
    assert set(vars(model)) == attributes
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
