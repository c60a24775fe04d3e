"""Detectors: what finds boxes in frames, one's own or one that was trained here, behind one door.

What: `find_detector` says which detector a name stands for, with the digests that enter keys, and loads nothing;
`open_detector` builds it.
Own detectors: "module:function" is a function that takes the path of a weights file (None where none was given) and
returns a torch.nn.Module under torchvision's contract: in evaluation mode it takes a list of float32 images [3, H, W]
of 0..1 and returns for each a dict of `boxes` [n, 4] (x1, y1, x2, y2 in pixels of the image that it was given),
`labels` [n] and `scores` [n]. The module may declare, as attributes:
    classes        names of the classes by number, where none are given with the name;
    background     True (torchvision's way, and what holds where nothing is said): label 0 is the background, so the
                   number of a class is its label less 1. False: the number of a class is its label;
    takes_bytes    True: it is given the batch as it is decoded, uint8 [B, 3, H, W].
Keys: the digest of the function's source file and that of the weights' file. What the source imports is not covered.
Trust: the function is the user's code and runs; so does what it loads (a TorchScript file is code).
Cost: finding reads both files once.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tamis.store import Store
from tamis.store.errors import RunNotFound
from tamis.training.detection.scaling import Shrunk
from tamis.training.errors import UnknownModelError
from tamis.training.models.own import MODEL, digest, failing, load

if TYPE_CHECKING:
    from torch import Tensor


class Detector(Protocol):
    """What finds boxes.

    Attributes:
        classes: names by number; may be empty.
    """

    classes: tuple[str, ...]

    def __call__(self, images_BCHW: "Tensor") -> "list[dict[str, Tensor]]":
        """uint8 [B, 3, H, W] on the detector's device -> for each frame `boxes` [n, 4] x1, y1, x2, y2 in pixels,
        `labels` [n] class numbers from 0, `scores` [n]."""
        ...


Opener = Callable[[Store, "Source", Any], Detector]  # store, what was found, torch.device -> a detector


@dataclass(frozen=True)
class Source:
    """Which detector, without having loaded it.

    Attributes:
        name: "module:function", or the name of the model that a run trained.
        identity: what enters keys, plain JSON.
        weights: the file that an own detector is given.
        model_run: key of the run that trained it; None for an own detector.
        classes: names that were given with it, by number; empty where it declares them itself.
        scale: of the frames that it is given, of both sides.
        opener: builds it.
    """

    name: str
    identity: dict[str, Any]
    weights: Path | None = None
    model_run: str | None = None
    classes: tuple[str, ...] = ()
    scale: float = 1.0
    opener: Opener | None = field(default=None, repr=False, compare=False)


def find_detector(
    store: Store,
    name: str,
    *,
    weights: str | None = None,
    classes: Sequence[str] = (),
    scale: float = 1.0,
    trained: Opener | None = None,
) -> Source:
    """Which detector a name stands for.

    Args:
        store: the store.
        name: "module:function", or the key of a finished training run of a detector.
        weights: file that an own detector is given.
        classes: names by number, which take the place of those that it declares.
        scale: frames are made smaller by this factor before it looks, above 0, up to 1.
        trained: opens the model of a training run.

    Raises:
        UnknownModelError: no such module, or it has no source file; no such weights.
        RunNotFound: no finished training run of a detector.
    """
    seen = {} if scale == 1 else {"scale": scale}  # keys of full size are those of before there were others
    if ":" in name:
        identity: dict[str, Any] = {"model": name, "code": digest(name, MODEL), "weights": None, **seen}
        path = None if weights is None else Path(weights).expanduser().absolute()
        if path is not None:
            identity["weights"] = _digest_of(path)
        return Source(name, identity, path, None, tuple(classes), scale, _open_own)
    if weights is not None:
        raise UnknownModelError(
            f"{name!r} is a training run, which has weights of its own: leave out the weights file."
        )
    run = store.runs.get(name)
    if run.kind != "train" or run.blob is None:
        raise RunNotFound(
            f"Run {run.key[:12]} is a {run.kind} run that is {run.status}: name a finished training run of a detector, "
            "or a detector of your own as module:function."
        )
    return Source(run.model or run.key, {"model": run.blob, **seen}, None, run.key, tuple(classes), scale, trained)


def open_detector(store: Store, found: Source, device: str = "auto") -> Detector:
    """Build a detector, in evaluation mode, on a device.

    Raises:
        UnknownModelError: it cannot be imported, or is no module; a training run's model is no detector.
        ModelFailed: the user's code raised.
        DeviceError: no such device here.
    """
    from tamis.training.devices import pick_device

    if found.opener is None:
        raise UnknownModelError(
            f"The model of run {(found.model_run or '')[:12]} ({found.name}) is no detector: name a run that was "
            "trained for detection, or a detector of your own as module:function."
        )
    opened = found.opener(store, found, pick_device(device))
    return opened if found.scale == 1 else Shrunk(opened, found.scale)


class OwnDetector:
    """A module under torchvision's contract.

    Args:
        module: in evaluation mode, on its device.
        name: of its function.
        classes: names that take the place of those that it declares.
    """

    def __init__(self, module: Any, name: str, classes: Sequence[str] = ()) -> None:
        self._module, self._name = module, name
        self._first = 1 if bool(getattr(module, "background", True)) else 0
        self._takes_bytes = bool(getattr(module, "takes_bytes", False))
        self.classes = tuple(map(str, classes or getattr(module, "classes", ())))

    def __call__(self, images_BCHW: "Tensor") -> "list[dict[str, Tensor]]":
        """As `Detector`.

        Raises:
            ModelFailed: the module raised; the message has its own frames.
            UnknownModelError: what it returned is not torchvision's.
        """
        with failing(self._name, kind=MODEL):
            given = images_BCHW if self._takes_bytes else [image.float() / 255 for image in images_BCHW]
            made = cast("object", self._module(given))
        found = cast("list[Any]", made) if isinstance(made, list | tuple) else []
        if len(found) != len(images_BCHW):
            got = f"{len(found)} answers" if found else f"a {type(made).__name__}"
            raise UnknownModelError(
                f"Detector {self._name} returned {got} for {len(images_BCHW)} frames: expected a list with one dict "
                "a frame, of boxes, labels and scores (torchvision's contract)."
            )
        return [self._checked(one) for one in found]

    def _checked(self, found: Any) -> "dict[str, Tensor]":
        shapes: dict[str, tuple[int, ...]] = {}
        if isinstance(found, dict):
            answer = cast("dict[str, Any]", found)
            shapes = {name: tuple(getattr(answer.get(name), "shape", ())) for name in ("boxes", "labels", "scores")}
        count = next(iter(shapes.get("labels", ())), -1)
        if shapes != {"boxes": (count, 4), "labels": (count,), "scores": (count,)}:
            raise UnknownModelError(
                f"Detector {self._name} returned {shapes or type(found).__name__} for a frame: expected a dict of "
                "boxes [n, 4], labels [n] and scores [n]."
            )
        return {"boxes": found["boxes"], "labels": found["labels"] - self._first, "scores": found["scores"]}


def _open_own(_store: Store, found: Source, device: Any) -> Detector:
    from torch import nn

    make = load(found.name)
    with failing(found.name, kind=MODEL):
        module = make(None if found.weights is None else str(found.weights))
    if not isinstance(module, nn.Module):
        raise UnknownModelError(
            f"{found.name!r} returned a {type(module).__name__}: expected a function(weights) that returns a "
            "torch.nn.Module under torchvision's contract for detectors."
        )
    return OwnDetector(module.to(device).eval(), found.name, found.classes)


def _digest_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnknownModelError(f"Weights {path} cannot be read ({error.strerror}): expected a file.") from error
