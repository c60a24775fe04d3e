"""A candidate under way, kept in the store between epochs: one that was killed goes on where it was.

What: `Going` is where fine-tuning stands, `Saved` keeps it with the weights and the optimizer's state.
How: all randomness is a function of (seed, epoch, position), so what goes on from an epoch's end takes the same steps
as what was never stopped, to the bit on a CPU. A checkpoint is that of a candidate's key, which everything that decides
its weights is part of; a damaged one, or one of other layers, is left aside and training starts again.
Cost: after an epoch, if the last checkpoint is `every` seconds old, one write of twice the weights and the optimizer's
state; short candidates write none. At most those seconds and an epoch are lost.
"""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tamis.store.roots.roots import Root
from tamis.training.errors import CheckpointError
from tamis.training.models.weights import pack_checkpoint, unpack_checkpoint

EVERY = 10.0  # s


@dataclass
class Going:
    """Where fine-tuning stands, at the end of an epoch.

    Attributes:
        epoch, steps: that are behind it.
        loss: the lowest on the validation part.
        best: epoch that had it, from 1.
        kept: weights of that epoch.
        history: see `tamis.training.mainstream.trainer.candidates.Tuned`.
        seconds: that it took, earlier tries included.
    """

    epoch: int = 0
    steps: int = 0
    loss: float = float("inf")
    best: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    history: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    seconds: float = 0.0


class Saved:
    """The checkpoint of one candidate.

    Args:
        root: of the store.
        key: of the candidate.
        every: seconds from one checkpoint to the next, at least; None: `EVERY`.
    """

    def __init__(self, root: Root, key: str, *, every: float | None = None) -> None:
        self._root, self._key, self._name = root, key, f"checkpoints/{key}/candidate.pt"
        self._every = EVERY if every is None else every
        self._since = perf_counter()

    def resume(self, rest: nn.Module, optimizer: Optimizer) -> Going:
        """Go on from the checkpoint, or begin where there is none that fits."""
        data = self._root.get(self._name)
        if data is None:
            return Going()
        before = {name: one.clone() for name, one in rest.state_dict().items()}
        try:
            content = unpack_checkpoint(data)
            if content["candidate"] != self._key:
                raise CheckpointError(f"it belongs to candidate {content['candidate']}")
            going = Going(**content["going"])
            _check(going.kept, before)
            rest.load_state_dict(content["rest"])
            optimizer.load_state_dict(content["optimizer"])
        except (CheckpointError, KeyError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError):
            rest.load_state_dict(before)
            return Going()
        return going

    def save(self, rest: nn.Module, optimizer: Optimizer, going: Going) -> None:
        """Write a checkpoint, where it is time for one."""
        if perf_counter() - self._since < self._every:
            return
        content: dict[str, Any] = {
            "candidate": self._key, "going": asdict(going), "rest": rest.state_dict(),
            "optimizer": optimizer.state_dict(),
        }  # fmt: skip
        self._root.put(self._name, pack_checkpoint(content))
        self._since = perf_counter()

    def forget(self) -> None:
        """Remove it, when the candidate is finished."""
        self._root.delete(self._name)


def _check(kept: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    if {name: one.shape for name, one in kept.items()} != {name: one.shape for name, one in own.items()}:
        raise CheckpointError("it has the weights of other layers")
