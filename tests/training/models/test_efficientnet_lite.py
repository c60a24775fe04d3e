"""EfficientNet-Lite: the published sizes, the padding of TensorFlow, the names of the weights, and what those know."""

import io
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import pil_to_tensor

from tamis.training.models.efficientnet_lite import MEAN, NAMES, STD, EfficientNetLite
from tamis.training.models.pretrained import fit, read_weights
from tamis.training.models.registry import ImageClassifier, build_model, model_names

# Blocks of each stage by ceil(depth * blocks), first and last fixed; parameters as published, in millions.
SIZES = [("efficientnet-lite0", 16, 4.7), ("efficientnet-lite1", 21, 5.4), ("efficientnet-lite2", 21, 6.1)]


def lite(name: str, classes: int = 1000) -> EfficientNetLite:
    model = build_model(name, num_classes=classes)
    assert isinstance(model, EfficientNetLite)
    return model


@pytest.mark.parametrize(("name", "blocks", "millions"), SIZES)
def test_sizes_are_the_published_ones(name: str, blocks: int, millions: float) -> None:
    model = lite(name)
    assert len(model.get_submodule("_blocks")) == blocks  # type: ignore[arg-type]  # it is a Sequential
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert name in model_names()
    assert [one.eps for one in model.modules() if isinstance(one, nn.BatchNorm2d)] == [1e-3] * (3 * blocks + 1)


def test_an_image_is_halved_five_times_rounding_up() -> None:
    model = build_model("efficientnet-lite0", num_classes=3, in_channels=1).eval()
    seen = list[tuple[int, ...]]()
    model.get_submodule("_conv_head").register_forward_hook(lambda *given: seen.append(tuple(given[2].shape)))
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, 65, 64)).shape == (2, 3)
    assert seen == [(2, 1280, 3, 2)]


@pytest.mark.parametrize(("pixels", "covers"), [(8, [0, 1, 2]), (7, [0, 1])])
def test_padding_is_that_of_tensorflow(pixels: int, covers: list[int]) -> None:
    """Of 8 pixels, kernel 3 and stride 2 lack one, below: the first window is 0..2. Of 7 they lack two: -1..1."""
    conv = lite("efficientnet-lite0", 3).get_submodule("_conv_stem")
    with torch.no_grad():
        conv.weight.fill_(1)  # type: ignore[union-attr, operator]  # it is a convolution
    found = [at for at in range(pixels) if conv(_impulse(pixels, at))[0, 0, 0, 0] != 0]
    assert found == covers
    assert conv(_impulse(pixels, 0)).shape[-1] == 4


def _impulse(pixels: int, at: int) -> Tensor:
    image = torch.zeros(1, 3, pixels, pixels)
    image[0, 0, 0, at] = 1
    return image


def test_entries_are_named_as_in_the_published_state_dicts() -> None:
    own = lite("efficientnet-lite0").state_dict()
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]

    def block(at: int) -> list[str]:
        parts = ([] if at == 0 else [("_expand_conv", "_bn0")]) + [
            ("_depthwise_conv", "_bn1"),
            ("_project_conv", "_bn2"),
        ]
        return [f"_blocks.{at}.{one}" for a, b in parts for one in (f"{a}.weight", *(f"{b}.{name}" for name in norm))]

    outer = [("_conv_stem", "_bn0"), ("_conv_head", "_bn1")]
    names = [f"{a}.weight" for a, _ in outer] + [f"{b}.{name}" for _, b in outer for name in norm]
    assert set(own) == {*names, *(one for at in range(16) for one in block(at)), "_fc.weight", "_fc.bias"}


def test_the_pixels_are_normalised_as_for_the_published_weights() -> None:
    images = torch.tensor([0, 127, 255], dtype=torch.uint8).expand(1, 3, 1, 3)
    found = ImageClassifier(nn.Identity(), MEAN, STD)(images)
    torch.testing.assert_close(found, (images.float() - 127) / 128)


@pytest.mark.real
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_the_published_weights_know_real_images(name: str, real: Callable[[str], Path]) -> None:
    """A linear layer on the frozen features of 2,000 CIFAR-10 images tells over 80 % of 1,000 others."""
    path = next(real("efficientnet-lite").glob(f"{name}-*.pth"))
    model = lite(name)
    found = read_weights(path.read_bytes(), path)
    given = fit(model, found, file=path.name, sha256="", model=name, other=partial(lite, name, 7))
    assert given.loaded == given.tensors
    assert not given.unused
    train, test = (_features(model, sorted(real("cifar10").glob(f"{part}-*.tar"))[0], n) for part, n in SPLITS)
    targets = functional.one_hot(train[1], 10).float()
    spread = train[0].T @ train[0] + len(targets) * 0.03 * torch.eye(train[0].shape[1])
    weights = torch.linalg.solve(spread, train[0].T @ (targets - 0.1))
    assert float(((test[0] @ weights).argmax(1) == test[1]).float().mean()) > 0.8


SPLITS = (("train", 2000), ("test", 1000))


@torch.inference_mode()
def _features(model: EfficientNetLite, shard: Path, count: int) -> tuple[Tensor, Tensor]:
    """Features [N, 1280] and classes [N] of a shard's first images."""
    images, labels = list[Tensor](), list[int]()
    with tarfile.open(shard) as tar:
        for member in tar:
            data = tar.extractfile(member)
            assert data is not None
            if member.name.endswith(".png"):
                images.append(pil_to_tensor(Image.open(io.BytesIO(data.read())).convert("RGB").resize((128, 128))))
            elif member.name.endswith(".cls"):
                labels.append(int(data.read()))
    pixels = ImageClassifier(nn.Identity(), MEAN, STD)
    batches = torch.stack(images[:count]).split(50)
    return torch.cat([model.eval().embed(pixels(batch)) for batch in batches]), torch.tensor(labels[:count])
