"""A trial in a process of its own (`tamis.training.apart`), so that trials can run at once.

A process that outlives the one that started it does its trial to the end, and the next search finds it.
"""

from typing import Any

from tamis.store import Store
from tamis.training.adapting.config import AdaptConfig
from tamis.training.adapting.proposals import Proposal
from tamis.training.adapting.search import Search
from tamis.training.apart import answered, ask
from tamis.training.errors import SearchError


def do_apart(store: str, config: AdaptConfig, number: int, proposal: Proposal, device: str) -> bool:
    """As `Search.do`, in a process of its own.

    Raises:
        SearchError: the process ended without doing it; with what it said.
    """
    asked = {"store": store, "config": config.model_dump(mode="json"), "number": number, "proposal": list(proposal)}
    what = f"The process of trial {number}"
    return bool(ask("tamis.training.adapting.process", asked | {"device": device}, what, SearchError)["done"])


def _do(asked: dict[str, Any]) -> dict[str, Any]:
    search = Search(Store.open(asked["store"]), AdaptConfig.model_validate(asked["config"]))
    return {"done": search.do(asked["number"], tuple(asked["proposal"]), asked["device"])}


if __name__ == "__main__":
    answered(_do)
