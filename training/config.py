"""What to train, and the key of the answer.

What: `TrainConfig` says it in full, `plan` resolves its names to contents and computes the key.
The key covers the configuration with all its defaults, the contents that its names stand for, and the source file of a
user's own model; never device or paths. What that file imports in turn is not covered.
Cost: reads the heads of the named datasets and of the selection; torch is not loaded.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tamis.curation.budget import resolve_budget
from tamis.curation.methods import METHODS
from tamis.curation.parameters import parameters, recorded
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.keys import check_name, key_of, split_ref
from tamis.store.selections import Request, Selection
from tamis.training import border
from tamis.training.decoding.pixels import decoder_key
from tamis.training.models.own import source
from tamis.training.tasks import CLASSIFICATION, get_task

GRADMATCH = METHODS["gradmatch"]
VERSION = 1  # of what training computes: raise it when the same configuration comes to give other weights
_LATER = frozenset({"task"})  # fields that enter the key only where they differ from their default
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Epochs = Annotated[int, Field(ge=1, le=border.EPOCHS)]


class Reselect(BaseModel):
    """Choosing again as the training run goes: Grad-Match.

    Attributes:
        name: of the selection that the run leaves; None: the dataset's name and the method's.
        budget: "10%", 0.1 or a number of samples, chosen anew each time.
        every: epochs from one choice to the next (R).
        kind: "class-gradient" (one problem a class, that class's slice of the last layer), "class" (the whole last
            layer) or "batch" (PB: whole mini-batches).
        lam: ridge on the weights.
        target: None matches the training gradient; a dataset, its gradient.
        warm: None chooses from the first epoch on; kappa trains on everything for ceil(kappa epochs budget) epochs
            first.
        head: None takes the linear last layer in closed form; a module's name, its gradients by autograd.
        tolerance, spare, part_size, surplus: as in `tamis.curation.gradmatch.method.select_gradmatch`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    budget: str | int | float = "10%"
    every: _Epochs = 20
    kind: Literal["class-gradient", "class", "batch"] = "class-gradient"
    lam: _Number = Field(default=0.5, ge=0)
    target: str | None = None
    warm: _Number | None = Field(default=None, gt=0, le=1)
    head: str | None = None
    tolerance: _Number = 0.0
    spare: _Number = 0.05
    part_size: int = 32768
    surplus: _Number = 2.0

    @model_validator(mode="after")
    def _allowed(self) -> "Reselect":
        recorded(GRADMATCH, self._own())
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the parameters that came later, where they are as they always were: the keys of before stay."""
        own = self._own()
        later = {name for name, one in parameters(GRADMATCH).items() if one.added and own[name] == one.default}
        return {name: value for name, value in handler(self).items() if name not in later}

    def params(self, batch_size: int) -> dict[str, Any]:
        """The method's parameters, as a selection records them.

        Args:
            batch_size: samples a mini-batch, for the kind "batch".
        """
        return recorded(GRADMATCH, self._own() | {"batch_size": batch_size})

    def _own(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in parameters(GRADMATCH) if name != "batch_size"}


class TrainConfig(BaseModel):
    """What to train, on what, and how.

    The command line's options are these fields with these defaults and texts (`tamis.flows.cli.fields`).

    Attributes:
        dataset: name or name@version.
        selection: train on this selection of the dataset: name, name@version or key; default: all samples.
        reselect: choose what to train on as the run goes, and leave the choices as a selection.
        model: a model's name: preact20, preact56, resnet18, ..., or your own as module:function.
        epochs: number of training epochs.
        batch_size: batch size.
        optimizer: optimizer.
        lr: initial learning rate.
        momentum: SGD momentum.
        weight_decay: weight decay.
        nesterov: Nesterov momentum for SGD.
        schedule: learning rate: cosine goes from lr to 0 over the epochs; step multiplies it by gamma every step_size
            epochs.
        step_size: epochs between steps of the schedule.
        gamma: factor of a schedule step.
        seed: seed of weights, order, augmentation and dropout.
        augment: augmentation: crop-flip randomly shifts images by up to 4 pixels and mirrors them.
        precision: precision of matrix products on a GPU; a CPU always computes in fp32.
        channels: read images as RGB (3) or grayscale (1).
        image_size: resize and crop images to this many pixels; default: keep their size.
        evaluate_on: dataset to evaluate on at the end, as name or name@version.
        evaluate_every: epochs between evaluations during training, for tamis report; default: at the end only.
        record_losses: store every sample's training loss in every epoch (table losses).
        task: classification, or regression on the numbers that the dataset was added with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    dataset: str
    selection: str | None = None
    reselect: Reselect | None = None
    model: str = "preact20"
    epochs: _Epochs = 10
    batch_size: int = Field(default=128, ge=1, le=border.BATCH)
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    lr: _Number = Field(default=0.1, gt=0)
    momentum: _Number = Field(default=0.9, ge=0, lt=1)
    weight_decay: _Number = Field(default=5e-4, ge=0)
    nesterov: bool = True
    schedule: Literal["cosine", "step"] = "cosine"
    step_size: _Epochs = 30
    gamma: _Number = Field(default=0.1, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)
    augment: Literal["none", "crop-flip"] = "crop-flip"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels: Literal[1, 3] = 3
    image_size: int | None = Field(default=None, ge=1, le=border.IMAGE)
    evaluate_on: str | None = None
    evaluate_every: _Epochs | None = None
    record_losses: bool = False
    task: str = CLASSIFICATION.name

    @field_validator("task")
    @classmethod
    def _is_task(cls, name: str) -> str:
        return get_task(name).name

    @model_validator(mode="after")
    def _agreeing(self) -> "TrainConfig":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: give one, or set nesterov to false")
        if self.selection is not None and self.reselect is not None:
            raise ValueError("a training run either replays a selection or reselects: give one of the two")
        if self.evaluate_every is not None and self.evaluate_on is None:
            raise ValueError("evaluate_every needs a dataset to measure on: give evaluate_on")
        return self


@dataclass(frozen=True)
class Plan:
    """A configuration with its names resolved."""

    config: TrainConfig
    dataset: Dataset
    selection: Selection | None
    evaluate_on: Dataset | None
    key: str
    draft: "Drafted | None" = None


@dataclass(frozen=True)
class Drafted:
    """What a training run that reselects leaves: everything that names the selection, but for its rounds.

    Attributes:
        name: of the selection.
        k: samples of a choice.
        full: epochs on everything at the beginning.
        target: the dataset whose gradient is matched; None for the training gradient.
        request: what the selection answers.
    """

    name: str
    k: int
    full: int
    target: Dataset | None
    request: Request

    @property
    def key(self) -> str:
        """Of the selection."""
        return self.request.key


def plan(store: Store, config: TrainConfig) -> Plan:
    """Resolve names to contents, and compute the key.

    Raises:
        DatasetNotFound, SelectionNotFound: naming what there is.
        SelectionError: the selection is of another dataset.
    """
    border.check_kind("store", store, Store)
    border.check_kind("config", config, TrainConfig)
    selection = None if config.selection is None else store.selections.get(config.selection)
    dataset = store.datasets.get(config.dataset if selection is None else selection.dataset)
    if split_ref(config.dataset)[0] != dataset.name:
        raise SelectionError(
            f"Selection {config.selection} is of {dataset.ref}, not of {config.dataset}: train on the dataset that it "
            "was made from, or select from the other one."
        )
    judged = None if config.evaluate_on is None else store.datasets.get(config.evaluate_on)
    matched = None if config.reselect is None else config.reselect.target
    target = None if matched is None else store.datasets.get(matched)
    payload: dict[str, Any] = {k: v for k, v in config.model_dump(mode="json").items() if not _is_later(k, v)}
    if config.task != CLASSIFICATION.name:
        payload["task_version"] = get_task(config.task).version
    payload |= {
        "version": VERSION,
        "dataset": dataset.key,
        "selection": None if selection is None else selection.key,
        "evaluate_on": None if judged is None else judged.key,
        "code": model_code(config.model),
        **decoder_key(*((one.image, config.image_size) for one in (dataset, target) if one is not None)),
    }
    if judged is not None:
        payload |= {f"evaluate_{k}": v for k, v in decoder_key((judged.image, config.image_size)).items()}
    drafted = None if config.reselect is None else _drafted(config, config.reselect, dataset, target, payload)
    return Plan(config, dataset, selection, judged, key_of("train", payload), drafted)


def _is_later(name: str, value: Any) -> bool:
    """Whether a field was not there when the first keys were made, and says what was computed then."""
    return name in _LATER and value == TrainConfig.model_fields[name].default


def _drafted(
    config: TrainConfig,
    reselect: Reselect,
    dataset: Dataset,
    target: Dataset | None,
    payload: dict[str, Any],
) -> Drafted:
    """What measures, names and looks does not decide what is chosen, and has no part in the selection's key."""
    k = resolve_budget(reselect.budget, dataset.samples)
    full = 0 if reselect.warm is None else math.ceil(reselect.warm * config.epochs * k / dataset.samples)
    apart = {"dataset", "selection", "reselect", "evaluate_on", "evaluate_every", "record_losses", "evaluate_decoder"}
    training = {name: value for name, value in payload.items() if name not in apart}
    params = reselect.model_dump(mode="json", exclude={"name", "budget", "target"})
    params |= {"k": k, "target": None if target is None else target.key, "training": training}
    request = Request(dataset, GRADMATCH.name, GRADMATCH.version, params, seed=config.seed)
    name = check_name(reselect.name or f"{dataset.name}-{GRADMATCH.name}", "selection")
    return Drafted(name, k, full, target, request)


def model_code(name: str) -> str | None:
    """sha256 of the source file of a user's own model ("module:function"); None for models that come with tamis.

    The file is found without running it. A module that cannot be found is refused later, by `build_model`.
    """
    found = source(name) if ":" in name else None
    return None if found is None else hashlib.sha256(found.read_bytes()).hexdigest()
