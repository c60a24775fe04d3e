"""Models by name: ResNets for small images, torchvision's classifiers, and a user's own function.

What: `build_model` makes an untrained network of a name, with its own weights drawn from (seed, "init").
Names:
    preact20, preact56, preact110, ...   pre-activation ResNets of any depth 6n+2 (basic blocks) or 9n+2 (bottlenecks).
        A depth that fits both has basic blocks below 164 layers and bottlenecks from there on, as in the paper;
        a suffix decides otherwise: preact164-basic, preact20-bottleneck.
    resnet20, 32, 44, 56, 110, 1202      the first ResNets for small images (`tamis.training.models.plain`).
    wrn-28-10, wrn-16-8-drop0.4, ...     wide ResNets: depth 6n+4, width, share dropped (`tamis.training.models.wide`).
    resnet18, mobilenet_v3_small, ...    torchvision's classifiers, untrained: nothing is downloaded.
    efficientnet-lite0, 1, 2             EfficientNet-Lite, with the parameter names of the published weights
        (`tamis.training.models.efficientnet_lite`).
    resnet18-cifar, densenet121-cifar    ResNets, DenseNets and mobilenet_v2 of these whose stem keeps small images
        their size (`tamis.training.models.stems`).
    ssdlite-mobilenet, fasterrcnn-resnet18, ssd300-resnet50@2, ...   detectors, for the task detection: family, side and
        width (`tamis.training.models.detectors.names`).
    my_package.models:make               a function that returns a torch.nn.Module; called with `num_classes` and
        `in_channels` where it takes them. Its module lies in the current folder or is installed.
Cost: parameters of a pre-activation ResNet, 10 classes: preact20 .27 M, preact56 .86 M, preact110 1.7 M, preact164
1.7 M (preact164-basic 2.6 M).
Source: K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, figure 4(e) and
section 4. Departure: where a stage halves the image, basic blocks have a 1x1 convolution in the shortcut as bottlenecks
do, not padding with zeros (2,560 parameters more).
"""

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tamis.training.errors import UnknownModelError
from tamis.training.models import plain, stems, wide
from tamis.training.models.detectors import names as detectors
from tamis.training.models.own import failing, load
from tamis.training.seeds import derive_seed

_PREACT = re.compile(r"preact(\d+)(?:-(basic|bottleneck))?\Z")
_PLAIN = tuple(f"resnet{depth}" for depth in plain.DEPTHS)
_WIDE = re.compile(r"wrn-(\d+)-(\d+)(?:-drop(0\.\d+))?\Z")
_LAYERS = {"basic": 6, "bottleneck": 9}  # that one block more in each of the three stages adds
_BOTTLENECK_FROM = 164
_LITE = tuple(f"efficientnet-lite{size}" for size in range(3))
_SHOWN = (
    "preact20", "preact56", "preact110", "preact164", *_PLAIN, "wrn-28-10", "wrn-16-8", "wrn-16-4", "wrn-40-4", *_LITE,
)  # fmt: skip


def build_model(name: str, *, num_classes: int, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """An untrained network, the same one for the same arguments. The global random state is left as it was.

    Args:
        name: see the module's docstring.
        num_classes: logits it gives.
        in_channels: of the images it takes.
        seed: its weights are drawn from (seed, "init").

    Returns:
        A module that maps float32 [B, in_channels, H, W] to logits [B, num_classes], on the CPU.

    Raises:
        UnknownModelError: no such model; names close ones.
        ModelFailed: a user's own function raised.
    """
    if num_classes < 1 or in_channels < 1:
        raise ValueError(f"num_classes is {num_classes} and in_channels is {in_channels}: both are at least 1.")
    make = _maker(name)
    # torch.manual_seed would seed the GPUs too, and fork_rng(devices=[]) would not put that back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "init"))
        return make(num_classes, in_channels)


def check_model(name: str) -> None:
    """Refuse a name that `build_model` would refuse, without building anything.

    Raises:
        UnknownModelError: no such model; names close ones.
    """
    _maker(name)


def model_names() -> list[str]:
    """Names that `build_model` takes, beside other depths of preact and wrn and a user's own functions."""
    names = _torchvision_names()
    return [*_SHOWN, *detectors.SHOWN, *names, *(f"{name}{stems.SUFFIX}" for name in names if stems.has_stem(name))]


class ImageClassifier(nn.Module):
    """A network with the normalisation it was trained with: takes images as they are decoded.

    Args:
        network: maps normalised float32 images to logits.
        mean, std: one number a channel, of pixels scaled to 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
        # Pixels are bytes: the factor 255 is folded in here.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> what the network takes."""
        # Convolutions run 1.2 to 2 times as fast in this layout, on CPUs and GPUs.
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> logits [B, classes]."""
        return self.network(self.pixels(images))


class PreActResNet(nn.Module):
    """A pre-activation ResNet for small images: a 3x3 stem of 16 channels and three stages.

    Args:
        depth: 6n+2 with basic blocks, 9n+2 with bottlenecks.
        block: "basic" or "bottleneck".
        num_classes: logits it gives.
        in_channels: of the images it takes.
    """

    def __init__(self, depth: int, block: str, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 2) // _LAYERS[block]
        make, wider = (_Basic, 1) if block == "basic" else (_Bottleneck, 4)
        self.stem = _conv(in_channels, 16, 3)
        width, stages = 16, list[nn.Module]()
        for inner, stride in ((16, 1), (32, 2), (64, 2)):
            for number in range(blocks):
                stages.append(make(width, inner, stride if number == 0 else 1, opens=number == 0))
                width = inner * wider
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> what the last layer sees, [B, E]."""
        x = functional.relu(self.norm(self.stages(self.stem(x))), inplace=True)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] -> logits [B, num_classes]."""
        return self.fc(self.embed(x))


class _Block(nn.Module):
    """x + f(x), with f made of BatchNorm-ReLU-convolution. The first block of a stage activates the shortcut too."""

    def __init__(
        self, width: int, out: int, stride: int, opens: bool, layers: Sequence[tuple[int, int, int, int]]
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(a) for a, _, _, _ in layers)
        self.convs = nn.ModuleList(_conv(a, b, kernel, step) for a, b, kernel, step in layers)
        self.opens = opens
        self.shortcut = _conv(width, out, 1, stride) if stride > 1 or width != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norms[0](x), inplace=True)
        kept = self.shortcut(y if self.opens else x)
        y = self.convs[0](y)
        for norm, conv in zip(list(self.norms)[1:], list(self.convs)[1:], strict=True):
            y = conv(functional.relu(norm(y), inplace=True))
        return y + kept


class _Basic(_Block):
    def __init__(self, width: int, inner: int, stride: int, opens: bool) -> None:
        super().__init__(width, inner, stride, opens, [(width, inner, 3, stride), (inner, inner, 3, 1)])


class _Bottleneck(_Block):
    def __init__(self, width: int, inner: int, stride: int, opens: bool) -> None:
        layers = [(width, inner, 1, 1), (inner, inner, 3, stride), (inner, 4 * inner, 1, 1)]
        super().__init__(width, 4 * inner, stride, opens, layers)


def _conv(a: int, b: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(a, b, kernel, stride, padding=kernel // 2, bias=False)


_Maker = Callable[[int, int], nn.Module]


def _maker(name: str) -> _Maker:
    preact = _PREACT.match(name)
    if preact is not None:
        depth, block = int(preact[1]), _block(name, int(preact[1]), preact[2])
        return lambda classes, channels: PreActResNet(depth, block, classes, channels)
    if ":" in name:
        return _own(name)
    if name in _PLAIN:
        return partial(plain.PlainResNet, int(name.removeprefix("resnet")))
    if _WIDE.match(name):
        return _wide(name)
    if name in _LITE:
        return partial(_lite, name)
    if detectors.is_detector(name):
        return _detector(name)
    if name.endswith(stems.SUFFIX) and name in model_names():
        return lambda classes, channels: _torchvision(name.removesuffix(stems.SUFFIX), classes, channels, small=True)
    if name in _torchvision_names():
        return lambda classes, channels: _torchvision(name, classes, channels)
    raise _unknown(name)


def _block(name: str, depth: int, wished: str | None) -> str:
    fits = [block for block, layers in _LAYERS.items() if depth > 2 and (depth - 2) % layers == 0]
    if wished in fits:
        return wished
    if not fits or wished is not None:
        kinds = [wished] if wished else list(_LAYERS)
        near = sorted({max(1, round((depth - 2) / _LAYERS[k])) * _LAYERS[k] + 2 for k in kinds})
        rule = " or ".join(f"{_LAYERS[k]}n+2 with {k} blocks" for k in kinds)
        raise UnknownModelError(f"{name!r}: a depth is {rule}; near it: {', '.join(f'preact{d}' for d in near)}.")
    return fits[-1] if depth >= _BOTTLENECK_FROM else fits[0]


def _wide(name: str) -> _Maker:
    found = _WIDE.match(name)
    assert found is not None
    depth, widen, drop = int(found[1]), int(found[2]), float(found[3] or 0)
    if depth < wide.LAYERS + 4 or (depth - 4) % wide.LAYERS or widen < 1:
        near = max(1, round((depth - 4) / wide.LAYERS)) * wide.LAYERS + 4
        raise UnknownModelError(
            f"{name!r}: a depth is {wide.LAYERS}n+4 and a width at least 1; near it: wrn-{near}-{max(widen, 1)}."
        )
    return lambda classes, channels: wide.WideResNet(depth, widen, classes, channels, drop)


def _lite(name: str, classes: int, channels: int) -> nn.Module:
    from tamis.training.models.efficientnet_lite import EfficientNetLite  # loads torchvision

    return EfficientNetLite(name, classes, channels)


def _detector(name: str) -> _Maker:
    parsed = detectors.parse(name)
    assert parsed is not None

    def make(outputs: int, channels: int) -> nn.Module:
        from tamis.training.models.detectors.build import make_detector  # loads much of torchvision

        model = make_detector(parsed, outputs)
        if channels != 3:
            _replace_stem(model, channels)
        return model

    return make


def _torchvision_names() -> list[str]:
    from torchvision import models

    return models.list_models(module=models)


def _torchvision(name: str, classes: int, channels: int, small: bool = False) -> nn.Module:
    from torchvision import models

    # These two else return tuples while training, and warn about their own initialisation.
    extra = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **extra)
    if small:
        stems.shrink_stem(model)
    if channels != 3:
        _replace_stem(model, channels)
    return model


def _replace_stem(model: nn.Module, channels: int) -> None:
    """Put a convolution for other channels in place of the first one; its weights are drawn as the library does."""
    path, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
    stem = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # torch types these as tuples of any length
        old.stride,  # type: ignore[arg-type]  # typed as tuples of any length too
        old.padding,  # type: ignore[arg-type]  # typed as tuples of any length too
        bias=old.bias is not None,
    )
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, stem)


def _own(name: str) -> _Maker:
    function = load(name)

    def make(classes: int, channels: int) -> nn.Module:
        given = _taken(name, function, {"num_classes": classes, "in_channels": channels})
        with failing(name):
            model = function(**given)
        if not isinstance(model, nn.Module):
            raise UnknownModelError(f"{name!r} returned a {type(model).__name__}: expected a torch.nn.Module.")
        return model

    return make


def _taken(name: str, function: Callable[..., object], offered: dict[str, int]) -> dict[str, int]:
    """Those of the arguments offered that the function takes; it must need no others."""
    try:
        signature = inspect.signature(function)
        every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
        given = {k: v for k, v in offered.items() if every or k in signature.parameters}
        signature.bind(**given)
    except (TypeError, ValueError) as error:
        raise UnknownModelError(
            f"{name!r} cannot be called with num_classes and in_channels, or those of them that it takes: {error}."
        ) from error
    return given


def _unknown(name: str) -> UnknownModelError:
    names = model_names()
    near = ", ".join(difflib.get_close_matches(name, names, n=5, cutoff=0.5)) or "none"
    return UnknownModelError(
        f"No model {name!r}; names near it: {near}. There are {', '.join(_SHOWN)} and other depths, detectors "
        f"{', '.join(detectors.SHOWN)}, a function of your own as module:function, and torchvision's "
        f"{', '.join(_torchvision_names())}; ResNets, DenseNets and mobilenet_v2 also as resnet18{stems.SUFFIX} and so "
        "on, for small images."
    )
