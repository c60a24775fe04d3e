"""A candidate in a process of its own: PyTorch's random state is one a process, so candidates at once need one each.

What: `train_apart` starts `python -m tamis.training.mainstream.trainer.process`, hands it the candidate as JSON and
waits. A process that outlives the one that started it finishes its candidate, and the next build finds it.
Cost: starting Python and loading PyTorch, some seconds.
"""

import json
import os
import subprocess
import sys

from tamis.store import Store
from tamis.store.errors import PackageError, TamisError
from tamis.training.mainstream.trainer.config import PackageConfig


def train_apart(store: str, config: PackageConfig, branch: int, device: str, rows: int) -> str:
    """As `Build.train`, in a process of its own; the candidate's key.

    Raises:
        PackageError: the process ended without doing it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "branch": branch, "device": device, "rows": rows}
    command = [sys.executable, "-m", "tamis.training.mainstream.trainer.process"]
    paths = os.pathsep.join(path for path in sys.path if path)  # a model of one's own is found where it is here
    environment = os.environ | {"PYTHONPATH": paths}
    ended = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, env=environment
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it was killed, or ran out of memory"])[-1]
        raise PackageError(
            f"The process of the candidate at branchpoint {branch} ended with code {ended.returncode}: {last} Run the "
            "command again to resume."
        )
    return str(json.loads(ended.stdout.splitlines()[-1])["candidate"])


def main() -> None:
    """Train the candidate that standard input says."""
    from tamis.training.mainstream.trainer.building import Build

    asked = json.load(sys.stdin)
    try:
        made = Build(Store.open(asked["store"]), PackageConfig.model_validate(asked["config"]))
        trained = made.train(asked["branch"], device=asked["device"], rows=asked["rows"])
    except TamisError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps({"candidate": trained.key}))


if __name__ == "__main__":
    main()
