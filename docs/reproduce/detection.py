"""The detection table of seed 001 (Selective-Backprop inside a batch) at a scale that a CPU does in about an hour.

    python docs/reproduce/detection.py --data DIR --store FOLDER

An SSD300-like detector, of a smaller side by default, without selecting and with in-batch Selective-Backprop that every
second or third batch interrupts (start .5, end .9, keep .5, batches of 32). DIR has vtest.avi and nanodet.pt; truth is
the persons that NanoDet finds, the first 70 % of the video are trained on and the rest is judged on. Runs go seed by
seed, so that an early end leaves whole comparisons; what the store holds is not trained again. A line a run:

    seed, what, mAP, mAP of small, medium and large persons, t_diff, samples trained on

t_diff is the mean time of an epoch outside of [start, end) less that of one inside, in seconds: what selecting saves.
"""

import argparse
from itertools import pairwise
from statistics import mean
from typing import Any

import vtest

from tamis.store.runs import Run
from tamis.training.config import TrainConfig
from tamis.training.job import train

BEGIN, END, SHARE = 0.5, 0.9, 0.5
INTERRUPTS = (None, 2, 3)  # None: the baseline


def main() -> None:
    parser = vtest.options(__doc__ or "", fps="2")
    parser.add_argument("--model", default="ssd128-resnet18", help="theirs: ssd300-resnet50")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--augment", default="crop-flip", help="theirs: zoom-flip, which takes longer than the model")
    given = parser.parse_args()
    store, data = vtest.begin(given)
    for seed in range(given.seeds):
        for interrupt in INTERRUPTS:
            asked = TrainConfig(**recipe(data, given, seed), strategy=strategy(interrupt))
            show(seed, interrupt, train(store, asked, device="cpu").run)


def strategy(interrupt: int | None) -> Any:
    """Selecting, or nothing."""
    if interrupt is None:
        return None
    return {"name": "in-batch", "begin": BEGIN, "end": END, "share": SHARE, "interrupt": interrupt}


def recipe(data: vtest.Vtest, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Of every run. It is evaluated after every epoch, which is when the clock is read; evaluations do not count."""
    return {
        "dataset": data.train.ref, "task": "detection", "truth": data.truth, "truth_score": given.truth_score,
        "evaluate_on": data.val.ref, "evaluate_every": 1, "model": given.model,
        "epochs": given.epochs, "batch_size": given.batch, "lr": given.lr, "augment": given.augment, "seed": seed,
        **vtest.started(given),
    }  # fmt: skip


def t_diff(run: Run) -> float:
    """Mean seconds of an epoch outside of [start, end), less those of one inside."""
    clock = [0.0, *(one["seconds"] for one in run.metrics["history"])]
    epochs = [after - before for before, after in pairwise(clock)]
    inside = [BEGIN * len(epochs) <= epoch < END * len(epochs) for epoch in range(len(epochs))]
    parts = ([one for one, of in zip(epochs, inside, strict=True) if of == which] for which in (False, True))
    outside, within = (mean(part) if part else float("nan") for part in parts)
    return outside - within


def show(seed: int, interrupt: int | None, run: Run) -> None:
    sizes = "  ".join(f"{run.metrics.get(f'map_{size}', float('nan')):.4f}" for size in ("small", "medium", "large"))
    what = "baseline" if interrupt is None else f"in-batch, interrupt {interrupt}"
    print(
        f"seed {seed}  {what:22} mAP {run.metrics['map']:.4f}  {sizes}  t_diff {t_diff(run):7.2f} s  "
        f"{run.metrics['backprops']:7} trained on  {run.seconds['train'] + run.seconds.get('select', 0.0):6.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
