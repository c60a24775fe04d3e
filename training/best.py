"""The best model of a training run so far, beside its checkpoint.

What: `Best` is offered the model after each evaluation and keeps the one with the highest accuracy (of detectors, mean
average precision), or the lowest loss where the task has neither; of equals the first. A measure that is not finite is
never the best.
How: the packed model is written under a name of its own (`best-STEPS.safetensors`) before the checkpoint that counts on
it; older ones are removed after that. So wherever a run is killed, the checkpoint that it goes on from has its model.
Cost: a copy of the weights in memory and one in the store, written whenever an evaluation was the best.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

from tamis.store.roots.roots import Root
from tamis.training.errors import CheckpointError


class Best:
    """The best model so far.

    Args:
        root: of the store; None keeps the model in memory alone.
        folder: of the run's checkpoint, in the store.

    Attributes:
        at: "epoch" and "step" of the evaluation; empty before there was one.
        judged: what it came to.
        model: packed; None before there was an evaluation.
    """

    def __init__(self, root: Root | None, folder: str) -> None:
        self._root, self._folder = root, folder
        self.at, self.judged = dict[str, float](), dict[str, float]()
        self.model: bytes | None = None

    def offer(self, judged: Mapping[str, float], at: Mapping[str, float], pack: Callable[[], bytes]) -> bool:
        """Keep a model if it is better; whether it was kept.

        Args:
            judged: its evaluation: "accuracy" or "map", or else "loss".
            at: "epoch" and "step" of the evaluation.
            pack: the model as bytes; called where it is kept.
        """
        score = _score(judged)
        if not math.isfinite(score) or (self.model is not None and score <= _score(self.judged)):
            return False
        self.at, self.judged, self.model = dict(at), dict(judged), pack()
        if self._root is not None:
            self._root.put(self._name(self.at), self.model)
        return True

    def tidy(self) -> None:
        """Remove the models that no checkpoint counts on any more: call it when one was written."""
        if self._root is not None:
            for name in self._written():
                if name != self._name(self.at):
                    self._root.delete(name)

    def forget(self) -> None:
        """Remove all models, when the run is finished."""
        if self._root is not None:
            for name in self._written():
                self._root.delete(name)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; {} before there was an evaluation."""
        if self.model is None:
            return {}
        return {"at": self.at, "judged": self.judged, "digest": hashlib.sha256(self.model).hexdigest()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: the model that it counts on is gone, or damaged.
        """
        if not state:
            return
        assert self._root is not None
        name = self._name(state["at"])
        model = self._root.get(name)
        if model is None or hashlib.sha256(model).hexdigest() != state["digest"]:
            raise CheckpointError(f"the best model so far, {name}, is {'gone' if model is None else 'damaged'}")
        self.at, self.judged, self.model = state["at"], state["judged"], model

    def _name(self, at: Mapping[str, float]) -> str:
        return f"{self._folder}/best-{int(at['step']) if at else 0}.safetensors"

    def _written(self) -> list[str]:
        return [name for name, _ in self._root.list(self._folder) if "/best-" in name] if self._root else []


def _score(judged: Mapping[str, float]) -> float:
    """How good a model is: more is better."""
    for name in ("accuracy", "map"):
        if name in judged:
            return judged[name]
    return -judged.get("loss", math.nan)
