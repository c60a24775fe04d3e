"""What a base model costs on a device: seconds of each segment between its branchpoints.

What: `measure` runs the segments one after the other on random images and notes how long each takes, beside the whole
model in the same rounds.
How: the segments run as a chain, each on what the one before gave, so the caches are as in use and the sum is that of
the whole. Rounds of the chain and of the whole take turns; medians over the rounds are robust to other work on the
machine. On a GPU each segment is waited for.
Cost: (warm-ups + repeats) times two passes over a batch.
"""

import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.training.devices import describe, pick_device
from tamis.training.mainstream.base.splitting import Split
from tamis.training.mainstream.base.tracing import evaluating


@dataclass(frozen=True)
class Profile:
    """Seconds a frame of a base model's parts on one device.

    Attributes:
        segments: of each segment; segment s lies before branchpoint s + 1.
        head: from the last branchpoint to the outputs.
        whole: of the whole model in one piece.
        device: its name.
        threads: of torch.
        batch: frames that run at once.
        image_shape: [C, H, W].
        repeats, warmups: rounds measured, and rounds before them.
        torch: its version.
    """

    segments: tuple[float, ...]
    head: float
    whole: float
    device: str
    threads: int
    batch: int
    image_shape: tuple[int, ...]
    repeats: int
    warmups: int
    torch: str

    def stem(self, b: int) -> float:
        """Seconds a frame before branchpoint b."""
        return sum(self.segments[:b])

    def rest(self, b: int) -> float:
        """Seconds a frame from branchpoint b to the outputs."""
        return sum(self.segments[b:]) + self.head

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"segments": list(self.segments), "image_shape": list(self.image_shape)}


def measure(
    split: Split,
    device: "str | torch.device" = "auto",
    *,
    batch: int = 1,
    repeats: int = 15,
    warmups: int = 3,
    threads: int | None = None,
) -> Profile:
    """Measure a base model's segments. The model is moved to the device, and its mode left as it was.

    Args:
        split: the base model.
        device: see `tamis.training.devices`.
        batch: frames that run at once.
        repeats: rounds whose median counts.
        warmups: rounds before them.
        threads: of torch while it is measured; None for as many as it has now.
    """
    if batch < 1 or repeats < 1 or warmups < 0 or (threads is not None and threads < 1):
        raise ValueError(
            f"batch {batch}, repeats {repeats}, threads {threads}: at least 1; warmups {warmups}: at least 0."
        )
    where = pick_device(device)
    parts = [split.segment(at, at + 1) for at in range(split.segments)] + [split.segment(split.segments, None)]
    for one in (split.model, *parts):
        one.to(where)
    images = _images(split, batch).to(where)
    with _threads(threads), evaluating(split.model), torch.inference_mode():
        rounds = [_round(split.model, parts, images, where) for _ in range(warmups + repeats)][warmups:]
        seconds = [statistics.median(some) / batch for some in zip(*rounds, strict=True)]
        return Profile(
            segments=tuple(seconds[:-2]), head=seconds[-2], whole=seconds[-1], device=describe(where),
            threads=torch.get_num_threads(), batch=batch, image_shape=split.image_shape, repeats=repeats,
            warmups=warmups, torch=torch.__version__,
        )  # fmt: skip


def _round(model: Callable[[Tensor], Tensor], parts: list[Any], images: Tensor, device: torch.device) -> list[float]:
    """Seconds of each part, and of the whole."""
    values, seconds = images, list[float]()
    before = _now(device)
    for part in parts:
        values = part(values)
        after = _now(device)
        seconds.append(after - before)
        before = after
    model(images)
    return [*seconds, _now(device) - before]


def _now(device: torch.device) -> float:
    """Seconds, once everything on a device has run."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _images(split: Split, batch: int) -> Tensor:
    """Random frames, the same each time, of the type that the base model takes."""
    drawn = torch.randint(0, 256, (batch, *split.image_shape), generator=torch.Generator().manual_seed(0))
    return drawn.to(torch.uint8) if split.takes_bytes else drawn / 255


@contextmanager
def _threads(count: int | None) -> Generator[None]:
    was = torch.get_num_threads()
    torch.set_num_threads(count or was)
    try:
        yield
    finally:
        torch.set_num_threads(was)
