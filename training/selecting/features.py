"""Features for methods that choose by them: where a selection reads them, and what of them enters its key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """The features of a dataset's samples by one model.

    Attributes:
        key: of the run that computed them; part of the selection's key.
        read: gives them, floats [n, E] in the order of the samples; called only where something is to be computed.
        seconds: what they cost, s.
    """

    key: str
    read: Callable[[], NDArray[np.floating[Any]]]
    seconds: float = 0.0
