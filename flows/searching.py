"""The flow `adapt`: a search for a prioritisation function, or one before each segment of a training run.

A body of `tamis.flows.work.FLOWS`. Every step finds in the store what was done before, by whichever process.
"""

import time
from typing import Any

from tamis.flows import tasks
from tamis.flows.configs import Resources
from tamis.flows.runners import Runner
from tamis.store import Store
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.search import Found, Search, pinned
from tamis.training.adapting.segments import segment, with_priority

_PAUSE = 1.0  # seconds between looks, where all that is left of a round is under way elsewhere


def adapt(runner: Runner, store: str, config: AdaptConfig, resources: Resources) -> dict[str, Any]:
    """Search for the prioritisation function that trains best under a budget (AdaptSB, AdaptSB-Multi).

    Returns:
        The functions' name@version, the keys of their searches and, of segments, of the runs that were trained.
    """
    opened = Store.open(store)
    whole, found, runs = pinned(opened, config), list[Found](), list[str]()
    if whole.segments == 1:
        found.append(_search(runner, opened, whole, resources))
    for number in range(whole.segments) if whole.segments > 1 else ():
        asked, train = segment(whole, number, runs[-1] if runs else None)
        found.append(_search(runner, opened, asked, resources))
        made = runner.call(tasks.TRAIN, store, with_priority(train, found[-1].priority.ref), resources, False)
        runs.append(made["run"])
    refs, searches = [one.priority.ref for one in found], [one.search.key for one in found]
    return {"priorities": refs, "searches": searches, "runs": runs, "cached": all(one.cached for one in found)}


def _search(runner: Runner, opened: Store, config: AdaptConfig, resources: Resources) -> Found:
    """A search to its end, together with whoever else is at it."""
    search = Search(opened, config)
    there = search.find()
    if there is not None:
        return there
    search.begin()
    shared = {"store": opened.root.url, "config": config, "resources": resources}
    while trials := search.open():
        calls = [shared | {"number": number, "proposal": proposal} for number, proposal in trials]
        if not any(runner.each(tasks.TRIAL, calls)):
            time.sleep(_PAUSE)
    return search.finish()
