"""A scoring pass as an epoch of loss history.

What: the losses that a trained model gave in a pass over a dataset, and whether it was right, in the table `losses`,
where `tamis select losses` and `tamis history` find them beside those of training runs.
How: the scoring run is the run, and the epoch the last of the training run: its weights computed them.
When: at the end of the flow `score`, where it was asked for. Safe to repeat.
Cost: reading two columns of the run's scores, and one commit.
"""

import numpy as np

from tamis.store import Store


def recorded(store: Store, run: str) -> bool:
    """Whether a run has losses."""
    return run in store.runs.with_losses()


def record_losses(store: Store, run: str) -> None:
    """Keep the losses of a finished scoring run, unless they are there.

    Args:
        store: the store.
        run: key of a scoring run by `tamis.training.signals.scorers.UNCERTAINTY`.

    Raises:
        RunNotFound: it has no losses, as where the dataset has no labels.
    """
    if recorded(store, run):
        return
    scored = store.runs.get(run)
    count = store.datasets.get(scored.dataset).samples
    losses_N, correct_N = (store.runs.scores(run, metric, count) for metric in ("loss", "correct"))
    trained = scored.config.get("model_run")
    epoch = max(0, int(store.runs.get(trained).config.get("epochs", 1)) - 1) if trained else 0
    right_N = np.ma.masked_array(correct_N == 1, ~np.isfinite(correct_N))
    store.runs.put_losses(run, epoch, np.arange(count), losses_N, epoch, correct=right_N)
