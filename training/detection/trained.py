"""The detector that a training run made, behind the door of `tamis.training.detection.detector`.

What: `open_trained` takes the model out of the store; it looks at frames as they are stored. One that was trained on
images of another size (`image_size`) is given frames whose shorter side has that size, and its boxes are scaled back.
"""

from typing import TYPE_CHECKING, Any

from tamis.training.detection.detector import Detector, Source
from tamis.training.detection.scaling import scaled
from tamis.training.errors import UnknownModelError

if TYPE_CHECKING:
    from torch import Tensor

    from tamis.store import Store
    from tamis.training.models.registry import ImageClassifier
    from tamis.training.models.weights import ModelMeta


class TrainedDetector:
    """A model that was trained for detection.

    Args:
        model: in evaluation mode, on its device.
        meta: its description.
    """

    def __init__(self, model: "ImageClassifier", meta: "ModelMeta") -> None:
        self._model, self._size, self.classes = model, meta.image_size, tuple(meta.classes)

    def __call__(self, images_BCHW: "Tensor") -> "list[dict[str, Tensor]]":
        """As `Detector`."""
        import torch

        from tamis.training.tasks import DETECTION

        scale = 1.0 if self._size is None else self._size / min(images_BCHW.shape[-2:])
        with torch.inference_mode():
            found = DETECTION.found(self._model, images_BCHW if scale == 1 else scaled(images_BCHW, scale))
        return [one | {"labels": one["labels"] - 1, "boxes": one["boxes"] / scale} for one in found]


def open_trained(store: "Store", found: Source, device: Any) -> Detector:
    """The model of a training run.

    Raises:
        UnknownModelError: it was trained for another task.
    """
    from tamis.training.signals.outputs import load_model

    model, meta = load_model(store, found.identity["model"])
    if meta.task != "detection":
        raise UnknownModelError(
            f"The model of run {(found.model_run or '')[:12]} was trained for {meta.task}: name a run that was trained "
            "for detection, or a detector of your own as module:function."
        )
    return TrainedDetector(model.to(device).eval(), meta)
