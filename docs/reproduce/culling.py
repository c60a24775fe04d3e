"""The table of seed 000 (Dataset Culling) at a scale that a CPU does in some hours.

    python docs/reproduce/culling.py --data DIR --store FOLDER

One fixed camera, the persons that NanoDet finds as truth; the first 70 % of the video are trained on and the rest is
judged on (DIR has vtest.avi and nanodet.pt). Each way of choosing keeps the same number of frames, and a student that
stage 0 trained on a small intermittent sample goes on from there on what was kept. Runs go seed by seed, so that an
early end leaves whole comparisons; what the store holds is not trained again. A line a run:

    seed, what, frames, mAP, seconds of choosing (stage 0, student and teacher), seconds of training, all of them

Then: tamis --store FOLDER report culling --dataset NAME --plot culling.svg
"""

from dataclasses import dataclass
from typing import Any

import vtest

from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.detections.culling import Watcher
from tamis.flows.detections.detecting import detect
from tamis.flows.runners import Direct
from tamis.store import Store
from tamis.training.config import TrainConfig
from tamis.training.job import train
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.signals.culling import CullingConfig, score_culling

MEASURES = {  # what: measure of a last choice, whether the teacher sees everything before it
    "entropy": ("entropy", False), "confidence": ("confidence_loss", False), "precision": ("precision_loss", True),
}  # fmt: skip


def main() -> None:
    parser = vtest.options(__doc__ or "", fps="all")
    parser.add_argument("--model", default="ssdlite320-mobilenet")
    parser.add_argument("--stage0", default="5%", help="frames that stage 0 trains on")
    parser.add_argument("--keep", default="10%", help="frames that each way of choosing keeps")
    parser.add_argument("--first", default="40%", help="frames that stage 1 of the pipeline keeps")
    parser.add_argument("--epochs0", type=int, default=60, help="of stage 0")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    given = parser.parse_args()
    store, data = vtest.begin(given)
    for seed in range(given.seeds):
        _Seed(store, data, given, seed).run()


@dataclass
class _Seed:
    """The comparison of one seed."""

    store: Store
    data: vtest.Vtest
    given: Any
    seed: int

    def run(self) -> None:
        few = self.select("intermittent", self.given.stage0, "stage0")
        begun = self.train(few, self.given.epochs0, **vtest.started(self.given))
        stage0 = begun.seconds["train"] + self.teacher(few)
        self.show("stage 0", few, begun.metrics, stage0, 0.0)
        seen = self.look(Watcher(model=begun.key), None)
        student = self.store.runs.get(seen).seconds["total"]
        kept = self.select("intermittent", self.given.keep, "intermittent")
        self.compare("intermittent", kept, begun.key, stage0 + self.teacher(kept))
        whole = score_culling(self.store, self.data.train, seen, self.data.truth[0], CullingConfig())[0].key
        for what, (measure, teaches) in MEASURES.items():
            kept = self.select("culling", self.given.keep, what, measure=measure, scores=(whole,))
            self.compare(what, kept, begun.key, stage0 + student + self.teacher(None if teaches else kept))
        first = self.select("culling", self.given.first, "first", measure="confidence_loss", scores=(whole,))
        weights = self.store.runs.get(self.data.truth[0])
        taught = self.look(vtest.watcher(self.given.data), first)
        scored = score_culling(self.store, self.data.train, seen, taught, CullingConfig())[0].key
        kept = self.select("culling", self.given.keep, "both", measure="precision_loss", scores=(scored,))
        self.compare("confidence + precision", kept, begun.key, stage0 + student + self.teacher(first))
        self.compare("full", None, begun.key, stage0 + weights.seconds["total"])

    def compare(self, what: str, kept: str | None, begin: str, choosing: float) -> None:
        """Go on training on what was kept."""
        made = self.train(kept, self.given.epochs, init_from=begin, optimizer=self.given.optimizer)
        self.show(what, kept, made.metrics, choosing, made.seconds["train"])

    def train(self, selection: str | None, epochs: int, **how: Any) -> Any:
        config = TrainConfig(
            dataset=self.data.train.ref, selection=selection, task="detection", truth=self.data.truth,
            truth_score=self.given.truth_score, model=self.given.model, epochs=epochs, batch_size=self.given.batch,
            lr=self.given.lr, seed=self.seed, evaluate_on=self.data.val.ref, **how,
        )  # fmt: skip
        return train(self.store, config, device="cpu").run

    def select(self, method: str, budget: str, name: str, **how: Any) -> str:
        name = f"{self.data.train.name}-{name}-{self.seed}"
        params = {"random_phase": True} if method == "intermittent" else {}
        asked = SelectConfig(
            dataset=self.data.train.ref, method=method, budget=budget, name=name, seed=self.seed, params=params, **how
        )
        return select(self.store, asked).selection.ref

    def look(self, who: Watcher, selection: str | None) -> str:
        asked = DetectConfig(dataset=self.data.train.ref, selection=selection, **who.model_dump())
        return detect(Direct(), self.store.root.url, asked, Resources(device="cpu", batch_size=8))["run"]

    def teacher(self, selection: str | None) -> float:
        """Seconds that the teacher takes for the frames of a selection, or for all."""
        n = self.data.train.samples
        count = n if selection is None else self.store.selections.get(selection).size
        return self.store.runs.get(self.data.truth[0]).seconds["total"] * count / n

    def show(self, what: str, kept: str | None, metrics: dict[str, Any], choosing: float, training: float) -> None:
        frames = self.data.train.samples if kept is None else self.store.selections.get(kept).size
        print(
            f"seed {self.seed} {what:24} {frames:5} frames  mAP {metrics['map']:.3f} ({metrics['map50']:.3f} at .5)  "
            f"choosing {choosing:6.0f} s  training {training:6.0f} s  all {choosing + training:6.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
