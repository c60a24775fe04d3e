"""How much the gradient of a part of a batch is like that of the whole: the hardest samples beside any samples.

What: for batches of B samples, with l_i the loss of sample i by the model as it is, g the gradient of the mean loss of
the batch with respect to all P parameters, and h that of a part of m = ceil(s B) samples:

    cosine          <g, h> / (|g| |h|)
    equal signs     the share of the parameters p with sign(g_p) = sign(h_p)

once for the part with the highest losses (ties by position in the batch), and once for m samples drawn at random;
means over batches with their standard errors.
When: to see what selecting by loss keeps of the gradient, at this point of training.
How: batches are those of a seeded order of the dataset. One forward pass a batch serves the gradients of all parts.
Cost: a forward pass and 1 + 2 S backward passes a batch, for S selectivities. Memory: the activations of a batch, and
three gradients.
Departs: the model is in evaluation mode: with BatchNorm's own statistics a part would change the losses of its
samples, and the gradient of the whole would not be the mean of those of its parts. Images are not augmented. A batch
whose gradient (or a part's) vanishes has no cosine: it is left out, and counted.
Source: A. Jiang, thesis, 2021, figure 3.5, section 3.3.2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from math import ceil, nan, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.devices import pick_device
from tamis.training.errors import LabelError, ReportError
from tamis.training.models.own import failing
from tamis.training.models.saved import open_model, trained_run
from tamis.training.models.weights import ModelMeta
from tamis.training.seeds import derive_seed
from tamis.training.streaming.batches import Batch
from tamis.training.streaming.stream import SelectionStream
from tamis.training.tasks import get_task
from tamis.training.tasks.contract import Task

SELECTIVITIES = (0.1, 0.33, 0.5)
WAYS = ("high-loss", "random")


@dataclass(frozen=True)
class Likeness:
    """Parts of one kind and size beside their batches.

    Attributes:
        part: "high-loss" or "random".
        selectivity: s.
        samples: m.
        cosine, signs: means over the batches.
        cosine_error, signs_error: their standard errors; None of a single batch.
    """

    part: str
    selectivity: float
    samples: int
    cosine: float
    cosine_error: float | None
    signs: float
    signs_error: float | None


@dataclass(frozen=True)
class Similarity:
    """A model on batches of a dataset.

    Attributes:
        run: key of the run that trained it.
        dataset: name@version.
        model: its name.
        parameters: P.
        batch_size: B.
        batches: that count.
        vanished: batches that were left out, for a gradient of 0.
        seed: of order and parts.
        rows: by selectivity, the high-loss part and the random one.
    """

    run: str
    dataset: str
    model: str
    parameters: int
    batch_size: int
    batches: int
    vanished: int
    seed: int
    rows: tuple[Likeness, ...]


def similarity(
    store: Store,
    run: str,
    dataset: str,
    *,
    selectivities: Sequence[float] = SELECTIVITIES,
    batch_size: int = 128,
    batches: int = 20,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Similarity:
    """Compare the gradients of parts of batches with those of the batches, by the model of a finished training run.

    Args:
        store: the store.
        run: the run's key, or the beginning of it.
        dataset: "name" or "name@version".
        selectivities: shares s, above 0 and at most 1.
        batch_size: B.
        batches: how many; beyond one pass over the dataset, in another order.
        seed: of order and random parts.
        device: "auto", "cpu", "cuda", ...
        progress: called with (batches done, batches in all).

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        LabelError: the dataset's labels are not those of the model's task.
        ReportError: a share out of range, no batches, fewer samples than one, or gradients of 0 in every batch.
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    found, judged = trained_run(store, run), store.datasets.get(dataset)
    _check(selectivities, batch_size, batches, judged)
    assert found.blob is not None
    with failing(found.model or ""):
        model, meta = open_model(store.blobs.get(found.blob), f"run {found.key[:12]}")
        task, place = get_task(meta.task), pick_device(device)
        task.outputs(store, judged)
        model, made = model.to(place), list[Tensor]()
        for at, batch in enumerate(islice(_batches(store, judged, meta, task, batch_size, seed), batches)):
            drawing = np.random.default_rng(derive_seed(seed, "similarity", at))
            made.append(compare(model, batch, task, selectivities, drawing, place))
            if progress is not None:
                progress(at + 1, batches)
    values_NSW2 = torch.stack(made)
    kept_NSW2 = values_NSW2[values_NSW2.isfinite().flatten(1).all(dim=1)]
    if not len(kept_NSW2):
        raise ReportError(f"All gradients of run {found.key[:12]} on {judged.ref} are 0 or not finite.")
    rows = [
        Likeness(way, share, _size(share, batch_size), *_mean(kept_NSW2[:, i, j, 0]), *_mean(kept_NSW2[:, i, j, 1]))
        for i, share in enumerate(selectivities) for j, way in enumerate(WAYS)
    ]  # fmt: skip
    return Similarity(
        run=found.key, dataset=judged.ref, model=meta.model, parameters=sum(p.numel() for p in model.parameters()),
        batch_size=batch_size, batches=len(kept_NSW2), vanished=batches - len(kept_NSW2), seed=seed, rows=tuple(rows),
    )  # fmt: skip


def compare(
    model: nn.Module,
    batch: Batch,
    task: Task,
    selectivities: Sequence[float],
    generator: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Cosine and share of equal signs of the parts of one batch, [S, 2 (high-loss, random), 2] float64; NaN where a
    gradient is 0.

    Args:
        model: in evaluation mode, on the device; its gradients are left as they are.
        batch: B samples, on the CPU.
        task: whose losses are taken.
        selectivities: [S].
        generator: draws the random parts.
        device: where the model is.

    Raises:
        LabelError: labels that the model does not know.
    """
    parameters = [one for one in model.parameters() if one.requires_grad]
    outputs_BK = model(batch.images.to(device)).float()
    labels_B = batch.labels.to(device)
    unknown = int((~task.known(outputs_BK, labels_B)).sum())
    if unknown:
        raise LabelError(f"{unknown} labels of a batch are none that the model knows: use data of the same classes.")
    losses_B = task.losses(outputs_BK, labels_B)
    size, hardest_B = len(losses_B), losses_B.detach().argsort(descending=True, stable=True)

    def gradient(part_M: Tensor) -> Tensor:
        weights_B = torch.zeros_like(losses_B).index_fill_(0, part_M, 1 / len(part_M))
        parts = torch.autograd.grad(torch.dot(losses_B, weights_B), parameters, retain_graph=True,
                                    materialize_grads=True)  # fmt: skip
        return torch.cat([part.flatten() for part in parts])

    whole_P = gradient(hardest_B)
    found: list[list[tuple[float, float]]] = []
    for share in selectivities:
        m = _size(share, size)
        drawn_M = torch.from_numpy(generator.permutation(size)[:m]).to(device)
        found.append([alike(whole_P, gradient(part_M)) for part_M in (hardest_B[:m], drawn_M)])
    return torch.tensor(found, dtype=torch.float64)


def alike(g_P: Tensor, h_P: Tensor) -> tuple[float, float]:
    """Cosine of two gradients, NaN where one is 0, and the share of parameters in which they have the same sign."""
    g_P, h_P = g_P.double(), h_P.double()
    norms = sqrt(float(torch.dot(g_P, g_P)) * float(torch.dot(h_P, h_P)))  # of one root, 1 is exactly 1
    cosine = float(torch.dot(g_P, h_P)) / norms if norms > 0 else nan
    return min(max(cosine, -1.0), 1.0), float((g_P.sign() == h_P.sign()).double().mean())


def _batches(
    store: Store, dataset: Dataset, meta: ModelMeta, task: Task, batch_size: int, seed: int
) -> Iterator[Batch]:
    """Full batches, pass after pass."""
    stream = SelectionStream(
        store, dataset, seed=seed, batch_size=batch_size, rank=0, world=1, members=(), drop_last=True,
        channels=meta.in_channels, image_size=meta.image_size, targets=task.targets(dataset),
    )  # fmt: skip
    for epoch in count():
        with closing(stream.epoch(epoch)) as batches:
            yield from batches


def _mean(values_N: Tensor) -> tuple[float, float | None]:
    n = len(values_N)
    return float(values_N.mean()), float(values_N.std()) / n**0.5 if n > 1 else None


def _size(share: float, batch_size: int) -> int:
    return ceil(round(share * batch_size, 9))  # .1 of 70 are 7, whatever floats say


def _check(selectivities: Sequence[float], batch_size: int, batches: int, dataset: Dataset) -> None:
    wrong = [share for share in selectivities if not 0 < share <= 1]
    if wrong or not selectivities:
        raise ReportError(f"selectivity is {wrong[0] if wrong else 'empty'}: expected shares above 0 and at most 1.")
    if batch_size < 1 or batches < 1:
        raise ReportError(f"{batches} batches of {batch_size}: expected at least 1 of at least 1 sample.")
    if dataset.samples < batch_size:
        raise ReportError(
            f"{dataset.ref} has {dataset.samples} samples, fewer than a batch of {batch_size}: give a smaller batch."
        )
