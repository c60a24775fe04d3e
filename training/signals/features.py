"""Features: what a layer of a trained model makes of every sample, one vector each.

What: `compute_parts` runs the model over shards and keeps what a forward hook at the layer sees; `finish_features`
makes a run of the parts, whose vectors show in the table `features`; `tamis.store.runs.Runs.features` reads them as an
array. What a layer returns beyond [B, E] (the maps of a convolution) is averaged over all further dimensions.
When: for methods that choose by distance (k-center), and for SQL over embeddings.
Keys: as scores, part by part: the shard's content, the model's digest, the layer and the numbers' kind, and where
pixels changed with it the decoder's version. So a killed pass goes on where it was, and an appended shard costs only
itself.
Cost: one forward pass; memory for one shard's vectors. A vector that is not finite (float16 ends at 65,504) is
counted, and kept as null.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from tamis.store import Store
from tamis.store.datasets import Dataset, Shard
from tamis.store.keys import key_of
from tamis.store.runs import Run
from tamis.training.errors import HeadError
from tamis.training.models.own import failing
from tamis.training.signals.parts import pack_part, read_part
from tamis.training.signals.scoring import decoder_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tamis.training.models.weights import ModelMeta

VERSION = 1  # of what is computed: raise it when the same question comes to have other vectors
PENULTIMATE = "penultimate"  # what enters the last linear layer
Dtype = Literal["float16", "float32"]
Vectors = npt.NDArray[np.floating[Any]]


class Question:
    """Which vectors are asked for, and the keys of the answer.

    Args:
        store: the store.
        dataset: the version whose samples are looked at.
        model: digest of the model's blob.
        layer: a name of the network's `named_modules()`, or "penultimate".
        dtype: of the numbers that are kept.
    """

    def __init__(self, store: Store, dataset: Dataset, model: str, layer: str, dtype: Dtype) -> None:
        self.store, self.dataset, self.model, self.layer, self.dtype = store, dataset, model, layer, dtype
        self._what: dict[str, Any] = {"model": model, "layer": layer, "dtype": dtype, "version": VERSION}
        self._what |= decoder_of(store, dataset, model)

    @property
    def config(self) -> dict[str, Any]:
        """What a run says of it."""
        return self._what

    @property
    def key(self) -> str:
        """Of the run."""
        return key_of("features", {"dataset": self.dataset.key, **self._what})

    def part(self, shard: Shard) -> str:
        """The file of one shard's vectors."""
        key = key_of("features-part", {"shard": shard.content, "image": self.dataset.image, **self._what})
        return f"parts/{key[:2]}/{key}.npz"

    def missing(self) -> list[int]:
        """The shards, by number, that have no vectors yet."""
        return [i for i, shard in enumerate(self.dataset.shards) if not self.store.root.exists(self.part(shard))]

    def find(self) -> Run | None:
        """The finished run, or None."""
        return self.store.runs.find(self.key)


def compute_parts(
    asked: Question,
    shards: Sequence[int],
    *,
    device: str = "auto",
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Compute the vectors of some shards and keep them; what is there already is passed over.

    Args:
        asked: which vectors.
        shards: numbers of shards.
        device: "auto", "cpu", "cuda", ...
        batch_size: samples a forward pass.
        progress: called with the number of samples just done.

    Raises:
        HeadError: the model has no such layer, or it returns no vector a sample.
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    from tamis.training.signals.outputs import load_model

    module, meta = load_model(asked.store, asked.model)
    for number in shards:
        shard = asked.dataset.shards[number]
        name = asked.part(shard)
        if read_part(asked.store, name) is not None:
            continue
        started = perf_counter()
        with failing(meta.model):
            vectors = np.concatenate(list(_vectors(asked, shard, module.network, module, meta, device, batch_size)))
        asked.store.root.put(name, pack_part({"vectors": vectors, "seconds": np.asarray(perf_counter() - started)}))
        if progress is not None:
            progress(shard.count)


def finish_features(asked: Question, *, name: str | None, model_run: str | None = None) -> Run:
    """Make the run of parts that are all there.

    Args:
        asked: which vectors.
        name: the model's name, for people.
        model_run: key of the run that trained the model.
    """
    there = asked.find()
    if there is not None:
        return there
    runs, seconds, nonfinite = asked.store.runs, 0.0, 0

    def blocks() -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        nonlocal seconds, nonfinite
        for number, shard in enumerate(asked.dataset.shards):
            part = read_part(asked.store, asked.part(shard))
            if part is None:  # removed or damaged since: one shard's work
                asked.store.root.delete(asked.part(shard))
                compute_parts(asked, [number])
                part = read_part(asked.store, asked.part(shard))
                assert part is not None
            vectors = part["vectors"]
            seconds += float(part["seconds"])
            nonfinite += int((~np.isfinite(vectors).all(axis=1)).sum())
            yield np.arange(shard.first_sample, shard.first_sample + shard.count), vectors

    config = asked.config | {"model_run": model_run}
    runs.begin(kind="features", key=asked.key, dataset=asked.dataset.ref, model=name, config=config)
    runs.put_features(asked.key, blocks())
    metrics = {"samples": asked.dataset.samples} | ({"nonfinite": nonfinite} if nonfinite else {})
    return runs.finish(asked.key, metrics=metrics, seconds={"total": seconds}, model=asked.model)


def _vectors(
    asked: Question, shard: Shard, network: "nn.Module", model: "nn.Module", meta: "ModelMeta", device: str, size: int
) -> Iterator[Vectors]:
    """[B, E] the vectors of one shard's samples, a batch at a time, in their order."""
    from tamis.training.devices import pick_device
    from tamis.training.signals.outputs import predict
    from tamis.training.streaming.batches import Chosen, Images, load_batches
    from tamis.training.streaming.lookup import Index

    numbers = np.arange(shard.first_sample, shard.first_sample + shard.count)
    parts = (numbers[a : a + size] for a in range(0, len(numbers), size))
    chosen = (Chosen(part, np.ones(len(part), np.float32)) for part in parts)
    seen: list[Any] = []
    hook = _watch(network, asked.layer, seen.append)
    try:
        index = Index.open(asked.store, asked.dataset)
        with closing(load_batches(index, chosen, Images(meta.in_channels, meta.image_size))) as loaded:
            for samples, _ in predict(model, (one.batch for one in loaded), pick_device(device)):
                with np.errstate(over="ignore"):  # infinities are counted later
                    yield _pooled(seen, asked.layer, len(samples)).numpy().astype(asked.dtype)
                seen.clear()
    finally:
        hook.remove()


def _watch(network: "nn.Module", layer: str, see: Callable[[Any], None]) -> Any:
    """Have `see` called with what the layer returns; for "penultimate", with what the last linear layer is given."""
    from torch import nn

    modules = dict(network.named_modules())
    if layer == PENULTIMATE:
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if not linear:
            raise HeadError(f"The model has no linear layer: name one of its modules ({', '.join(_last(modules))}).")
        return linear[-1].register_forward_pre_hook(lambda _, given: see(given[0]))
    if not layer or layer not in modules:
        raise HeadError(
            f"The model has no layer {layer!r}: expected {PENULTIMATE!r}, or a name of named_modules(), the last ones: "
            f"{', '.join(_last(modules))}."
        )
    return modules[layer].register_forward_hook(lambda _, __, returned: see(returned))


def _last(modules: Mapping[str, Any]) -> list[str]:
    return list(modules)[-8:]


def _pooled(seen: list[Any], layer: str, count: int) -> "Tensor":
    """[B, E] float32, on the CPU."""
    from torch import Tensor

    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].ndim < 2 or len(seen[0]) != count:
        what = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in seen]
        raise HeadError(
            f"Layer {layer!r} gave {what} for a batch of {count}: one tensor [{count}, E], or [{count}, E, ...], was "
            "expected. Name another layer."
        )
    found = seen[0].detach().float()
    return (found if found.ndim == 2 else found.flatten(2).mean(dim=2)).cpu()
