"""A random selection to compare another one with: the same sizes, in force from the same epochs."""

from itertools import pairwise

from tamis.curation.errors import CurationError
from tamis.store.selections import Selection
from tamis.training.selecting.by_scores import SelectConfig


def random_beside(chosen: Selection, *, per_class: bool = False) -> SelectConfig:
    """What to ask for: "random" by the same seed, drawn anew as often as `chosen` chooses.

    Args:
        chosen: the selection to compare with; its name and "-random" is the other one's.
        per_class: draw within each class, as `chosen` does.

    Raises:
        CurationError: its rounds differ in size or length, as after a warm start.
    """
    firsts, sizes = [r.first_epoch for r in chosen.rounds], {r.size for r in chosen.rounds}
    steps = {after - before for before, after in pairwise(firsts)}
    if len(sizes) > 1 or len(steps) > 1 or firsts[0]:
        raise CurationError(
            f"the rounds of {chosen.ref} have {sorted(sizes)} samples from epochs {firsts} on; expected rounds of one "
            "size and length to make a random selection like them: select without a warm start"
        )
    return SelectConfig(
        dataset=chosen.dataset,
        method="random",
        budget=chosen.size,
        params={"per_class": per_class},
        seed=chosen.seed,
        rounds=len(firsts),
        every=min(steps, default=20),
        name=f"{chosen.name}-random",
    )
