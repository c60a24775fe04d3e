"""EL2N: the mean over seeds ranks."""

import numpy as np
import pytest

from tamis.curation import BudgetError, Inputs
from tamis.curation.el2n import select_el2n


def test_by_the_mean_over_runs() -> None:
    """Means 1, .75, .75, 1.25; the last has no score in one run."""
    scores_MN = np.array([[1.5, 0.5, 1.0, 1.0, 9.0], [0.5, 1.0, 0.5, 1.5, np.nan]])
    for k in range(1, 5):
        choice = select_el2n(Inputs(5, scores_MN=scores_MN), k=k, generator=np.random.default_rng(0))
        assert (choice.samples.tolist(), choice.excluded) == ([3, 0, 1, 2][:k], 1)
        assert choice.scores is not None
        assert choice.scores.tolist() == [1.25, 1.0, 0.75, 0.75][:k]
    with pytest.raises(BudgetError, match="only 4 candidates have finite scores"):
        select_el2n(Inputs(5, scores_MN=scores_MN), k=5, generator=np.random.default_rng(0))
