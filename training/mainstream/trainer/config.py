"""What a package is built of: `PackageConfig`.

How "decay" is read: the thesis trains with "the Adam optimizer, a learning rate of 0.0001 and a decay of 0.5"
(section 5.3.2). In the authors' code that is the argument `decay` of Keras' optimizers, so the rate of step t is
lr / (1 + decay t), t counting updates: `decay_by` "steps". After an epoch of 100 updates it is a fiftieth, which ends
learning before early stopping can. By default t counts epochs here; decay 0 keeps the rate as it is.
Keys: what decides a candidate's weights and figures enters its key (`CANDIDATE`); names, events, the choice of
branchpoints and the limit of the disk do not, so another choice of them finds the candidates that are there.
Cost: none; torch is not loaded.
"""

from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tamis.store.keys import check_name
from tamis.training import border
from tamis.training.config import WEIGHTS

_Number = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[_Number, Field(gt=0, lt=1)]
_Part = Annotated[_Number, Field(ge=0, le=1)]
_Seconds = Annotated[_Number, Field(gt=0)]
DIGEST = "sha256:"
# What decides the weights or the figures of a candidate, beside the contents of data and base.
CANDIDATE = frozenset(
    {
        "holdout", "validation", "block", "optimizer", "lr", "decay", "decay_by", "weight_decay", "epochs",
        "patience", "batch_size", "seed",
    }
)  # fmt: skip


class PackageConfig(BaseModel):
    """What to build, of what, and how.

    The command line's options are these fields with these defaults and texts (`tamis.flows.cli.fields`).

    Attributes:
        name: of the package.
        dataset: images with class numbers, or frames of videos with them: name or name@version.
        base: the base model, by name: efficientnet-lite0, mobilenet_v2, resnet18, ..., or your own as module:function.
        event: the class that is the event, by its name or number; the other classes are no event.
        weights: what the base was trained to, a state dict as .safetensors, .pth or .pt; or "sha256:" and the digest of
            one, to name a base that is in the store.
        base_run: what the base was trained to: a finished training run, by its key or the beginning of it.
        mean, std: of the pixels that weights were trained on, scaled to 0..1, a number a channel; default: those of the
            model's family.
        selection: train on this selection of the dataset: name, name@version or key; of several rounds the last one.
        evaluate_on: dataset that candidates are measured on, as name or name@version; default: a share is held out.
        holdout: share of the dataset that is held out to measure on, where evaluate_on is not given.
        validation: share of the training samples that is not trained on and decides when to stop.
        block: seconds of video that stay together when frames are held out: neighbouring frames are nearly alike.
        image_size: resize and crop images to this many pixels; default: keep their size.
        fit: how images become squares of image_size: crop (the shorter side is scaled, and the centre cut out); stretch
            or pad keep all of a picture, for events at its sides. Packages of one base share layers where they fit
            alike.
        channels: read images as RGB (3) or grayscale (1).
        branchpoints: where candidates branch off: all, a number of them (spread evenly), or their numbers or names with
            commas, as in 0,4,8.
        optimizer: optimizer.
        lr: initial learning rate.
        decay: of the learning rate, which is lr / (1 + decay t).
        decay_by: what t counts: epochs; or steps, as Keras does.
        weight_decay: weight decay.
        epochs: most epochs of a candidate.
        patience: epochs without a lower validation loss after which a candidate's training stops.
        batch_size: batch size.
        seed: of weights, order, dropout and the parts of the data.
        average: mean length of events, in seconds; default: measured on the dataset's time line.
        minimum: length of the shortest event that is to be detected, in seconds; default: measured.
        frequency: share of time inside events; default: measured.
        correlation: of misses in consecutive frames, 0 to 1; default: measured on held-out video.
        smooth: events shorter than this many seconds, and gaps between two, are taken for flicker of the labels.
        cache_gb: gigabytes of disk that cached features may take; what does not fit is computed as it is needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dataset: str
    base: str
    event: str
    weights: str | None = None
    base_run: str | None = None
    mean: tuple[_Number, ...] | None = None
    std: tuple[Annotated[_Number, Field(gt=0)], ...] | None = None
    selection: str | None = None
    evaluate_on: str | None = None
    holdout: _Share = 0.25
    validation: _Share = 0.15
    block: _Seconds = 2.0
    image_size: int | None = Field(default=None, ge=1, le=border.IMAGE)
    fit: Literal["crop", "stretch", "pad"] = "crop"
    channels: Literal[1, 3] = 3
    branchpoints: str = "all"
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: _Number = Field(default=1e-4, gt=0)
    decay: _Number = Field(default=0.5, ge=0)
    decay_by: Literal["epochs", "steps"] = "epochs"
    weight_decay: _Number = Field(default=0.0, ge=0)
    epochs: int = Field(default=40, ge=1, le=border.EPOCHS)
    patience: int = Field(default=3, ge=1, le=border.EPOCHS)
    batch_size: int = Field(default=32, ge=1, le=border.BATCH)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)
    average: _Seconds | None = None
    minimum: _Seconds | None = None
    frequency: Annotated[_Number, Field(gt=0, le=1)] | None = None
    correlation: _Part | None = None
    smooth: _Number = Field(default=0.0, ge=0)
    cache_gb: _Number = Field(default=8.0, ge=0)

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return check_name(name, "package")

    @field_validator("weights")
    @classmethod
    def _is_file(cls, weights: str | None) -> str | None:
        if weights is not None and not weights.startswith(DIGEST) and PurePath(weights).suffix not in WEIGHTS:
            raise ValueError(f"weights is {weights}: expected a file ending in {', '.join(WEIGHTS)}")
        return weights

    @field_validator("branchpoints")
    @classmethod
    def _some(cls, text: str) -> str:
        if not all(part.strip() for part in text.split(",")):
            raise ValueError(f"branchpoints is {text!r}: expected all, a number of them, or numbers or names, as 0,4,8")
        return text

    @model_validator(mode="after")
    def _agreeing(self) -> "PackageConfig":
        if (self.weights is None) == (self.base_run is None):
            raise ValueError(
                "a base is trained already: give its weights, or the training run that it comes from as base_run"
            )
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together: give both, or neither")
        if self.mean is not None and not len(self.mean) == len(self.std or ()) == self.channels:
            raise ValueError(f"mean and std have a number for each of {self.channels} channels")
        if self.fit != "crop" and self.image_size is None:
            raise ValueError(f"fit {self.fit} makes squares of a size: give image_size")
        if self.average is not None and self.minimum is not None and self.minimum > self.average:
            raise ValueError(f"the shortest event, {self.minimum} s, is longer than the mean, {self.average} s")
        return self

    def recorded(self) -> dict[str, Any]:
        """What a package says of it. What came later is there where it is not what it was before."""
        return self.model_dump(mode="json", exclude={"fit"} if self.fit == "crop" else None)

    def deciding(self) -> dict[str, Any]:
        """The fields that enter the keys of candidates."""
        apart = {"holdout"} if self.evaluate_on is not None else set[str]()
        return {name: value for name, value in self.model_dump(mode="json").items() if name in CANDIDATE - apart}
