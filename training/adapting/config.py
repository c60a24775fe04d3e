"""What a search for a prioritisation function is asked: `AdaptConfig`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tamis.training import border
from tamis.training.config import TrainConfig

FormName = Literal["linear", "cubic", "beta", "steps"]
SamplerName = Literal["gp", "random", "hyperband"]
STRATEGIES = ("selective-backprop", "stale-sb")  # that take a function
_FIXED = ("priority", "beta", "selectivity")  # parameters that the search finds
_TRIALS = 100_000


class AdaptOptions(BaseModel):
    """How to search.

    Attributes:
        holdout: what the error is measured on: a dataset that shares no sample with the training data, or a share of
            the training data, such as 10%, that is split off and not trained on. Never the set that you report on.
        trials: number of functions to try.
        budget_epochs: budget of each trial: epochs.
        budget_seconds: budget of each trial: seconds of training, evaluations apart; the learning rate falls over the
            epochs.
        budget_backprops: budget of each trial: samples trained on, to the end of the epoch; the learning rate falls
            over the budget.
        form: form of the function: lines or a cubic through the shares 0, .5, .8 and 1, a beta density, or ten steps.
        sampler: what proposes functions: gp, a Gaussian process; random; hyperband, random with Hyperband ending trials
            early. gp and hyperband need Optuna (pip install 'tamis[search]').
        startup: random trials before the Gaussian process proposes.
        parallel: trials that are proposed together, from the results of those before: as many can run at a time.
        normalise: divide each function by its maximum, so that the most wanted samples are always selected.
        levels: move each value to the nearest of so many levels between 0 and 1; default: any value.
        monotone: only functions that do not fall as the loss rises.
        name: name of the function found; default: the dataset's name and adaptsb.
        patience: seconds after which a trial that another machine began, whose processes cannot be seen, is taken over.
        segments: search again at the beginning of each of so many parts of a training run (AdaptSB-Multi).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holdout: str = "10%"
    trials: int = Field(default=20, ge=1, le=_TRIALS)
    budget_epochs: Annotated[int, Field(ge=1, le=border.EPOCHS)] | None = None
    budget_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    budget_backprops: Annotated[int, Field(ge=1)] | None = None
    form: FormName = "linear"
    sampler: SamplerName = "gp"
    startup: int = Field(default=10, ge=1, le=_TRIALS)
    parallel: int = Field(default=1, ge=1, le=1024)
    normalise: bool = False
    levels: Annotated[int, Field(ge=2, le=1024)] | None = None
    monotone: bool = False
    name: str | None = None
    patience: float = Field(default=21_600.0, gt=0, allow_inf_nan=False)
    segments: int = Field(default=1, ge=1, le=100)


class AdaptConfig(AdaptOptions):
    """A search: how to search, and what the trials train.

    Attributes:
        train: dataset, model and recipe; its strategy may be selective-backprop or stale-sb with its parameters, but
            for the function.
    """

    train: TrainConfig

    @model_validator(mode="after")
    def _one_budget(self) -> "AdaptConfig":
        given = [name for name in ("budget_epochs", "budget_seconds", "budget_backprops") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                "a trial has one budget: give one of budget_epochs, budget_seconds and budget_backprops"
                f"{', not ' + ' and '.join(given) if given else ''}"
            )
        if self.sampler == "hyperband" and self.budget_epochs is None:
            raise ValueError("hyperband ends trials after some of their epochs: give the budget as budget_epochs")
        if self.segments > 1 and self.budget_backprops is not None:
            raise ValueError("segments are parts of a schedule of epochs: give budget_epochs or budget_seconds")
        return self

    @model_validator(mode="after")
    def _searched(self) -> "AdaptConfig":
        train = self.train
        if train.selection is not None or train.reselect is not None:
            raise ValueError("trials choose by losses: leave selection and reselect out")
        if train.keep_model == "best" or train.stop_after is not None:
            raise ValueError(
                "trials keep their last model, whose errors are averaged, and have the budget of the search: leave "
                "keep_model and stop_after out"
            )
        if train.evaluate_on is not None and self.segments == 1:
            raise ValueError(
                "trials are evaluated on the holdout: leave evaluate_on out, and evaluate a training run with the "
                "function that was found"
            )
        if train.task != "classification":
            raise ValueError(f"the search minimises the error of classification, and the task is {train.task}")
        if train.strategy is not None:
            given = [name for name in _FIXED if train.strategy.model_dump().get(name) is not None]
            if train.strategy.name not in STRATEGIES or given:
                raise ValueError(
                    f"the strategy of a search is {' or '.join(STRATEGIES)}, without {', '.join(_FIXED)}: they are "
                    "what is searched for"
                )
        if self.segments > train.epochs:
            raise ValueError(f"{self.segments} segments of {train.epochs} epochs: give each at least one epoch")
        return self
