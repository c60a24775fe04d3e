"""Work in a process of its own: PyTorch's random state is one a process, so trainings at once need one each.

What: `ask` starts a module of tamis as a program, hands it what is asked as JSON and waits for its answer; `answered`
is what that program does with it. `train_apart` has a model trained so, by this module.
How: the program computes on as many threads as this process would, so its numbers are the same. One that outlives the
process that started it works to the end, and the same question finds what it made.
Cost: starting Python and loading PyTorch, some seconds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.training.config import TrainConfig
from tamis.training.errors import TrainingEnded


def ask(module: str, asked: Mapping[str, Any], what: str, error: type[TamisError]) -> dict[str, Any]:
    """What a program answers.

    Args:
        module: of tamis, which calls `answered`.
        asked: what JSON can hold.
        what: the process, for people, such as "The process of trial 3".
        error: is raised where it ends without an answer, with what it said.
    """
    torch = sys.modules.get("torch")  # where it is not loaded, its threads are as many as there will be
    said = json.dumps({**asked, "threads": None if torch is None else torch.get_num_threads()})
    paths = os.pathsep.join(path for path in sys.path if path)  # a model of one's own is found where it is here
    ended = subprocess.run(
        [sys.executable, "-m", module],
        input=said, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it was killed, or ran out of memory"])[-1]
        raise error(f"{what} ended with code {ended.returncode}: {last} Run the command again to resume.")
    return json.loads(ended.stdout.splitlines()[-1])


def answered(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do what standard input asks, print the answer as JSON; an error is one line and exit code 1."""
    asked = json.load(sys.stdin)
    threads = asked.pop("threads")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    try:
        print(json.dumps(work(asked)))
    except (TamisError, CurationError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def train_apart(store: str, config: TrainConfig, device: str, force: bool) -> dict[str, Any]:
    """As `tamis.training.job.train`, in a process of its own: the run's key, whether it was cached, and confirmed.

    Raises:
        TrainingEnded: the process ended without it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "device": device, "force": force}
    return ask("tamis.training.apart", asked, f"The process that trains {config.model}", TrainingEnded)


def _train(asked: dict[str, Any]) -> dict[str, Any]:
    from tamis.training import job

    config = TrainConfig.model_validate(asked["config"])
    made = job.train(Store.open(asked["store"]), config, device=asked["device"], force=asked["force"])
    return {"run": made.run.key, "cached": made.cached, "confirmed": made.confirmed}


if __name__ == "__main__":
    answered(_train)
