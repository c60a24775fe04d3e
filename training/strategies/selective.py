"""Selective-Backprop: a backward pass for samples of high loss alone, by chance.

What: each batch gets a forward pass. Its losses enter the history of the last R together; then each sample is chosen
with the probability F(share), share being the part of the history that its loss is at least as large as. Chosen
samples are trained on in full batches, unweighted.
When: datasets with many easy samples. Each epoch costs a forward pass over all of it and full training on what is
chosen: with a third chosen about two thirds of the time.
How: F = share ** beta, and on losses of one distribution 1 / (beta + 1) of the samples are chosen: `selectivity` s
stands for beta = 1/s - 1. `priority` puts any other F in its place (AdaptSB).
Departures: the authors' code compares strictly (`strict`), and its queue spans epochs; an epoch's rest is trained on
here as a smaller batch, so that an epoch's choice is an epoch's round. Everything is trained on in epoch 0, as theirs.
Source: A. Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019; A. Jiang, thesis, 2021,
equation 3.1, algorithm 1, sections 3.3 to 3.5.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tamis.curation.errors import CurationError
from tamis.curation.selective.drawing import draw
from tamis.curation.selective.history import LossHistory
from tamis.curation.selective.priority import Priority
from tamis.store.keys import canonical
from tamis.training import border
from tamis.training.strategies.loss_based import Floats, LossBased, PassParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import InLoop, Plan
    from tamis.training.loop import At

_HISTORY = 2**24


class SelectiveParameters(PassParameters):
    """Parameters of Selective-Backprop.

    Attributes:
        pool: samples of a selection pass; default: the batch size.
        selectivity: share of the samples that gets a backward pass, about; sets beta to 1/selectivity - 1.
        beta: exponent of the share; default: 2, or what selectivity says.
        history: the number of last losses that a loss is held against (R).
        strict: count losses below a sample's own only, as the authors' code does.
        priority: the function from share to probability, in place of beta (AdaptSB): the name or name@version of one in
            the store (tamis priority ls), or JSON.
    """

    name: str = "selective-backprop"
    pool: Annotated[int, Field(ge=1, le=border.BATCH)] | None = None
    selectivity: Annotated[float, Field(gt=0, le=1)] | None = None
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    history: int = Field(default=1024, ge=1, le=_HISTORY)
    strict: bool = False
    priority: str | None = None

    @model_validator(mode="after")
    def _one_function(self) -> "SelectiveParameters":
        given = [name for name in ("selectivity", "beta", "priority") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} say the same thing twice: give one of them")
        try:
            if not self.names_priority:
                self.function()
        except (CurationError, json.JSONDecodeError) as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def names_priority(self) -> bool:
        """Whether F is given by name, which `SelectiveBackprop.resolved` puts the function itself in place of."""
        return self.priority is not None and not self.priority.lstrip().startswith("{")

    def function(self) -> Priority:
        """F, from share to probability."""
        if self.priority is not None:
            return Priority.from_json(json.loads(self.priority))
        if self.selectivity is not None:
            return Priority.selecting(self.selectivity)
        return Priority.power(2.0 if self.beta is None else self.beta)


class SelectiveBackprop(LossBased):
    """Chooses from each batch by the losses that it has now."""

    name = "selective-backprop"
    Parameters = SelectiveParameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        self.reads = self.asked.pool
        self._history, self._function = LossHistory(self.asked.history), self.asked.function()

    @classmethod
    def resolved(cls, store: "Store", dataset: "Dataset", asked: "InLoop") -> "InLoop":
        """With the function itself, in one form: the key covers what F is, not its name or how it is written."""
        assert isinstance(asked, SelectiveParameters)
        if asked.priority is None:
            return asked
        given = store.priorities.get(asked.priority).function if asked.names_priority else json.loads(asked.priority)
        return asked.model_copy(update={"priority": canonical(Priority.from_json(given).to_json())})

    def weigh(
        self, at: "At", samples_B: NDArray[np.int64], losses_B: Floats, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        shares_B = self._history.enter(losses_B, strict=self.asked.strict)
        probability_B = self._function(shares_B)
        return draw(probability_B, generator).astype(np.float32), probability_B

    def trained(self, samples_B: NDArray[np.int64], losses_B: Floats, right_B: "torch.Tensor | None") -> None:
        super().trained(samples_B, losses_B, right_B)
        self._history.add(losses_B)

    def state_dict(self) -> dict[str, Any]:
        import torch

        return super().state_dict() | {"history": torch.from_numpy(self._history.state())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._history = LossHistory(self.asked.history)
        self._history.restore(state["history"].numpy())
