"""Models that are kept: opened from the bytes of a finished run, and exported to a folder that needs no store.

What: `open_model` builds the network that the bytes name and gives it their weights. `export_run` writes a finished
run's model with the facts to load it by: `model.safetensors`, `config.json`, and a `README.md` that shows how.
`load_exported` opens such a folder again.
Cost: reading and writing the weights.
Trust: safetensors holds numbers only; a model of one's own ("module:function") runs that function.
"""

import json
import shutil
import uuid
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from tamis.store import Store
from tamis.store.advice import command
from tamis.store.errors import RunNotFound
from tamis.store.roots.roots import reporting_full
from tamis.store.runs import FINISHED, Run
from tamis.training.errors import CheckpointError, DestinationTaken
from tamis.training.models.registry import ImageClassifier, build_model
from tamis.training.models.weights import ModelMeta, unpack_model

_WITH_TAMIS = ("googlenet", "inception_v3")  # torchvision's own have outputs more
WEIGHTS, FACTS, README = "model.safetensors", "config.json", "README.md"


def open_model(data: bytes, what: str) -> tuple[ImageClassifier, ModelMeta]:
    """A model from its bytes, in evaluation mode, on the CPU.

    Args:
        data: as a finished training run keeps them.
        what: they are called in a message.

    Raises:
        CheckpointError: they are no model, or the weights do not fit the model that it names.
    """
    weights, meta = unpack_model(data)
    network = build_model(meta.model, num_classes=meta.num_classes, in_channels=meta.in_channels)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights of {what} do not fit {meta.model} with {meta.num_classes} outputs: the model's code has "
            f"changed since. Train it again. ({str(error).splitlines()[0]})"
        ) from error
    return ImageClassifier(network, meta.mean, meta.std).eval(), meta


def trained_run(store: Store, key: str) -> Run:
    """A finished training run that left a model.

    Args:
        store: the store.
        key: the run's key, or the beginning of it.

    Raises:
        RunNotFound: there is none, or it is another kind of run, or not finished.
    """
    run = store.runs.get(key)
    if (run.kind, run.status) != ("train", FINISHED) or run.blob is None:
        raise RunNotFound(
            f"Run {run.key[:12]} is a {run.kind} run that is {run.status}: name a finished training run "
            f"({command(store.root, 'run', 'ls', '--kind', 'train')} lists them)."
        )
    return run


def export_run(store: Store, key: str, to: str | Path) -> Path:
    """Write a finished run's model to a folder, whole or not at all.

    Args:
        store: the store.
        key: the run's key, or the beginning of it.
        to: the folder, which must not be there, or be empty.

    Returns:
        The folder.

    Raises:
        RunNotFound: no finished training run.
        DestinationTaken: there is something at the place.
    """
    run, folder = trained_run(store, key), Path(to).absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DestinationTaken(f"{folder} already exists and is not overwritten. Choose another folder.")
    assert run.blob is not None
    data = store.blobs.get(run.blob)
    meta = unpack_model(data)[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        with reporting_full(str(folder.parent)):
            made.mkdir()
            (made / WEIGHTS).write_bytes(data)
            (made / FACTS).write_text(json.dumps(_facts(run, meta), indent=1, ensure_ascii=False) + "\n", "utf-8")
            (made / README).write_text(_readme(run, meta), "utf-8")
            made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def load_exported(folder: str | Path) -> tuple[ImageClassifier, ModelMeta]:
    """The model of an exported folder, in evaluation mode, on the CPU.

    Returns:
        The model, which takes uint8 images [B, C, H, W] as they are decoded, and its description.

    Raises:
        CheckpointError: the folder holds no exported model.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: expected a folder that `tamis run export` wrote.")
    return open_model(path.read_bytes(), str(path))


def _facts(run: Run, meta: ModelMeta) -> dict[str, Any]:
    metrics = {name: value for name, value in run.metrics.items() if name != "history"}
    trained = {"run": run.key, "dataset": run.dataset, "selection": run.selection, "config": run.config}
    return {**asdict(meta), "trained": trained | {"metrics": metrics}, "tamis": metadata.version("tamis")}


def _readme(run: Run, meta: ModelMeta) -> str:
    size = "as they are" if meta.image_size is None else f"scaled and cut to {meta.image_size} x {meta.image_size}"
    channels = "RGB" if meta.in_channels == 3 else "grey"
    return _PAGE.format(
        model=meta.model, task=meta.task, dataset=run.dataset, key=run.key, outputs=meta.num_classes,
        channels=channels, size=size, mean=list(meta.mean), std=list(meta.std), build=_build(meta), weights=WEIGHTS,
        facts=FACTS,
    )  # fmt: skip


def _build(meta: ModelMeta) -> str:
    """How the network is made without this folder's help: torchvision's by torchvision, others by tamis."""
    own = ":" in meta.model or meta.model.startswith("preact") or meta.model in _WITH_TAMIS or meta.in_channels != 3
    if not own:
        made = f'"{meta.model}", num_classes={meta.num_classes}'
        return f"from torchvision import models\n\nnetwork = models.get_model({made})"
    made = f'"{meta.model}", num_classes={meta.num_classes}, in_channels={meta.in_channels}'
    return f"from tamis.training import build_model\n\nnetwork = build_model({made})"


_PAGE = """# {model}, trained on {dataset}

A model for {task}, from run {key} of tamis. It has {outputs} outputs and takes {channels} images, {size}.
`{facts}` has these facts as JSON, and how it was trained.

With tamis, from this folder:

```python
from tamis.training.models.saved import load_exported

model, facts = load_exported(".")
outputs = model(images)  # uint8 [B, C, H, W], as they are decoded
```

By hand:

```python
import torch
from safetensors.torch import load_file
{build}
network.load_state_dict(load_file("{weights}"))
network.eval()
mean, std = (torch.tensor(one).view(1, -1, 1, 1) for one in ({mean}, {std}))
outputs = network((images / 255 - mean) / std)
```
"""
