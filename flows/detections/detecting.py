"""The flow `detect`: have a detector look at the frames that it has not seen yet."""

from typing import Any

from tamis.flows import tasks
from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.runners import Runner
from tamis.store import Store
from tamis.training.detection import detecting


def detect(runner: Runner, store: str, config: DetectConfig, resources: Resources) -> dict[str, Any]:
    """Have a detector look at the frames that it has not seen yet. Returns the run and what it came to."""
    opened = Store.open(store)
    pinned = config.model_copy(update={"dataset": opened.datasets.get(config.dataset).ref})
    asked = tasks.question(opened, pinned)
    classes = detecting.classes_of(asked, resources.device)
    pinned = pinned.model_copy(update={"classes": classes})
    made = opened.runs.find(asked.key(classes))
    cached = made is not None
    if made is None:
        numbers = range(len(asked.dataset.shards))
        missing = {number: count for number in numbers if (count := len(asked.missing(number)))}
        shared: dict[str, Any] = {"store": store, "config": pinned, "resources": resources}
        size = max(1, -(-len(missing) // runner.width))  # a task opens the detector: one a worker
        groups = [[*missing][a : a + size] for a in range(0, len(missing), size)]
        seconds = sum(runner.each(tasks.DETECT, [shared | {"shards": group} for group in groups]))
        every, new = sum(len(asked.chosen(shard)) for shard in asked.dataset.shards), sum(missing.values())
        cost = detecting.Cost(every, every - new, seconds * 1e3 / new if new else None)
        chosen = None if config.selection is None else opened.selections.get(config.selection).key
        made = detecting.finish(asked, classes, cost, selection=chosen, device=resources.device)
    told = {"run": made.key, "dataset": made.dataset, "model": made.model, "cached": cached}
    return told | {"metrics": made.metrics, "seconds": made.seconds}
