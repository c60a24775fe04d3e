"""A trial in a process of its own: PyTorch's random state is one a process, so trials at once need one each.

What: `do_apart` starts `python -m tamis.training.adapting.process`, hands it the trial as JSON and waits. A process
that outlives the one that started it does its trial to the end, and the next search finds it.
Cost: starting Python and loading PyTorch, some seconds.
"""

import json
import os
import subprocess
import sys

from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.errors import TamisError
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.proposals import Proposal
from tamis.training.adapting.search import Search
from tamis.training.errors import SearchError


def do_apart(store: str, config: AdaptConfig, number: int, proposal: Proposal, device: str) -> bool:
    """As `Search.do`, in a process of its own.

    Raises:
        SearchError: the process ended without doing it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "number": number, "proposal": list(proposal)}
    command = [sys.executable, "-m", "tamis.training.adapting.process"]
    said = json.dumps(asked | {"device": device})
    paths = os.pathsep.join(path for path in sys.path if path)  # a model of one's own is found where it is here
    environment = os.environ | {"PYTHONPATH": paths}
    ended = subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it was killed, or ran out of memory"])[-1]
        raise SearchError(
            f"The process of trial {number} ended with code {ended.returncode}: {last} Run the command again to resume."
        )
    return bool(json.loads(ended.stdout.splitlines()[-1])["done"])


def main() -> None:
    """Do the trial that standard input says."""
    asked = json.load(sys.stdin)
    try:
        search = Search(Store.open(asked["store"]), AdaptConfig.model_validate(asked["config"]))
        done = search.do(asked["number"], tuple(asked["proposal"]), asked["device"])
    except (TamisError, CurationError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps({"done": done}))


if __name__ == "__main__":
    main()
