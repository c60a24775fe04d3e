"""What candidates are trained and measured on: names of a config resolved to samples.

What: `data_of` finds dataset, selection and event, deals the samples out (`tamis.training.mainstream.trainer.parts`)
and refuses what nothing can be learnt from: data without events, or with nothing else, or with nothing to measure on.
Cost: the labels and the time line of the datasets; one image is decoded where no size is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from tamis.store import Store
from tamis.store.advice import did_you_mean
from tamis.store.datasets import Dataset
from tamis.store.datasets.frames import Frames
from tamis.store.datasets.overlap import samples_in_common
from tamis.store.errors import PackageError, SelectionError
from tamis.store.keys import split_ref
from tamis.store.selections import Selection
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.parts import FIT, HELD, VALIDATION, check_events, deal_parts
from tamis.training.mainstream.trainer.sources import Ints, Source
from tamis.training.streaming.batches import Images
from tamis.training.tasks import CLASSIFICATION


class _Options(TypedDict):
    seed: int
    block: float


@dataclass(frozen=True)
class Data:
    """The samples of a build.

    Attributes:
        dataset: what is trained on.
        selection: of it; None for all.
        judged: what is measured on; the dataset itself where a share of it is held out.
        classes: names of the classes in order, their numbers where they have none.
        event: number of the event's class.
        train: source of the training and validation rows.
        held: source of the held-out rows.
        fit, validation: rows of `train`.
        side: of an image, pixels.
    """

    dataset: Dataset
    selection: Selection | None
    judged: Dataset
    classes: tuple[str, ...]
    event: int
    train: Source
    held: Source
    fit: Ints
    validation: Ints
    side: int

    @cached_property
    def what(self) -> dict[str, object]:
        """What decides the samples, as plain JSON."""
        return {
            "train": self.train.what, "held": self.held.what, "outputs": len(self.classes),
            "selection": None if self.selection is None else self.selection.key,
        }  # fmt: skip


def data_of(store: Store, config: PackageConfig) -> Data:
    """Resolve the data of a config.

    Args:
        store: the store.
        config: what is to be built.

    Raises:
        DatasetNotFound, SelectionNotFound, SelectionError, LabelError: naming what is wrong.
        PackageError: there is no event, nothing but events, or nothing to measure on; the event's class is unknown;
            the held-out data has samples of the training data; images are not square.
    """
    selection = None if config.selection is None else store.selections.get(config.selection)
    dataset = store.datasets.get(config.dataset if selection is None else selection.dataset)
    if split_ref(config.dataset)[0] != dataset.name:
        raise SelectionError(f"Selection {config.selection} is of {dataset.ref}, not of {config.dataset}: name that.")
    judged = dataset if config.evaluate_on is None else store.datasets.get(config.evaluate_on)
    classes = _classes(store, dataset, judged)
    event = _event(config.event, classes, dataset)
    fit, validation, held, weights = _dealt(dataset, selection, judged, event, config)
    side = config.image_size or _side(Source(store, dataset, fit[:1], np.ones(1, np.float32), Images(config.channels)))
    images, both = Images(config.channels, config.image_size, config.fit), np.union1d(fit, validation)
    source = Source(store, dataset, both, weights[both], images)
    data = Data(
        dataset, selection, judged, classes, event, source,
        Source(store, judged, held, np.ones(len(held), np.float32), images),
        np.searchsorted(both, fit), np.searchsorted(both, validation), side,
    )  # fmt: skip
    _check(data)
    return data


def _dealt(
    dataset: Dataset, selection: Selection | None, judged: Dataset, event: int, config: PackageConfig
) -> tuple[Ints, Ints, Ints, npt.NDArray[np.float32]]:
    """Samples to fit, to stop by and to measure on, and a weight for each sample of the dataset."""
    labels, frames = dataset.labels(), dataset.frames()
    weights = np.ones(dataset.samples, np.float32)
    known = np.arange(dataset.samples)
    if selection is not None:
        chosen, given = selection.read_round(len(selection.rounds) - 1)
        known = np.sort(np.asarray(chosen, np.int64))
        weights[np.asarray(chosen, np.int64)] = given
    rest, options = np.arange(dataset.samples), _Options(seed=config.seed, block=config.block)
    if judged is dataset:
        shares = {HELD: config.holdout}
        dealt = deal_parts(labels, event, shares, frames=frames, **options)
        held, rest = dealt[HELD], dealt[FIT]
    else:
        held = np.arange(judged.samples)
        common = samples_in_common(judged, dataset)
        if common:
            raise PackageError(
                f"{common} of the {judged.samples} samples of {judged.ref} are in {dataset.ref} too: candidates would "
                "be measured on what they were trained on. Give data that was set apart (tamis dataset split)."
            )
    rows = np.intersect1d(known, rest)
    name = f"class {config.event}"
    check_events(labels[rows], event, name, "training samples")
    dealt = deal_parts(labels[rows], event, {VALIDATION: config.validation}, frames=_some(frames, rows), **options)
    return rows[dealt[FIT]], rows[dealt[VALIDATION]], held, weights


def _some(frames: Frames | None, rows: Ints) -> Frames | None:
    if frames is None:
        return None
    lines = (frames.camera_N[rows], frames.video_N[rows], frames.seconds_N[rows])
    return Frames(frames.cameras, frames.videos, *lines)


def _check(data: Data) -> None:
    name = f"class {data.classes[data.event]}"
    labels = data.train.labels_N
    check_events(labels[data.fit], data.event, name, "samples to train on")
    check_events(labels[data.validation], data.event, name, "validation samples")
    check_events(data.held.labels_N, data.event, name, "held-out samples")


def _classes(store: Store, dataset: Dataset, judged: Dataset) -> tuple[str, ...]:
    """Names of as many classes as a model has outputs.

    Raises:
        PackageError: there is one class only.
    """
    outputs = CLASSIFICATION.outputs(store, dataset, judged)
    if outputs < 2:
        raise PackageError(f"{dataset.ref} has one class only: an event detector tells at least two apart.")
    return tuple(dataset.classes[i] if i < len(dataset.classes) else str(i) for i in range(outputs))


def _event(name: str, classes: Sequence[str], dataset: Dataset) -> int:
    """The number of a class that is named or numbered."""
    if name in classes:
        return classes.index(name)
    if name.isascii() and name.isdigit() and int(name) < len(classes):
        return int(name)
    listed = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise PackageError(
        f"{dataset.ref} has no class {name!r} for the event; there are: {listed}.{did_you_mean(name, list(classes))}"
    )


def _side(one: Source) -> int:
    """The side of the images as they are."""
    (batch,) = one.batches([np.zeros(1, np.int64)])
    height, width = batch.images.shape[2:]
    if height != width:
        raise PackageError(
            f"Images of {one.dataset.ref} have {width} x {height} pixels, and a base takes square ones: give "
            "image_size."
        )
    return int(height)
