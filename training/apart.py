"""A training run in a process of its own: PyTorch's random state is one a process, so runs at once need one each.

What: `train_apart` starts `python -m tamis.training.apart`, hands it the configuration as JSON and waits. A process
that outlives the one that started it trains to the end, and the same question finds the run.
Cost: starting Python and loading PyTorch, some seconds.
"""

import json
import os
import subprocess
import sys
from typing import Any

from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.training.config import TrainConfig
from tamis.training.errors import TrainingEnded


def train_apart(store: str, config: TrainConfig, device: str, force: bool) -> dict[str, Any]:
    """As `tamis.training.job.train`, in a process of its own: the run's key, whether it was cached, and confirmed.

    Raises:
        TrainingEnded: the process ended without it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "device": device, "force": force}
    command = [sys.executable, "-m", "tamis.training.apart"]
    paths = os.pathsep.join(path for path in sys.path if path)  # a model of one's own is found where it is here
    environment = os.environ | {"PYTHONPATH": paths}
    ended = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, env=environment
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it was killed, or ran out of memory"])[-1]
        raise TrainingEnded(
            f"The process that trains {config.model} ended with code {ended.returncode}: {last} Run the command again "
            "to resume."
        )
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Train what standard input says."""
    from tamis.training import job

    asked = json.load(sys.stdin)
    try:
        config = TrainConfig.model_validate(asked["config"])
        made = job.train(Store.open(asked["store"]), config, device=asked["device"], force=asked["force"])
    except (TamisError, CurationError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps({"run": made.run.key, "cached": made.cached, "confirmed": made.confirmed}))


if __name__ == "__main__":
    main()
