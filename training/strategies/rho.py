"""RHO-LOSS: of a large batch, the samples that are learnable, worth learning, and not yet learnt.

What: each large batch gets a forward pass in evaluation mode. The `share` of it with the largest reducible loss is
trained on: the loss now, less the loss under a model that was trained on held-out data (the irreducible loss).
When: noisy or redundant data of which a part can be held out. The irreducible losses are scores like others, computed
once: `tamis score uncertainty --model-run HOLDOUT_RUN --dataset D`.
How: ties go to the first of a batch; a step is on what is kept of one large batch.
Trust: the model must not have seen the data that is chosen from: samples in common with its own data are refused.
Source: S. Mindermann et al., "Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt",
ICML 2022, arXiv:2206.07137, algorithm 1, equation 3 (n_b / n_B = .1).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tamis.curation.selective.rho import select_reducible
from tamis.store.datasets.overlap import samples_in_common
from tamis.training import border
from tamis.training.config import InLoop
from tamis.training.errors import StrategyError
from tamis.training.signals.alike import alike
from tamis.training.strategies.loss_based import Floats, LossBased, PassParameters

if TYPE_CHECKING:
    import torch

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.config import Plan
    from tamis.training.loop import At


class RhoParameters(PassParameters):
    """Parameters of RHO-LOSS.

    Attributes:
        irreducible: scoring run of the dataset by a model that was trained on held-out data.
        chosen: share of a large batch that is trained on (n_b / n_B).
    """

    name: str = "rho-loss"
    start: int = Field(default=0, ge=0, le=border.EPOCHS)
    irreducible: str
    chosen: float = Field(default=0.1, gt=0, le=1)


class RhoLoss(LossBased):
    """Chooses by reducible loss."""

    name = "rho-loss"
    fills = False
    Parameters = RhoParameters

    def __init__(self, store: "Store", plan: "Plan", device: "torch.device") -> None:
        super().__init__(store, plan, device)
        self.reads = min(border.BATCH, round(plan.config.batch_size / self.asked.chosen))
        self._irreducible_N = store.runs.scores(self.asked.irreducible, "loss", self.n)

    @classmethod
    def resolved(cls, store: "Store", dataset: "Dataset", asked: InLoop) -> InLoop:
        assert isinstance(asked, RhoParameters)
        run = store.runs.get(asked.irreducible)
        if run.kind != "score" or run.dataset not in alike(store, dataset):
            raise StrategyError(
                f"Strategy rho-loss: run {run.key[:12]} is a {run.kind} of {run.dataset}; expected a scoring of "
                f"{dataset.ref} by a model that was trained on held-out data."
            )
        trained = run.config.get("model_run")
        seen = None if trained is None else store.runs.get(trained).dataset
        shared = 0 if seen is None else samples_in_common(dataset, store.datasets.get(seen))
        if shared:
            raise StrategyError(
                f"Strategy rho-loss: the model behind run {run.key[:12]} was trained on {seen}, which has {shared} "
                f"samples of {dataset.ref}: train it on data that is held out (tamis dataset split)."
            )
        return asked.model_copy(update={"irreducible": run.key})

    def weigh(
        self, at: "At", samples_B: NDArray[np.int64], losses_B: Floats, generator: np.random.Generator
    ) -> tuple[NDArray[np.floating], None]:
        weights_B = np.zeros(len(samples_B), np.float32)
        count = max(1, round(self.asked.chosen * len(samples_B)))
        weights_B[select_reducible(losses_B, self._irreducible_N[samples_B], count=count)] = 1
        return weights_B, None
