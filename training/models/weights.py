"""Models and checkpoints as bytes: safetensors for what is kept, `torch.save` behind a digest for what is resumed.

What: `pack_model`/`unpack_model` write a network's weights with what is needed to use them (`ModelMeta`);
`pack_checkpoint`/`unpack_checkpoint` write everything a training run needs to go on.
Trust: safetensors holds numbers only; checkpoints are loaded with `weights_only=True`, and only when their digest says
that they are what was written.
The same weights give the same bytes, so a model's digest confirms that a training run was repeated exactly.
"""

import hashlib
import io
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tamis.training.errors import CheckpointError

_MAGIC = b"tamis checkpoint 1\n"


@dataclass(frozen=True)
class ModelMeta:
    """What a model was built and trained with.

    Attributes:
        model: its name, for `tamis.training.models.registry.build_model`.
        num_classes: logits it gives.
        in_channels: of the images it takes, 3 (RGB) or 1 (grey).
        mean, std: of the pixels it was trained on, scaled to 0..1, one number a channel.
        classes: their names; may be empty.
        image_size: what images are scaled and cut to; None for as they are.
        task: what it learnt (`tamis.training.tasks`).
    """

    model: str
    num_classes: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()
    image_size: int | None = None
    task: str = "classification"


def pack_model(weights: dict[str, Tensor], meta: ModelMeta) -> bytes:
    """A network's state dict and its meta data as one safetensors file."""
    # Copies, because safetensors refuses tensors that share memory (tied weights).
    tensors = {name: w.detach().cpu().clone(memory_format=torch.contiguous_format) for name, w in weights.items()}
    facts = asdict(meta)
    if meta.task == ModelMeta.task:  # models from before there were others have the same bytes, and the same digest
        del facts["task"]
    # One entry: with more their order in the file, and with it the digest, would change from process to process.
    return safetensors.torch.save(tensors, metadata={"tamis": json.dumps(facts, sort_keys=True)})


def unpack_model(data: bytes) -> tuple[dict[str, Tensor], ModelMeta]:
    """What `pack_model` wrote.

    Raises:
        CheckpointError: the bytes are no safetensors file, or none that tamis wrote.
    """
    try:
        weights = safetensors.torch.load(data)
        (length,) = struct.unpack_from("<Q", data)
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        found: dict[str, Any] = json.loads(header["__metadata__"]["tamis"])
        for name in ("mean", "std", "classes"):
            found[name] = tuple(found[name])
        return weights, ModelMeta(**found)
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{len(data)} bytes that are not a tamis model ({type(error).__name__}: {error}): expected a safetensors "
            "file with its metadata, as written by a finished training run."
        ) from error


def pack_checkpoint(content: dict[str, Any]) -> bytes:
    """Tensors, numbers, texts, lists and dicts, with a digest before them."""
    file = io.BytesIO()
    torch.save(content, file)
    payload = file.getvalue()
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def unpack_checkpoint(data: bytes) -> dict[str, Any]:
    """What `pack_checkpoint` wrote.

    Raises:
        CheckpointError: anything else.
    """
    head, payload = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if not head.startswith(_MAGIC) or hashlib.sha256(payload).digest() != head[len(_MAGIC) :]:
        raise CheckpointError(f"{len(data)} bytes that are damaged, or no checkpoint of this version of tamis.")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
