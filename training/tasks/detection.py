"""Detection: the boxes of each image and their classes, learnt by a detector's own losses.

What: truth is the boxes of runs (`TrainConfig.truth`): annotations, or what a teacher found. A batch's targets are
[B, M, 5]: class from 0 (-1 for padding), x1, y1, x2, y2 in pixels of the decoded image, M the most boxes of a sample.
A model has an output for each class and one for the background.
How: the loss of each image comes out of one batched forward pass (`tamis.training.models.detectors`): of SSD it is
(L_conf + alpha L_loc) / N, of Faster R-CNN the sum of its four. So strategies that choose by losses work as they are.
Images without boxes: SSD's loss is 0, as in its paper; Faster R-CNN learns background from them.
Pixels: normalised by those of the dataset; a user's own detector is given 0..1, as torchvision's contract says.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tamis.training.errors import LabelError
from tamis.training.tasks.coco import average_precision, check_installed
from tamis.training.tasks.contract import Task
from tamis.training.tasks.truth import Truth, padded, truth_of

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tamis.store import Store
    from tamis.store.datasets import Dataset
    from tamis.training.streaming.batches import Batch, Beside

_AT_ONCE = 16  # images of a pass when judging


class Detection(Task):
    """Measures: `map`, `map50`, `map_small`, `map_medium`, `map_large` (`tamis.training.tasks.coco`), and `loss`.

    Args:
        truths: of datasets, by their keys.
        size: that images are scaled and cut to.
        alpha: of the loss of the boxes in SSD's.
    """

    name = "detection"
    in_image = True
    judged = _AT_ONCE

    def __init__(self, truths: Mapping[str, Truth] | None = None, size: int | None = None, alpha: float = 1.0) -> None:
        self._truths, self._size, self._alpha = dict(truths or {}), size, alpha

    def bound(self, store: "Store", asked: Mapping[str, Any]) -> "Detection":
        if asked["evaluate_on"] or asked["select_on"]:
            check_installed()
        truths: dict[str, Truth] = {}
        for ref in asked["truth"] or ():
            run = store.runs.get(ref)
            dataset = store.datasets.get(run.dataset)
            if dataset.key in truths:
                raise LabelError(
                    f"Runs {truths[dataset.key].run[:12]} and {run.key[:12]} both have boxes of {dataset.ref}: give "
                    "one run for each dataset as truth."
                )
            truths[dataset.key] = truth_of(store, dataset, run.key, asked["truth_score"])
        return Detection(truths, asked["image_size"], asked["box_weight"])

    def outputs(self, store: "Store", dataset: "Dataset", judged: "Dataset | None" = None) -> int:
        learnt = self._truth(dataset)
        if judged is not None and self._truth(judged).classes != learnt.classes:
            raise LabelError(
                f"The boxes of {judged.ref} are of the classes {_listed(self._truth(judged).classes)}, those of "
                f"{dataset.ref} of {_listed(learnt.classes)}: judge by boxes of the same classes, in the same order."
            )
        return max(len(learnt.classes), int(learnt.rows_A5[:, 0].max()) + 1) + 1

    def classes(self, dataset: "Dataset") -> tuple[str, ...]:
        return self._truth(dataset).classes

    def targets(self, dataset: "Dataset") -> "Beside":
        from tamis.training.streaming.batches import Beside

        return Beside(partial(padded, self._truth(dataset), self._size))

    def normalises(self, model: str) -> bool:
        return ":" in model

    def forward(self, model: "nn.Module", images_BCHW: "Tensor", targets_B: "Tensor") -> "Tensor":
        from tamis.training.models.detectors.running import run
        from tamis.training.models.registry import ImageClassifier

        if isinstance(model, ImageClassifier):
            return run(model.network, model.pixels(images_BCHW), targets_B)
        return model(images_BCHW)

    def losses(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """Of SSD's outputs [B, P, 8 + K], or the sum of losses [B, parts]."""
        from tamis.training.models.detectors.ssd import ssd_losses

        return ssd_losses(outputs_BK, targets_B, self._alpha) if outputs_BK.ndim == 3 else outputs_BK.sum(1)

    def known(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "Tensor":
        """All boxes are of classes that the model has; losses of other models cannot tell."""
        from tamis.training.models.detectors.ssd import LOGITS

        top_B = targets_B[:, :, 0].amax(1)
        return top_B < outputs_BK.shape[2] - LOGITS - 1 if outputs_BK.ndim == 3 else top_B.isfinite()

    def measures(self, outputs_BK: "Tensor", targets_B: "Tensor") -> "dict[str, Tensor]":
        return {"loss": self.losses(outputs_BK, targets_B)}

    def evaluate(
        self, model: "nn.Module", batches: "Iterable[Batch]", device: "torch.device | None" = None
    ) -> dict[str, float]:
        import torch

        truth, found, losses = self.looked(model, batches, device)
        if not losses:
            return {}
        count = 1 + max((int(rows[:, 0].max()) for rows in (*truth, *found) if len(rows)), default=0)
        return average_precision(truth, found, count) | {"loss": float(torch.cat(losses).double().mean())}

    def looked(
        self, model: "nn.Module", batches: "Iterable[Batch]", device: "torch.device | None" = None
    ) -> "tuple[list[NDArray[Any]], list[NDArray[Any]], list[Tensor]]":
        """What a model finds, as `evaluate` judges it.

        Returns:
            Of each image its truth [m, 5] and what was found [n, 6], as `average_precision` takes them; of each batch
            the losses.
        """
        import torch

        device = device or next(model.parameters()).device
        losses, truth, found = list[torch.Tensor](), list[Any](), list[Any]()
        model.eval()
        # Regions are sampled: the same each time, whatever was drawn before.
        with torch.inference_mode(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            for batch in batches:
                images_BCHW, targets_BM5 = batch.images.to(device), batch.labels.to(device)
                losses.append(self.losses(self.forward(model, images_BCHW, targets_BM5).float(), targets_BM5).cpu())
                found += [_rows(one) for one in self.found(model, images_BCHW)]
                truth += [rows_M5[rows_M5[:, 0] >= 0] for rows_M5 in batch.labels.numpy()]
        return truth, found, losses

    def found(self, model: "nn.Module", images_BCHW: "Tensor") -> "list[dict[str, Tensor]]":
        """Boxes, labels (from 1) and scores of each image, by a model in evaluation mode."""
        from tamis.training.models.detectors.running import detect
        from tamis.training.models.registry import ImageClassifier

        if isinstance(model, ImageClassifier):
            return detect(model.network, model.pixels(images_BCHW))
        return detect(model, images_BCHW)

    def _truth(self, dataset: "Dataset") -> Truth:
        if dataset.key not in self._truths:
            raise LabelError(
                f"The boxes of {dataset.ref} are not known: give the run that has them as truth, for each dataset that "
                "is trained or judged on (tamis run ls lists runs of kind annotations and detect)."
            )
        return self._truths[dataset.key]


def _rows(one: "dict[str, Tensor]") -> Any:
    """Class from 0, corners and score of each box, [n, 6]."""
    import torch

    columns = [one["labels"][:, None].float() - 1, one["boxes"].float(), one["scores"][:, None].float()]
    return torch.cat(columns, dim=1).cpu().numpy()


def _listed(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "") if classes else "no names"
