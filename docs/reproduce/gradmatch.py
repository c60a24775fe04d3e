"""The tables of seed 001 (Grad-Match and Cached-Grad-Match) at a scale that a CPU does in minutes.

    python docs/reproduce/gradmatch.py --data DIR --store FOLDER     (DIR holds CIFAR-10 as train-*.tar and test-*.tar)

Trains what the tables compare and leaves it in the store; what is there already is not trained again. Then:

    tamis --store FOLDER report speedup
"""

import argparse
import time
from pathlib import Path
from typing import Any

from tamis.store import Store
from tamis.training.config import Reselect
from tamis.training.export.materialize import materialize
from tamis.training.job import TrainConfig, train
from tamis.training.selecting.by_scores import SelectConfig, select

EPOCHS, EVERY, BUDGET, JUDGED = 30, 10, "10%", 1000
RATES = (0.001, 0.003, 0.03)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.03},
    "adam": {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.0},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.001, "weight_decay": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=1, help="how many shards of 5,000 images to train on")
    given = parser.parse_args()
    store = Store.open_or_create(given.store)
    prepare(store, given.data, given.shards)
    first = {"lr": 0.01, "reselect": choosing("resnet")}  # whose choices the tables for rates and optimizers replay
    run(store, "first", **first)
    for lr in RATES:
        three(store, f"lr {lr}", "resnet", lr=lr)
    for name, how in OPTIMIZERS.items():
        three(store, name, "resnet", **how)
    for warm in (None, 0.5):
        suffix = "" if warm is None else "-warm"
        run(store, f"mobilenet{suffix}", model="mobilenet_v2", reselect=choosing(f"mobilenet{suffix}", warm), lr=0.01)
        run(store, f"cached from mobilenet{suffix}", selection=f"mobilenet{suffix}", lr=0.03)
    run(store, "warm", reselect=choosing("resnet-warm", 0.5), lr=0.03)
    for method in ("random", "random-pb"):
        for rounds in (1, EPOCHS // EVERY):  # once, and as often as Grad-Match ("adaptive random")
            name = f"{method}-{rounds}"
            asked = SelectConfig(dataset="cifar", method=method, budget=BUDGET, name=name, rounds=rounds, every=EVERY)
            run(store, name, selection=select(store, asked).selection.ref, lr=0.03)


def prepare(store: Store, data: Path, shards: int) -> None:
    """The training images, and 1,000 test images as a dataset of their own, so that looking is cheap."""
    store.datasets.add("cifar", sorted(data.glob("train-*.tar"))[:shards])
    store.datasets.add("cifar-test", sorted(data.glob("test-*.tar")))
    few = select(store, SelectConfig(dataset="cifar-test", method="random", budget=JUDGED, name="few")).selection
    made = materialize(store, few)
    store.datasets.add("judge", [f"{made.url}/{shard.name}" for shard in made.shards])


def choosing(name: str, warm: float | None = None) -> Reselect:
    return Reselect(name=name, budget=BUDGET, every=EVERY, warm=warm)


def three(store: Store, what: str, selection: str, **how: Any) -> None:
    """Full training, Grad-Match, and a replay of what another training chose."""
    run(store, f"{what}: full", **how)
    run(store, f"{what}: grad-match", reselect=choosing(f"own {what}".replace(" ", "-")), **how)
    run(store, f"{what}: cached", selection=selection, **how)


def run(store: Store, what: str, model: str = "preact20", **how: Any) -> None:
    fields: dict[str, Any] = {
        "dataset": "cifar", "model": model, "epochs": EPOCHS, "batch_size": 64, "augment": "crop-flip",
        "evaluate_on": "judge", "evaluate_every": 1, "nesterov": how.get("optimizer", "sgd") == "sgd",
    }  # fmt: skip
    started = time.perf_counter()
    result = train(store, TrainConfig(**fields, **how))
    seconds = result.run.seconds
    print(
        f"{what:32} {result.run.metrics['accuracy']:.3f}  train {seconds['train']:6.1f} s  "
        f"select {seconds.get('select', 0):5.1f} s  ({time.perf_counter() - started:.0f} s now)",
        flush=True,
    )


if __name__ == "__main__":
    main()
