"""What is asked of a method: everything that a selection is computed from, and so its key.

Two requests with the same key have the same answer: the store answers the second one without computing. What does not
change the answer (device, memory, workers, names, paths) is no part of a request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.keys import key_of


@dataclass(frozen=True)
class Request:
    """One question to a method.

    Attributes:
        dataset: the version that is chosen from.
        method: the method's name.
        version: the method's version.
        params: the method's parameters with their defaults, plain JSON.
        inputs: keys of what it is computed from (runs), in order.
        seed: of the method's generator.

    Raises:
        SelectionError: a seed that the store cannot keep.
    """

    dataset: Dataset
    method: str
    version: int
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    inputs: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not -(2**63) <= self.seed < 2**63:
            raise SelectionError(f"The seed is {self.seed}: expected -2^63 to 2^63 - 1, which is what the store keeps.")

    @cached_property
    def key(self) -> str:
        """32 hex characters over all of it.

        Raises:
            NotJSON: naming the parameter that is not plain JSON.
        """
        payload = {
            "dataset": self.dataset.key, "method": self.method, "version": self.version, "params": dict(self.params),
            "inputs": list(self.inputs), "seed": self.seed,
        }  # fmt: skip
        return key_of("selection", payload)
