"""The flow `package_build`: the candidates of an application, each a task, and the package that they make.

A body of `tamis.flows.work.FLOWS`. A candidate that is in the store is not made again, whoever made it.
"""

from typing import Any

from tamis.flows import tasks
from tamis.flows.configs import Resources
from tamis.flows.runners import Runner
from tamis.training.mainstream.trainer.config import PackageConfig


def package_build(runner: Runner, store: str, config: PackageConfig, resources: Resources) -> dict[str, Any]:
    """Train the candidates of a package that are not there yet, and publish it.

    Returns:
        The package's name@version, whether this made it, and how many candidates were trained and how many found.
    """
    planned = runner.call(tasks.PACKAGE_PLAN, store, config)
    pinned, missing = planned["config"], planned["missing"]
    shared: dict[str, Any] = {"store": store, "config": pinned, "resources": resources}
    if missing:
        runner.call(tasks.STEM, **shared)
    runner.each(tasks.CANDIDATE, [shared | {"branch": branch} for branch in missing])
    made = runner.call(tasks.PACKAGE, store, pinned)
    return made | {"trained": len(missing), "found": planned["candidates"] - len(missing)}
