"""What flows take and give: frozen, validated before any work starts, plain JSON on the wire."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tamis.store.datasets import AUTO, Added
from tamis.store.runs import Run
from tamis.store.shards.skipped import Skipped
from tamis.training.job import TrainConfig
from tamis.training.signals.scorers import UNCERTAINTY


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Frozen):
    """What a flow may use. Never part of a key: the answer does not depend on it.

    Attributes:
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
        workers: tasks at once, on threads. PyTorch uses all cores for each, so 1 is right on one machine.
        batch_size: samples a forward pass when scoring.
    """

    device: str = "auto"
    workers: int = Field(default=1, ge=1)
    batch_size: int = Field(default=256, ge=1)


class IndexConfig(_Frozen):
    """Shards to index; the fields are those of `tamis.store.datasets.Datasets.add`."""

    name: str
    shards: tuple[str, ...]
    image: str = AUTO
    label: str | None = AUTO
    classes: tuple[str, ...] = ()
    digests: bool = True
    append: bool = False


class IndexResult(_Frozen):
    """What indexing came to: name@version, what was skipped and why, and what changed of shards that were there."""

    dataset: str
    skipped: tuple[Skipped, ...] = ()
    moved: int = 0
    renamed: bool = False

    @classmethod
    def of(cls, added: Added) -> "IndexResult":
        return cls(dataset=added.dataset.ref, skipped=added.skipped, moved=added.moved, renamed=added.renamed)


class ScoreConfig(_Frozen):
    """Which models score a dataset.

    Attributes:
        dataset: "name" or "name@version".
        proxies: models to train first (a run that is there already is taken as it is).
        runs: keys of finished training runs.
        scorer: a name in `tamis.training.signals.scorers.SCORERS`, or your own as "module:function".
        losses: also keep what a model's pass says of loss and correctness as an epoch of the table `losses`.
    """

    dataset: str
    proxies: tuple[TrainConfig, ...] = ()
    runs: tuple[str, ...] = ()
    scorer: str = UNCERTAINTY.name
    losses: bool = False

    @model_validator(mode="after")
    def _some_model(self) -> "ScoreConfig":
        if not self.proxies and not self.runs:
            raise ValueError("no model to score with: give proxies to train, or keys of training runs")
        return self


class FeaturesConfig(_Frozen):
    """Which layer of which model makes vectors of a dataset's samples.

    Attributes:
        dataset: "name" or "name@version".
        run: key of the finished training run whose model it is.
        layer: a name of the network's `named_modules()`, or "penultimate": what enters its last linear layer.
        dtype: of the numbers that are kept.
    """

    dataset: str
    run: str
    layer: str = "penultimate"
    dtype: Literal["float16", "float32"] = "float32"


class DetectConfig(_Frozen):
    """Which detector looks at which frames.

    Attributes:
        dataset: "name" or "name@version".
        model: a detector of one's own, "module:function", or the key of a training run.
        weights: file that an own detector is given.
        classes: names of its classes by number; none: those that it declares.
        selection: look only at the samples of this selection: name, name@version or key.
        epoch: of the selection, the round in force in this epoch.
        scale: frames are made smaller by this factor before the detector looks at them.
    """

    dataset: str
    model: str
    weights: str | None = None
    classes: tuple[str, ...] = ()
    selection: str | None = None
    epoch: int = Field(default=0, ge=0)
    scale: float = Field(default=1, gt=0, le=1)


class ScoreResult(_Frozen):
    """One model's scores, or features, of a dataset."""

    run: str
    dataset: str
    model: str | None
    model_run: str | None
    cached: bool
    parts_computed: int
    parts: int
    confirmed: bool | None
    metrics: dict[str, Any]
    seconds: dict[str, float]

    @classmethod
    def of(
        cls, run: Run, *, model_run: str | None, cached: bool, parts: Sequence[int], confirmed: bool | None = None
    ) -> "ScoreResult":
        return cls(
            run=run.key,
            dataset=run.dataset,
            model=run.model,
            model_run=model_run,
            cached=cached,
            parts_computed=parts[0],
            parts=parts[1],
            confirmed=confirmed,
            metrics=run.metrics,
            seconds=run.seconds,
        )
