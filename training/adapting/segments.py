"""AdaptSB-Multi: a training run in segments, each with a function that was searched for from where it begins.

What: `segment` says what is searched at the beginning of a segment, and what is then trained with the function that was
found. The trials of a segment begin with the weights that the segments before ended with (the snapshot), and so does
the segment; both follow the learning rate of the whole from there.
As in the thesis: searches at 0, 1/3 and 2/3 of the budget (three segments), each from a snapshot of the model.
Not as in the thesis: training waits for each search (there it goes on meanwhile, and its snapshot is stale); a segment
is a run of its own, so the optimizer's momentum and the history of losses begin anew; from the second segment on no
epoch is on everything first; the hold-out, where it is a share, is left out of the training as well, since a model
that had seen it could not be judged on it.
Source: A. Jiang, thesis, 2021, sections 4.2.3 and 4.4.
"""

from typing import Any

from tamis.training.adapting.config import AdaptConfig
from tamis.training.config import InLoop, Span, TrainConfig
from tamis.training.seeds import derive_seed


def segment(config: AdaptConfig, number: int, snapshot: str | None) -> tuple[AdaptConfig, TrainConfig]:
    """What is searched for a segment, and what is then trained, its strategy being without the function.

    Args:
        config: of the whole, from `tamis.training.adapting.search.pinned`.
        number: of the segment, from 0.
        snapshot: run that the segments before ended with; None for the first.
    """
    whole, count = config.train.epochs, config.segments
    begins, ends = (whole * at // count for at in (number, number + 1))
    asked = config.train.strategy
    given: dict[str, Any] = {"name": "selective-backprop"} if asked is None else asked.model_dump()
    changed: dict[str, Any] = {"epochs": ends - begins, "span": Span(begins=begins, whole=whole)}
    if number:
        changed |= {"init_from": snapshot, "weights": None, "seed": derive_seed(config.train.seed, "segment", number)}
        given |= {"start": 0}
    train = config.train.model_copy(update=changed | {"strategy": InLoop(**given)})
    trials = train.model_copy(update={"evaluate_on": None, "evaluate_every": None})
    name = f"{config.name}-{number + 1}of{count}"
    return config.model_copy(update={"train": trials, "name": name, "segments": 1}), train


def with_priority(train: TrainConfig, ref: str) -> TrainConfig:
    """A segment's training run with its function.

    Args:
        train: from `segment`.
        ref: name@version of the function.
    """
    assert train.strategy is not None
    strategy = InLoop(**train.strategy.model_dump() | {"priority": ref})
    return train.model_copy(update={"strategy": strategy})
