"""Weights out of a file: a state dict that a model begins with, the whole of it or its trunk.

What: `read_weights` opens a .safetensors, or a .pth or .pt that `torch.save` wrote; `fit` puts what it holds into a
network. Names are torchvision's: where a file's names are those of a part of the model, that part gets them, so the
state dict of a ResNet that classifies fits the trunk of Faster R-CNN (`backbone.body`) and of SSD (`backbone.trunk`),
one of MobileNetV3 that of SSDLite, which torchvision cuts in two.
How: what the file names in common at the front ("module.") may be missing in the model. Of the places where the names
fit, the one with the most counts, the whole model first. A tensor whose shape depends on the number of outputs (the
last layer) stays as initialised where the file's has another shape; any other shape that differs is refused, and so is
a file that holds less than half of its tensors for the model and less than half of the model's.
Trust: `weights_only=True`, nothing of a pickle runs. Numbers that are not finite are refused.
Cost: reading the file; memory for twice its size.
"""

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet

from tamis.training.errors import CheckpointError

_INSIDE = ("state_dict", "model_state_dict", "model")  # where training scripts put a state dict beside other things
_COUNTER = "num_batches_tracked"  # of BatchNorm: older files lack it
_SHOWN = 6  # names of a message


@dataclass(frozen=True)
class Given:
    """What a model got of a file.

    Attributes:
        file: its name.
        sha256: of its bytes.
        loaded: tensors that were loaded.
        tensors: that the model has.
        into: the part of the model that they are; "" for the whole.
        left: parts that stay as initialised.
        unused: parts of the file that were not used.
    """

    file: str
    sha256: str
    loaded: int
    tensors: int
    into: str
    left: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"{self.file} (sha256 {self.sha256[:12]}): {self.loaded} of the model's {self.tensors} tensors loaded"
            f"{f' into {self.into}' if self.into else ''}; left as initialised: {_listed(self.left)}; not used of the "
            f"file: {_listed(self.unused)}."
        )

    def facts(self) -> dict[str, Any]:
        """For a run's metrics."""
        return {**vars(self), "left": list(self.left), "unused": list(self.unused)}


def begin_with(
    network: nn.Module, path: Path | None, expected: str | None, model: str, other: Callable[[], nn.Module]
) -> Given | None:
    """Give a network the weights of a file; None where there is none.

    Args:
        network: untrained; it is changed.
        path: the file.
        expected: "sha256:" and the digest that it had when it was asked for.
        model: what the network is called.
        other: makes the same network with another number of outputs.

    Raises:
        CheckpointError: the file is damaged, has changed since, or does not fit.
    """
    if path is None:
        return None
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if expected != f"sha256:{sha256}":
        raise CheckpointError(f"{path} has changed since the run was asked for: ask again.")
    return fit(network, read_weights(data, path), file=path.name, sha256=sha256, model=model, other=other)


def read_weights(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        data: its bytes.
        path: what it is called; its suffix says what it is.

    Raises:
        CheckpointError: it is no state dict, or holds numbers that are not finite.
    """
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load(data)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of pickle protocols above torch's own
                found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, TypeError) as error:
        why = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise CheckpointError(
            f"{path} cannot be read as weights ({why}): expected a state dict of tensors and nothing else, from "
            "safetensors' save_file or torch.save(model.state_dict())."
        ) from error
    for name in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    entries = found.items() if isinstance(found, Mapping) else ()
    tensors = {name: one for name, one in entries if isinstance(name, str) and isinstance(one, Tensor)}
    if not tensors:
        what = f"a {type(found).__name__}" + (" without tensors" if isinstance(found, Mapping) else "")
        raise CheckpointError(f"{path} holds {what}: expected a state dict, tensors by name.")
    bad = [name for name, one in tensors.items() if one.is_floating_point() and not bool(one.isfinite().all())]
    if bad:
        raise CheckpointError(f"{path} holds numbers that are not finite, in {_listed(bad)}: give other weights.")
    return tensors


def fit(
    network: nn.Module,
    found: Mapping[str, Tensor],
    *,
    file: str,
    sha256: str,
    model: str,
    other: Callable[[], nn.Module],
) -> Given:
    """Give a network the weights of a file.

    Args:
        network: it is changed.
        found: from `read_weights`.
        file, sha256: name of the file and digest of its bytes.
        model: what the network is called.
        other: makes the same network with another number of outputs; called where shapes differ.

    Raises:
        CheckpointError: nothing fits, or shapes do not.
    """
    own = network.state_dict()
    into, names = _best(network, found, own)
    counted = [name for name in own if not name.endswith(_COUNTER)]
    used = [name for name in names if not name.endswith(_COUNTER)]
    held = sum(not name.endswith(_COUNTER) for name in found)
    if not used or (2 * len(used) < held and 2 * len(used) < len(counted)):
        raise CheckpointError(
            f"{file} does not fit {model}: {len(used)} of its {held} tensors have names of the model's {len(counted)} "
            f"(in the file: {_listed(found)}; in the model: {_listed(own)}). Give the state dict of this model or of "
            "its trunk, named as torchvision's."
        )
    differs = {name: mine for name, mine in names.items() if found[name].shape != own[mine].shape}
    if differs:
        heads = _depend(own, other().state_dict())
        _check_shapes({name: mine for name, mine in differs.items() if mine not in heads}, found, own, file, model)
    with torch.no_grad():
        for name in names.keys() - differs.keys():
            own[names[name]].copy_(found[name])
    loaded = {mine for name, mine in names.items() if name not in differs}
    left = _parts([name for name in counted if name not in loaded], counted)
    unused = _parts([one for one in found if one not in names or one in differs], found)
    return Given(file, sha256, sum(name in loaded for name in counted), len(counted), into, left, unused)


def _check_shapes(
    wrong: Mapping[str, str], found: Mapping[str, Tensor], own: Mapping[str, Tensor], file: str, model: str
) -> None:
    for name, mine in wrong.items():
        full = " A whole MobileNetV3-Large fits ssdlite-mobilenet-full." if model.startswith("ssdlite") else ""
        raise CheckpointError(
            f"{file} does not fit {model}: {name} is {list(found[name].shape)} in the file, and {mine} "
            f"{list(own[mine].shape)} in the model; {len(wrong)} tensors in all have other shapes. Give weights of the "
            f"same depth, width and channels.{full}"
        )


def _best(network: nn.Module, found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """The part of a model that has the most names in common with a file, and its names by the file's."""
    views = {path: _under(own, f"{path}." if path else "") for path, _ in network.named_modules()}
    views |= _as_classifiers(network, own)
    front = _front(found)
    best: tuple[str, dict[str, str]] = ("", {})
    for path, view in views.items():
        for cut in {"", front}:
            names = {cut + name: mine for name, mine in view.items() if cut + name in found}
            best = (path, names) if len(names) > len(best[1]) else best
    return best


def _under(names: Iterable[str], front: str) -> dict[str, str]:
    return {name[len(front) :]: name for name in names if name.startswith(front)}


def _as_classifiers(network: nn.Module, own: Iterable[str]) -> dict[str, dict[str, str]]:
    """Names of SSDLite's trunk by those of the classifier that torchvision cuts it out of.

    It is cut inside of a block: what expands it is the last of the first part, the rest the first of the second.
    """
    trunk = getattr(network, "backbone", None)
    if not isinstance(trunk, SSDLiteFeatureExtractorMobileNet):
        return {}
    at, made = len(trunk.features[0]) - 1, dict[str, str]()  # type: ignore[arg-type]  # it is a Sequential
    for rest, name in _under(own, "backbone.features.").items():
        part, number, *more = rest.split(".")
        if part == "0":
            place = [number, "block", "0"] if int(number) == at else [number]
        else:
            place = [str(at), "block"] if number == "0" else [str(at + int(number))]
        made[".".join(["features", *place, *more])] = name
    return {"backbone": made}


def _front(names: Iterable[str]) -> str:
    """What all names begin with, up to a dot."""
    parts = [name.split(".")[:-1] for name in names]
    shared = 0
    while all(len(one) > shared and one[shared] == parts[0][shared] for one in parts):
        shared += 1
    return "".join(f"{one}." for one in parts[0][:shared])


def _depend(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> set[str]:
    """Tensors whose shape is another one with another number of outputs."""
    return {name for name, one in own.items() if name in others and others[name].shape != one.shape}


def _parts(some: Iterable[str], of: Iterable[str]) -> tuple[str, ...]:
    """The shortest beginnings of names that cover some of them and no others."""
    some = list(some)
    rest = set(of) - set(some)
    barred = {name[:at] for name in rest for at in range(len(name)) if name[at] == "."}
    made: dict[str, None] = {}
    for name in some:
        cuts = [name[:at] for at in range(len(name)) if name[at] == "."]
        made[next((cut for cut in cuts if cut not in barred), name)] = None
    return tuple(made)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "nothing"
