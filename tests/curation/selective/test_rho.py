"""RHO-LOSS: a case by hand, ties, and what is no number."""

import numpy as np
import pytest

from tamis.curation import CurationError
from tamis.curation.selective.rho import select_reducible


def test_by_hand() -> None:
    """Learnt, noisy (both models get it wrong), and worth learning: the third kind comes first."""
    losses, irreducible = [0.1, 4.0, 3.0, 1.0], [0.1, 4.2, 0.5, 0.2]
    assert select_reducible(losses, irreducible, count=2).tolist() == [2, 3]
    assert select_reducible(losses, irreducible, count=4).tolist() == [2, 3, 0, 1]


def test_ties_go_by_position() -> None:
    assert select_reducible([2.0, 1.0, 2.0, 2.0], [1.0, 0.0, 1.0, 1.0], count=3).tolist() == [0, 1, 2]


def test_what_is_no_number_is_never_selected() -> None:
    losses = [np.nan, 1.0, np.inf, 3.0, 2.0]
    assert select_reducible(losses, [0.0, 0.0, 0.0, np.nan, 0.0], count=5).tolist() == [4, 1]


def test_refuses() -> None:
    with pytest.raises(CurationError, match="at least 1"):
        select_reducible([1.0], [1.0], count=0)
    with pytest.raises(CurationError, match="one of each"):
        select_reducible([1.0], [1.0, 2.0], count=1)
