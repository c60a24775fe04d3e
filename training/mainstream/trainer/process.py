"""A candidate in a process of its own (`tamis.training.apart`), so that candidates can be trained at once.

A process that outlives the one that started it finishes its candidate, and the next build finds it.
"""

from typing import Any

from tamis.store import Store
from tamis.store.errors import PackageError
from tamis.training.apart import answered, ask
from tamis.training.mainstream.trainer.config import PackageConfig


def train_apart(store: str, config: PackageConfig, branch: int, device: str, rows: int) -> str:
    """As `Build.train`, in a process of its own; the candidate's key.

    Raises:
        PackageError: the process ended without doing it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "branch": branch, "device": device, "rows": rows}
    what = f"The process of the candidate at branchpoint {branch}"
    return str(ask("tamis.training.mainstream.trainer.process", asked, what, PackageError)["candidate"])


def _train(asked: dict[str, Any]) -> dict[str, Any]:
    from tamis.training.mainstream.trainer.building import Build

    made = Build(Store.open(asked["store"]), PackageConfig.model_validate(asked["config"]))
    return {"candidate": made.train(asked["branch"], device=asked["device"], rows=asked["rows"]).key}


if __name__ == "__main__":
    answered(_train)
