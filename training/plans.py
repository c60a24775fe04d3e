"""What to train, and the key of the answer.

What: `TrainConfig` says it in full, `plan` resolves its names to contents and computes the key.
The key covers the configuration with all its defaults, the contents that its names stand for, and the source file of a
user's own model; never device or paths. What that file imports in turn is not covered.
Cost: reads the heads of the named data sets and of the selection; torch is not loaded.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.keys import key_of, split_ref
from tamis.store.selections import Selection

VERSION = 1  # of what training computes: raise it when the same configuration comes to give other weights
_Number = Annotated[float, Field(allow_inf_nan=False)]


class TrainConfig(BaseModel):
    """What to train, on what, and how.

    Attributes:
        dataset: "name" or "name@version".
        selection: train on this selection ("name", "name@version" or key) of it; None: on all of it.
        model: a name for `tamis.training.models.build_model`.
        epochs: passes over the samples.
        batch_size: samples a step.
        lr, momentum, weight_decay, nesterov: of stochastic gradient descent.
        schedule: "cosine" goes from lr to 0 over the epochs; "step" multiplies by gamma every step_size epochs.
        step_size, gamma: see schedule.
        seed: of weights, order, augmentation and dropout.
        augment: "crop-flip" shifts images by up to 4 pixels and mirrors them at random.
        precision: of matrix products on a GPU; a CPU always computes in fp32.
        channels: 3 reads images as RGB, 1 as grey.
        image_size: scale and cut images to this many pixels; None takes them as they are.
        evaluate_on: a data set to measure the final accuracy on.
        record_losses: keep every sample's training loss of every epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    dataset: str
    selection: str | None = None
    model: str = "preact20"
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=128, ge=1)
    lr: _Number = Field(default=0.1, gt=0)
    momentum: _Number = Field(default=0.9, ge=0, lt=1)
    weight_decay: _Number = Field(default=5e-4, ge=0)
    nesterov: bool = True
    schedule: Literal["cosine", "step"] = "cosine"
    step_size: int = Field(default=30, ge=1)
    gamma: _Number = Field(default=0.1, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    augment: Literal["none", "crop-flip"] = "none"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels: Literal[1, 3] = 3
    image_size: int | None = Field(default=None, ge=1)
    evaluate_on: str | None = None
    record_losses: bool = False

    @model_validator(mode="after")
    def _momentum_for_nesterov(self) -> "TrainConfig":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: give one, or set nesterov to false")
        return self


@dataclass(frozen=True)
class Plan:
    """A configuration with its names resolved."""

    config: TrainConfig
    dataset: Dataset
    selection: Selection | None
    evaluate_on: Dataset | None
    key: str


def plan(store: Store, config: TrainConfig) -> Plan:
    """Resolve names to contents, and compute the key.

    Raises:
        DatasetNotFound, SelectionNotFound: naming what there is.
        SelectionError: the selection is of another data set.
    """
    selection = None if config.selection is None else store.selections.get(config.selection)
    dataset = store.datasets.get(config.dataset if selection is None else selection.dataset)
    if split_ref(config.dataset)[0] != dataset.name:
        raise SelectionError(
            f"Selection {config.selection} is of {dataset.ref}, not of {config.dataset}: train on the data set that it "
            "was made from, or select from the other one."
        )
    judged = None if config.evaluate_on is None else store.datasets.get(config.evaluate_on)
    payload: dict[str, Any] = config.model_dump(mode="json")
    payload |= {
        "version": VERSION,
        "dataset": dataset.key,
        "selection": None if selection is None else selection.key,
        "evaluate_on": None if judged is None else judged.key,
        "code": model_code(config.model),
    }
    return Plan(config, dataset, selection, judged, key_of("train", payload))


def model_code(name: str) -> str | None:
    """sha256 of the source file of a user's own model ("module:function"); None for models that come with tamis.

    The file is found without running it. A module that cannot be found is refused later, by `build_model`.
    """
    if ":" not in name:
        return None
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None or not Path(found.origin).is_file():
        return None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
