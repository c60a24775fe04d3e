"""Frames that differ from those kept before them: temporal de-duplication, as a selection.

What: `select_distinct` reads the frames of each camera in the order of time, and keeps one when its difference hash
differs from that of the last kept frame in more than a threshold of bits (`tamis.curation.culling.duplicates`).
Cost: every frame is read and decoded once, in grey, in a thread beside the hashing; no model. 8 bytes a frame.
"""

from collections.abc import Callable
from contextlib import closing
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.curation.culling.duplicates import THRESHOLD, difference_hashes, distinct_in_time
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.selections import Published, Request, RoundData
from tamis.training.border import check_kind
from tamis.training.errors import DecodeError
from tamis.training.selecting.answers import Computed, answer

if TYPE_CHECKING:
    from tamis.training.streaming.batches import Loader

METHOD, VERSION = "distinct", 1
Hashes = NDArray[np.uint64]


def select_distinct(
    store: Store,
    dataset: Dataset,
    name: str,
    *,
    threshold: int = THRESHOLD,
    progress: Callable[[int], None] | None = None,
) -> Published:
    """Keep the frames that look different, and publish them.

    Args:
        store: the store.
        dataset: frames of videos; samples that are no frames are taken as one camera's, in their order.
        name: of the selection.
        threshold: bits of 64, 0 to 63.
        progress: called with the number of frames just read.

    Returns:
        The selection; frames that cannot be decoded are left out, and counted in its stats as `undecodable`.

    Raises:
        SelectionError: no frame can be decoded.
    """
    check_kind("dataset", dataset, Dataset)
    request = Request(dataset, METHOD, VERSION, {"threshold": threshold})
    return answer(store, request, name, lambda: _chosen(store, dataset, threshold, progress))


def _chosen(store: Store, dataset: Dataset, threshold: int, progress: Callable[[int], None] | None) -> Computed:
    started = perf_counter()
    frames = store.datasets.frames(dataset.ref)
    cameras_N = np.zeros(dataset.samples, np.int64) if frames is None else frames.camera_N.astype(np.int64)
    order_N = np.arange(dataset.samples) if frames is None else np.lexsort((frames.seconds_N, cameras_N))
    hashes_N, read_N = _hashes(store, dataset, progress)
    order_R = order_N[read_N[order_N]]
    if not len(order_R):
        raise SelectionError(
            f"None of the {dataset.samples} frames of {dataset.ref} can be decoded: look at its shards."
        )
    kept = distinct_in_time(hashes_N[order_R], threshold=threshold, cameras_N=cameras_N[order_R])
    samples = np.sort(order_R[kept])
    stats = {"undecodable": int((~read_N).sum())}
    return Computed([RoundData(samples)], {"select": perf_counter() - started}, stats)


def _hashes(store: Store, dataset: Dataset, progress: Callable[[int], None] | None) -> tuple[Hashes, NDArray[np.bool_]]:
    """The hash of each frame, and whether it could be read."""
    from tamis.training.streaming.batches import AHEAD, Images, Loader, in_background
    from tamis.training.streaming.lookup import Index
    from tamis.training.streaming.readers import Media

    media = Media("ranges", options=store.root.options)
    loader = Loader(Index.open(store, dataset), media, Images(channels=1), side_by_side=True)
    hashes_N, read_N = np.zeros(dataset.samples, np.uint64), np.zeros(dataset.samples, np.bool_)
    try:
        with closing(in_background(_hash_of(loader), range(dataset.samples), ahead=AHEAD)) as made:
            for sample, found in enumerate(made):
                if found is not None:
                    hashes_N[sample], read_N[sample] = found, True
                if progress is not None:
                    progress(1)
    finally:
        loader.close()
    return hashes_N, read_N


def _hash_of(loader: "Loader") -> "Callable[[int], int | None]":
    """Reads a frame and hashes it; None where it cannot be decoded."""
    from tamis.training.streaming.batches import Chosen

    weight = np.ones(1, np.float32)

    def hashed(sample: int) -> int | None:
        try:
            images_1CHW = loader.batch(Chosen(np.asarray([sample]), weight)).batch.images
        except DecodeError:
            return None
        return int(difference_hashes(images_1CHW[:, 0].numpy())[0])

    return hashed
