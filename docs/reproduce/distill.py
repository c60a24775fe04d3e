"""The table of seed 003 (knowledge distillation for detectors) at a scale that a CPU does in about an hour.

    python docs/reproduce/distill.py --data DIR --store FOLDER

A student with and without a teacher, and the teacher: its own name, widened. DIR has vtest.avi and nanodet.pt;
truth is the persons that NanoDet finds, the first 70 % of the video are trained on and the rest is judged on. Runs go
seed by seed, so that an early end leaves whole comparisons; what the store holds is not trained again. A line a run:

    seed, what, mAP, mAP of small, medium and large persons, ms an image, seconds of training
"""

import argparse
from pathlib import Path
from typing import Any

import vtest

from tamis.store import Store
from tamis.store.runs import Run
from tamis.training.config import Distill, TrainConfig
from tamis.training.job import train


def main() -> None:
    parser = vtest.options(__doc__ or "", fps="2")
    parser.add_argument("--model", default="ssdlite160-mobilenet", help="the student")
    parser.add_argument("--teacher", help="a model with the priors of the student; default: the student, widened")
    parser.add_argument("--teacher-weights", type=Path, help="file of weights that the teacher begins with")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--width", default="2", help="of the teacher where none is named")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=2)
    parser.add_argument("--over", choices=("all", "mined"), default="all")
    parser.add_argument("--cached", action="store_true", help="keep the teacher's answers; nothing is augmented then")
    given = parser.parse_args()
    store, data = vtest.begin(given)
    for seed in range(given.seeds):
        compare(store, data, given, seed)


def compare(store: Store, data: vtest.Vtest, given: argparse.Namespace, seed: int) -> None:
    """The three runs of a seed."""
    fields, name = recipe(data, given, seed), given.teacher or f"{given.model}@{given.width}"
    begun = vtest.started(given, given.teacher_weights)
    teacher = train(store, TrainConfig(**{**fields, **begun}, model=name), device="cpu").run
    show(store, data, seed, f"teacher {name}", teacher)
    show(store, data, seed, "student", train(store, TrainConfig(**fields, model=given.model), device="cpu").run)
    asked = Distill(
        run=teacher.key, alpha=given.alpha, temperature=given.temperature, over=given.over, cached=given.cached
    )
    student = train(store, TrainConfig(**fields, model=given.model, distill=asked), device="cpu").run
    show(store, data, seed, "student with teacher", student)


def recipe(data: vtest.Vtest, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Of every run."""
    return {
        "dataset": data.train.ref, "task": "detection", "truth": data.truth, "truth_score": given.truth_score,
        "evaluate_on": data.val.ref, "epochs": given.epochs, "batch_size": given.batch, "lr": given.lr,
        "weight_decay": 4e-5, "augment": "none" if given.cached else "crop-flip", "seed": seed,
        **vtest.started(given),
    }  # fmt: skip


def show(store: Store, data: vtest.Vtest, seed: int, what: str, run: Run) -> None:
    sizes = "  ".join(f"{run.metrics.get(f'map_{size}', float('nan')):.4f}" for size in ("small", "medium", "large"))
    ms = vtest.ms_an_image(store, run, data.val)
    print(
        f"seed {seed}  {what:22} mAP {run.metrics['map']:.4f}  {sizes}  {ms:6.1f} ms an image  "
        f"{run.seconds['train']:6.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
