"""Ask, find, compute, publish: the one way in which a selection is made.

What: `answer` looks for what was asked in the store; only where it is missing, or asked for by force, it is computed
and published. `publish` keeps what was computed in another way, as by a training run that chooses its own samples.
Cost: an answer that is there reads one head.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.store import Store
from tamis.store.selections import Published, Request, RoundData


@dataclass(frozen=True)
class Computed:
    """The rounds of a selection, and what is kept with them.

    Attributes:
        rounds: what was chosen, by first epoch.
        seconds: what it cost, by part, s: choosing, and the scores and models that it rests on.
        stats: what else is worth knowing, plain JSON.
    """

    rounds: Sequence[RoundData]
    seconds: Mapping[str, float]
    stats: Mapping[str, Any] = field(default_factory=dict[str, Any])


def answer(
    store: Store, request: Request, name: str, compute: Callable[[], Computed], *, force: bool = False
) -> Published:
    """The selection that answers a request, under a name.

    Args:
        store: the store.
        request: what is asked.
        name: of the selection.
        compute: makes the answer where it is not there.
        force: compute where it is there, too, and say whether it comes out the same.
    """
    there = store.selections.find(request, name)
    if there is not None and not force:
        return Published(there, created=False)
    return publish(store, request, name, compute())


def publish(store: Store, request: Request, name: str, computed: Computed) -> Published:
    """Keep what was computed for a request."""
    stats = {**computed.stats, "seconds": dict(computed.seconds)}
    seconds = sum(computed.seconds.values())
    return store.selections.publish(request, name, computed.rounds, seconds=seconds, stats=stats)
