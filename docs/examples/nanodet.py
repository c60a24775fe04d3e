"""A detector of one's own: NanoDet as a TorchScript file, for `tamis score boxes --model nanodet:detector`.

A TorchScript file is code, which runs when it is loaded: name only a file that you trust.

The file takes one image [3, H, W], RGB of 0..1, and gives boxes [3549, 4] (x1, y1, x2, y2 in its frame of 416 x 416)
and scores [3549, 80] after the sigmoid. Boxes are scaled to the image, those that score more than .35 are kept, and
of boxes of one class that overlap by more than .6 the best.

    tamis score boxes --dataset street --model nanodet:detector --weights nanodet.pt --classes classes.txt
"""

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

FRAME, LEAST, OVERLAP = 416, 0.35, 0.6


class NanoDet(nn.Module):
    """NanoDet under torchvision's contract, but for its labels: its first class is 0."""

    background = False

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [self._one(image) for image in images]

    def _one(self, image: Tensor) -> dict[str, Tensor]:
        boxes, scores = self.script(image)
        height, width = image.shape[1:]
        anchors, labels = torch.nonzero(scores > LEAST, as_tuple=True)
        boxes = boxes[anchors] * boxes.new_tensor([width, height, width, height]) / FRAME
        best = batched_nms(boxes, scores[anchors, labels], labels, OVERLAP)
        return {"boxes": boxes[best], "labels": labels[best], "scores": scores[anchors, labels][best]}


def detector(weights: str) -> nn.Module:
    """The detector of a TorchScript file."""
    return NanoDet(torch.jit.load(weights, map_location="cpu"))
