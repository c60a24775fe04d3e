"""The base model that candidates begin with: out of a file of weights or a training run, kept once in the store.

What: `keep_base` puts the whole of it into the store, its own head included; `open_base` builds it again.
How: a file must hold everything but the head, which is what changes its shape with the number of outputs, and which
candidates replace anyway.
Normalisation belongs to the base: a run's is that of its pixels; for a file it is that of the model's family
(EfficientNet-Lite (x - 127) / 128, torchvision's classifiers ImageNet's), or given.
Cost: reading the weights; building the network a few times.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from tamis.store import Store
from tamis.store.errors import PackageError
from tamis.store.packages import Base
from tamis.training.mainstream.trainer.config import DIGEST, PackageConfig
from tamis.training.models.pretrained import fit, read_weights
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.models.saved import trained_run
from tamis.training.models.weights import unpack_model

_LITE = "efficientnet-lite"
_LITE_PIXELS = ((127 / 255,) * 3, (128 / 255,) * 3)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OTHERS = ("preact", "wrn-", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202")


def keep_base(store: Store, config: PackageConfig, side: int) -> Base:
    """The base that a config names, put into the store where it is not there yet.

    Args:
        store: the store.
        config: names the model and where its weights are.
        side: of an image, pixels.

    Raises:
        PackageError: the run's model is another one, or weights are missing, or how pixels are normalised is not known.
        CheckpointError, UnknownModelError, RunNotFound: naming what is wrong.
    """
    if config.base_run is not None:
        return _of_run(store, config, side)
    assert config.weights is not None
    mean, std = _pixels(config)
    if config.weights.startswith(DIGEST):
        there = [one for one in store.packages.bases.all() if one.model == config.base and config.weights in one.source]
        if not there:
            raise PackageError(
                f"No base {config.base} with the weights {config.weights[:19]}... is in the store: give the file."
            )
        state, source = safetensors.torch.load(store.packages.bases.weights(there[0])), there[0].source
    else:
        state, source = _of_file(Path(config.weights).expanduser(), config)
    return _put(store, config, state, mean=mean, std=std, side=side, source=source)


def open_base(store: Store, base: Base) -> ImageClassifier:
    """A base as it was trained, on the CPU, in evaluation mode.

    Args:
        store: the store.
        base: which.

    Raises:
        PackageError: the base's weights do not fit the model of its name.
    """
    network = build_model(base.model, num_classes=base.outputs, in_channels=base.channels)
    try:
        network.load_state_dict(safetensors.torch.load(store.packages.bases.weights(base)))
    except RuntimeError as error:
        raise PackageError(
            f"Base {base.key[:12]} does not fit {base.model} with {base.outputs} outputs: the model's code has changed "
            f"since. Build with its weights again. ({str(error).splitlines()[0]})"
        ) from error
    return ImageClassifier(network, base.mean, base.std).eval()


def pack_state(state: Mapping[str, Tensor]) -> bytes:
    """A state dict, or a part of one, as safetensors; the same tensors give the same bytes."""
    return safetensors.torch.save(
        {name: one.detach().cpu().clone(memory_format=torch.contiguous_format) for name, one in state.items()}
    )


def _of_run(store: Store, config: PackageConfig, side: int) -> Base:
    assert config.base_run is not None
    run = trained_run(store, config.base_run)
    assert run.blob is not None
    state, meta = unpack_model(store.blobs.get(run.blob))
    if (meta.model, meta.in_channels, meta.task) != (config.base, config.channels, "classification"):
        raise PackageError(
            f"Run {run.key[:12]} trained {meta.model} for {meta.task} on {meta.in_channels} channels, not "
            f"{config.base} for classification on {config.channels}: name that model and its channels, or another run."
        )
    return _put(store, config, state, mean=meta.mean, std=meta.std, side=side, source=f"run {run.key}")


def _of_file(path: Path, config: PackageConfig) -> tuple[dict[str, Tensor], str]:
    """The whole state of a base, of a file, and what the file is called."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackageError(f"Weights {path} cannot be read ({error.strerror}): give a file that is here.") from error
    found, sha256 = read_weights(data, path), hashlib.sha256(data).hexdigest()
    new, outputs = _head(config.base, config.channels), _outputs(found, config)
    network = _build(config, outputs)
    other = partial(_build, config, outputs + 1)
    given = fit(network, found, file=path.name, sha256=sha256, model=config.base, other=other)
    left = [part for part in given.left if not any(name.startswith(part) for name in new)]
    if left:
        raise PackageError(
            f"{path.name} lacks weights of {config.base} ({', '.join(left[:4])}): a base must be trained as a whole."
        )
    return network.state_dict(), f"{path.name} {DIGEST}{sha256}"


def _put(
    store: Store, config: PackageConfig, state: Mapping[str, Tensor], *, mean: tuple[float, ...],
    std: tuple[float, ...], side: int, source: str,
) -> Base:  # fmt: skip
    head = next(iter(_head(config.base, config.channels)))
    return store.packages.bases.put(
        pack_state(state), model=config.base, outputs=len(state[head]), channels=config.channels, image_size=side,
        mean=mean, std=std, source=source,
    )  # fmt: skip


def _build(config: PackageConfig, outputs: int) -> nn.Module:
    return build_model(config.base, num_classes=outputs, in_channels=config.channels)


def _head(model: str, channels: int) -> frozenset[str]:
    """The entries of a model's state whose shape follows the number of outputs.

    Raises:
        PackageError: none does.
    """
    two, three = (build_model(model, num_classes=n, in_channels=channels).state_dict() for n in (2, 3))
    found = frozenset(name for name, one in two.items() if three[name].shape != one.shape)
    if not found:
        raise PackageError(f"{model} has the same layers for 2 classes and for 3, so it has no head to be replaced.")
    return found


def _outputs(found: Mapping[str, Tensor], config: PackageConfig) -> int:
    """How many outputs the model had whose weights a file holds; 2 where its head is missing."""
    head = _head(config.base, config.channels)
    sizes = [len(one) for name, one in found.items() if one.ndim and _is_of(name, head)]
    return sizes[0] if sizes else 2


def _is_of(name: str, some: Iterable[str]) -> bool:
    """Whether an entry is one of some, whatever the file puts before their names."""
    return any(name == one or name.endswith(f".{one}") for one in some)


def _pixels(config: PackageConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels, scaled to 0..1, that a file's model was trained on."""
    if config.mean is not None and config.std is not None:
        return config.mean, config.std
    if ":" not in config.base and not config.base.startswith(_OTHERS) and config.channels == 3:
        return _LITE_PIXELS if config.base.startswith(_LITE) else _IMAGENET
    raise PackageError(
        f"How pixels are normalised for {config.base} with {config.channels} channels is not known: give mean and std, "
        "a number a channel, of pixels scaled to 0..1."
    )
