"""Chapters 3 and 4 of seed 004 (Selective-Backprop, StaleSB, AdaptSB) at a scale that a CPU does in hours.

    python docs/reproduce/losses.py speedup --data DIR --store FOLDER        table 3.1, figures 3.8, 3.11 and 3.12
    python docs/reproduce/losses.py noise --data DIR --store FOLDER          figures 4.1 to 4.3
    python docs/reproduce/losses.py stages --data DIR --store FOLDER         figure 4.4

DIR holds a dataset as train-*.tar and test-*.tar, such as CIFAR-10 or Fashion-MNIST. Runs go seed by seed, so that an
early end leaves whole comparisons; what the store holds is not trained again. Then:

    tamis --store FOLDER report frontier --dataset NAME --plot error.svg     (table 3.1, figures 3.8 and 3.12)
    tamis --store FOLDER report costs --dataset NAME --plot costs.svg        (figure 3.11)
    tamis --store FOLDER priority show NAME                                  (figures 4.3 and 4.4)
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from tamis.flows.configs import Resources
from tamis.flows.runners import Direct
from tamis.flows.searching import adapt
from tamis.store import Store
from tamis.training.adapting.config import AdaptConfig
from tamis.training.config import InLoop, TrainConfig
from tamis.training.export.materialize import materialize
from tamis.training.job import train
from tamis.training.selecting.by_scores import SelectConfig, select

EPOCHS, JUDGED, SHARDS, SHARE = 10, 2000, 2, 1 / 3  # two shards of 5,000 images
FLIPS = (0.0, 0.01, 0.1, 0.2)
SEARCH: dict[str, Any] = {"trials": 20, "budget_epochs": 2, "holdout": "10%"}
STRATEGIES: dict[str, dict[str, Any] | None] = {
    "traditional": None,
    "selective-backprop": {"name": "selective-backprop", "selectivity": SHARE},
    "stale-sb n=3": {"name": "stale-sb", "selectivity": SHARE, "every": 3},
    "kath18": {"name": "kath18"},
    "infobatch": {"name": "infobatch"},
    "random-drop": {"name": "random-drop", "keep": SHARE},
    "stale-sb n=2": {"name": "stale-sb", "selectivity": SHARE, "every": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speedup", "noise", "stages"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    store, name = Store.open_or_create(given.store), given.data.name
    prepare(store, given.data, name)
    for seed in range(given.seeds):
        {"speedup": speedup, "noise": noise, "stages": stages}[given.part](store, name, seed)


def prepare(store: Store, data: Path, name: str) -> None:
    """10,000 training images, and 2,000 test images as a dataset of their own, so that evaluating is cheap."""
    store.datasets.add(name, sorted(data.glob("train-*.tar"))[:SHARDS])
    store.datasets.add(f"{name}-test", sorted(data.glob("test-*.tar")))
    asked = SelectConfig(dataset=f"{name}-test", method="random", budget=JUDGED, name=f"{name}-few")
    made = materialize(store, select(store, asked).selection)
    store.datasets.add(f"{name}-judge", [f"{made.url}/{shard.name}" for shard in made.shards])


def speedup(store: Store, name: str, seed: int) -> None:
    """Every strategy from the same weights."""
    for what, asked in STRATEGIES.items():
        run(store, name, name, what, asked, seed)


def noise(store: Store, name: str, seed: int) -> None:
    """Traditional, Selective-Backprop and AdaptSB on labels of which a share is wrong."""
    for share in FLIPS:
        noisy = name if share == 0 else f"{name}-flipped-{share:.0%}".replace("%", "")
        if share:
            store.datasets.flip(name, share, seed=0, name=noisy)
        run(store, name, noisy, "traditional", None, seed)
        run(store, name, noisy, "selective-backprop", STRATEGIES["selective-backprop"], seed)
        found = search(store, name, noisy, seed)["priorities"][0]
        run(store, name, noisy, f"adaptsb {found}", {"name": "selective-backprop", "priority": found}, seed)


def stages(store: Store, name: str, seed: int) -> None:
    """A function for each third of a training run (AdaptSB-Multi)."""
    print(search(store, name, name, seed, segments=3), flush=True)


def search(store: Store, name: str, dataset: str, seed: int, **how: Any) -> dict[str, Any]:
    """A function searched for on a held-out part of the training data."""
    segments = how.get("segments", 1)
    fields = recipe(name, dataset, seed) if segments > 1 else recipe(name, dataset, seed, judged=False)
    suffix = "adaptsb" if segments == 1 else "adaptsb-stages"
    asked = AdaptConfig(train=TrainConfig(**fields), name=f"{dataset}-{suffix}-{seed}", **SEARCH, **how)
    started = time.perf_counter()
    answer = adapt(Direct(), store.root.url, asked, Resources())
    print(f"{dataset} seed {seed}: search {time.perf_counter() - started:.0f} s", flush=True)
    return answer


def run(store: Store, name: str, dataset: str, what: str, asked: dict[str, Any] | None, seed: int) -> None:
    """One training run, evaluated after every epoch."""
    leaves = f"{dataset}-{what}-{seed}".replace(" ", "-").replace("=", "").replace("@", "-")
    strategy = None if asked is None else InLoop(leaves=leaves, **asked)
    started = time.perf_counter()
    made = train(store, TrainConfig(**recipe(name, dataset, seed), strategy=strategy)).run
    seconds = made.seconds["train"] + made.seconds.get("select", 0.0)
    print(
        f"{dataset:22} seed {seed} {what:34} {made.metrics['accuracy']:.3f}  {seconds:6.0f} s  "
        f"({time.perf_counter() - started:.0f} s now)",
        flush=True,
    )


def recipe(name: str, dataset: str, seed: int, *, judged: bool = True) -> dict[str, Any]:
    """Of every run: ResNet20 of CIFAR-10, crops and flips, a cosine schedule over ten epochs."""
    evaluated = {"evaluate_on": f"{name}-judge", "evaluate_every": 1} if judged else {}
    return {"dataset": dataset, "model": "resnet20", "epochs": EPOCHS, "seed": seed, **evaluated}


if __name__ == "__main__":
    main()
