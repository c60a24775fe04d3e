"""What to train: `TrainConfig` says it in full, a `Plan` is that with names resolved (`tamis.training.planning`)."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from tamis.curation.methods import METHODS
from tamis.curation.parameters import parameters, recorded
from tamis.store.datasets import Dataset
from tamis.store.selections import Request, Selection
from tamis.training import border
from tamis.training.models.detectors.names import SHOWN, is_detector
from tamis.training.tasks import CLASSIFICATION, get_task

GRADMATCH = METHODS["gradmatch"]
WEIGHTS = (".safetensors", ".pth", ".pt")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
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


class InLoop(BaseModel):
    """A strategy that chooses as the training run goes; each has a subclass with its own parameters.

    Attributes:
        name: of the strategy, in `tamis.training.strategies.STRATEGIES`.
        leaves: name of the selection that the run leaves; default: the dataset's name and the strategy's.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: str
    leaves: str | None = None


class Span(BaseModel):
    """A budget of backprops, and where in a schedule a run begins, for one that is a segment of a longer one.

    Attributes:
        backprops: stop after the epoch in which so many samples were trained on.
        begins: what the schedule has behind it when the run begins, in what it counts (epochs).
        whole: what the schedule goes over; None: the run's epochs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backprops: Annotated[int, Field(ge=1)] | None = None
    begins: _Number = Field(default=0, ge=0)
    whole: _Number | None = Field(default=None, gt=0)


class Distill(BaseModel):
    """Learning from a teacher beside the truth (`tamis.training.distill.losses`).

    Attributes:
        run: the finished training run whose model is the teacher: its key, or the beginning of it.
        alpha: weight of the truth's cross-entropy; that of the teacher's divergence is 1 - alpha.
        temperature: divides the logits of both.
        squared: multiply the divergence by the temperature's square.
        over: priors of a detector whose divergence counts: all, or those that the cross-entropy counts.
        boxes: distil a detector's regression as well.
        cached: keep the teacher's answers in the store, as float16, and read them beside the samples: it is asked once
            for each. Only where nothing moves pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    alpha: _Number = Field(default=0.5, ge=0, le=1)
    temperature: _Number = Field(default=2, gt=0)
    squared: bool = False
    over: Literal["all", "mined"] = "all"
    boxes: bool = False
    cached: bool = False


class TrainConfig(BaseModel):
    """What to train, on what, and how.

    The command line's options are these fields with these defaults and texts (`tamis.flows.cli.fields`).

    Attributes:
        dataset: name or name@version.
        selection: train on this selection of the dataset: name, name@version or key; default: all samples.
        reselect: choose what to train on as the run goes, and leave the choices as a selection.
        strategy: choose by losses as the run goes, and leave the choices as a selection: by name, with its parameters.
        model: a model's name: preact20, preact56, resnet18, ..., or your own as module:function.
        epochs: number of training epochs.
        batch_size: batch size.
        optimizer: optimizer.
        lr: initial learning rate.
        momentum: SGD momentum.
        weight_decay: weight decay.
        nesterov: Nesterov momentum for SGD.
        schedule: learning rate: cosine goes from lr to 0 over the epochs; step multiplies it by gamma every step_size
            epochs, milestones at each of the milestones.
        step_size: epochs between steps of the schedule.
        gamma: factor of a schedule step.
        seed: seed of weights, order, augmentation and dropout.
        augment: augmentation: crop-flip randomly shifts images by up to 4 pixels and mirrors them; zoom-flip, for
            detection, zooms out, cuts out around boxes and mirrors, as SSD does.
        precision: precision of matrix products on a GPU; a CPU always computes in fp32.
        channels: read images as RGB (3) or grayscale (1).
        image_size: resize and crop images to this many pixels; default: keep their size.
        evaluate_on: dataset to evaluate on at the end, as name or name@version.
        evaluate_every: epochs between evaluations during training, for tamis report; default: at the end only, or 1
            with keep_model best.
        record_losses: store every sample's training loss in every epoch (table losses).
        task: classification, regression on the numbers that the dataset was added with, or detection of the boxes of
            truth.
        rate_by: what the schedule counts: epochs, or backprops (samples trained on, over those of the dataset).
        milestones: epochs at which the schedule milestones multiplies the rate by gamma, rising, such as 60,120,160.
        cutout: side in pixels of a square of each image, anywhere, that is filled with the mean color: 16 for
            CIFAR-10, 8 for CIFAR-100, 20 for SVHN; default: none.
        stop_after: stop after this many seconds, counted as in tamis report: reading and selecting included,
            evaluations not. The schedule stays one of epochs or backprops.
        keep_model: which model is kept: last, or best: that of the evaluation with the highest accuracy, or the lowest
            loss where the task has no accuracy.
        select_on: dataset on which keep_model best chooses, as name or name@version; default: that of evaluate_on, on
            which the accuracy is then optimistic.
        init_from: begin with the weights of this finished training run: its key, or the beginning of it.
        span: a budget of backprops, and the part of a schedule that the run is.
        truth: for detection, the runs whose boxes are learnt and judged by, annotations or a detector's, one for each
            dataset: keys, or the beginnings of them.
        truth_score: leave boxes of truth with a lower score out.
        box_weight: weight of the loss of boxes beside that of classes, in SSD's loss (alpha).
        distill: learn from a teacher as well, and how.
        weights: begin with the weights of this file, a state dict as .safetensors, .pth or .pt: of the whole model or
            of its trunk, named as torchvision's; or "sha256:" and the digest of one, to name a run that began with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    dataset: str
    selection: str | None = None
    reselect: Reselect | None = None
    strategy: SerializeAsAny[InLoop] | None = None
    model: str = "preact20"
    epochs: _Epochs = 10
    batch_size: int = Field(default=128, ge=1, le=border.BATCH)
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    lr: _Number = Field(default=0.1, gt=0)
    momentum: _Number = Field(default=0.9, ge=0, lt=1)
    weight_decay: _Number = Field(default=5e-4, ge=0)
    nesterov: bool = True
    schedule: Literal["cosine", "step", "milestones"] = "cosine"
    step_size: _Epochs = 30
    gamma: _Number = Field(default=0.1, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)
    augment: Literal["none", "crop-flip", "zoom-flip"] = "crop-flip"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels: Literal[1, 3] = 3
    image_size: int | None = Field(default=None, ge=1, le=border.IMAGE)
    evaluate_on: str | None = None
    evaluate_every: _Epochs | None = None
    record_losses: bool = False
    task: str = CLASSIFICATION.name
    rate_by: Literal["epochs", "backprops"] = "epochs"
    milestones: Annotated[tuple[_Epochs, ...], Field(min_length=1)] | None = None
    cutout: int | None = Field(default=None, ge=1, le=border.IMAGE)
    stop_after: _Number | None = Field(default=None, gt=0)
    keep_model: Literal["last", "best"] = "last"
    select_on: str | None = None
    init_from: str | None = None
    span: Span | None = None
    truth: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    truth_score: _Number = Field(default=0, ge=0, le=1)
    box_weight: _Number = Field(default=1, ge=0)
    distill: Distill | None = None
    weights: str | None = None

    @field_validator("task")
    @classmethod
    def _is_task(cls, name: str) -> str:
        return get_task(name).name

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if milestones is not None and any(a >= b for a, b in pairwise(milestones)):
            raise ValueError(f"milestones are {', '.join(map(str, milestones))}: expected rising epochs, each once")
        return milestones

    @model_validator(mode="after")
    def _scheduled(self) -> "TrainConfig":
        if (self.schedule == "milestones") != (self.milestones is not None):
            given = "none are given" if self.milestones is None else f"the schedule is {self.schedule}"
            raise ValueError(
                f"schedule milestones and the epochs in milestones belong together, and {given}: give both"
            )
        return self

    @model_validator(mode="after")
    def _detecting(self) -> "TrainConfig":
        detects, is_own = get_task(self.task).in_image, ":" in self.model
        if not is_own and detects != is_detector(self.model):
            what = f"{self.model} is {'no' if detects else 'a'} detector, and the task is {self.task}"
            raise ValueError(f"{what}: for detection give {', '.join(SHOWN)}, or your own; for others, a classifier")
        if detects != (self.truth is not None):
            raise ValueError("detection and truth belong together: give the runs whose boxes are learnt as truth")
        if self.augment == "zoom-flip" and not detects:
            raise ValueError("augment zoom-flip is for detection: give crop-flip or none")
        return self

    @field_validator("weights")
    @classmethod
    def _is_file(cls, weights: str | None) -> str | None:
        if weights is not None and not _DIGEST.match(weights) and PurePath(weights).suffix not in WEIGHTS:
            raise ValueError(f"weights is {weights}: expected a file ending in {', '.join(WEIGHTS)}")
        return weights

    @model_validator(mode="after")
    def _agreeing(self) -> "TrainConfig":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0: give one, or set nesterov to false")
        if self.distill is not None and self.distill.cached and (self.augment != "none" or self.cutout is not None):
            moved = f"augment {self.augment}" if self.augment != "none" else "cutout"
            raise ValueError(
                f"a teacher whose answers are cached has seen images as they are stored, and {moved} changes them: "
                "give augment none and no cutout, or distil without caching"
            )
        if self.weights is not None and self.init_from is not None:
            raise ValueError("weights and init_from both say what to begin with: give one of them")
        asked = [name for name in ("selection", "reselect", "strategy") if getattr(self, name) is not None]
        if len(asked) > 1:
            raise ValueError(
                "a training run either replays a selection, or reselects, or follows a strategy that chooses by "
                f"losses: give one of {' and '.join(asked)}"
            )
        if self.evaluate_every is not None and self.evaluate_on is None and self.select_on is None:
            raise ValueError("evaluate_every needs a dataset to measure on: give evaluate_on")
        if self.keep_model == "best" and self.select_on is None and self.evaluate_on is None:
            raise ValueError("keep_model best needs a dataset to choose on: give select_on, such as a validation part")
        if self.select_on is not None and self.keep_model != "best":
            raise ValueError("select_on is what keep_model best chooses on: give both, or leave select_on out")
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
    select_on: Dataset | None = None
    init: str | None = None  # digest of the model that it begins with
    weights: Path | None = None  # the file that it begins with, where it is here


@dataclass(frozen=True)
class Drafted:
    """What a training run that chooses leaves: everything that names the selection, but for its rounds.

    Attributes:
        name: of the selection.
        request: what the selection answers.
        k: samples of a choice, where they are as many each time.
        full: epochs on everything at the beginning.
        target: the dataset whose gradient is matched; None for the training gradient.
    """

    name: str
    request: Request
    k: int = 0
    full: int = 0
    target: Dataset | None = None

    @property
    def key(self) -> str:
        """Of the selection."""
        return self.request.key
