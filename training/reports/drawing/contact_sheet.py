"""Contact sheets: the images that a selection chose most and least often, or others, on one picture.

What: `contact_sheet` reads those images alone, by byte range out of their shards, and lays them out in two groups, each
scaled to fit an equal tile and captioned with number, times chosen and label; frames of videos with camera and time.
Boxes of a student and a teacher can be drawn on them. `draw_groups` does so with any samples.
How: which samples, and in which order, `tamis.training.reports.priority` says; `tamis.training.reports.drawing.layout`
puts them on a picture.
Cost: reading and decoding of the images shown; a picture of 72 x 104 pixels each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.frames import Frames
from tamis.store.selections import Selection
from tamis.training.decoding.decode import IMAGES, check_suffix, decode_images
from tamis.training.errors import ReportError
from tamis.training.reports.culling.clock import clock
from tamis.training.reports.drawing.layers import Layer, open_layers
from tamis.training.reports.drawing.layout import Part, fit, lay_out
from tamis.training.reports.drawing.plots import check_form
from tamis.training.reports.priority import Priority, least, most, priority
from tamis.training.streaming.batches import Chosen, Loader
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.readers import Media

LARGEST = 5_000  # images a sheet

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """One image of a sheet.

    Attributes:
        sample, key: which.
        label: its class's name, or number; None where the dataset has none.
        times: in how many rounds it was chosen.
        weight: the sum of its weights.
        camera: that took it; None where the sample is no frame of a video, as the next.
        seconds: on the camera's time line.
        boxes: by run whose boxes are drawn, how many; None where it did not look at the image.
    """

    sample: int
    key: str
    label: str | None
    times: int
    weight: float
    camera: str | None = None
    seconds: float | None = None
    boxes: tuple[int | None, ...] = ()

    @property
    def caption(self) -> list[str]:
        """Its lines: number and times chosen, label, camera and time, boxes by run."""
        lines = [f"{self.sample}  x{self.times}", *([self.label] if self.label else [])]
        if self.camera is not None and self.seconds is not None:
            lines.append(f"{self.camera} {clock(self.seconds)}")
        counts = ["-" if count is None else str(count) for count in self.boxes]
        return [*lines, " | ".join(counts) + " boxes"] if counts else lines


@dataclass(frozen=True)
class Sheet:
    """A contact sheet.

    Attributes:
        image: RGB.
        rounds: how many rounds were counted.
        never: how many samples of the dataset were never chosen.
        most, least: what it shows, in order.
    """

    image: Image.Image
    rounds: int
    never: int
    most: tuple[Shown, ...]
    least: tuple[Shown, ...]

    def save(self, out: str) -> None:
        """Write it as .png; a file that is there is replaced."""
        self.image.save(check_form(out, (".png",)), "PNG")


def contact_sheet(
    store: Store,
    selection: Selection,
    *,
    most_often: int = 64,
    least_often: int = 64,
    seed: int = 0,
    tile: int = 72,
    columns: int = 16,
    left_out: bool = False,
    boxes: Sequence[str] = (),
    least_score: float = 0.5,
) -> Sheet:
    """Lay out the images that were chosen most and least often.

    Args:
        store: the store.
        selection: whose rounds are counted.
        most_often, least_often: how many of each; fewer are shown where there are fewer.
        seed: draws among the equally little chosen.
        tile: pixels that an image's longer side gets.
        columns: images a row.
        left_out: of the least often chosen, only those that no round has; frames of videos in order of time.
        boxes: runs whose boxes are drawn, a student's and a teacher's; two at most.
        least_score: boxes with a lower score are not drawn.

    Raises:
        ReportError: nothing, or too much, to show.
        RunNotFound, SelectionError: a run has no boxes of this dataset.
        ShardChanged, DecodeError, DecoderRefused: naming the shard or the sample.
    """
    if not 0 < most_often + least_often <= LARGEST or min(most_often, least_often, tile - 1, columns - 1) < 0:
        raise ReportError(
            f"{most_often} most and {least_often} least in tiles of {tile} pixels, {columns} a row: expected 1 to "
            f"{LARGEST} images in all, and at least 1 pixel and column."
        )
    dataset = store.datasets.get(selection.dataset)
    index, found = Index.open(store, dataset), priority(selection, dataset.samples)
    never = int((found.times == 0).sum())
    layers, frames = open_layers(store, dataset, boxes, least_score), dataset.frames()
    others = least(found, min(least_often, never) if left_out else least_often, seed=seed)
    groups = most(found, most_often), _by_time(others, frames) if left_out else others
    if not sum(map(len, groups)):
        raise ReportError(f"{selection.ref} leaves no sample of {dataset.ref} out: there is nothing to show.")
    shown = [_shown(index, found, each, frames, layers) for each in groups]
    tiles = _tiles(index, np.concatenate(groups), tile, layers)
    of = f"in {found.rounds} round{'s' * (found.rounds != 1)} of {selection.ref}"
    titles = f"Chosen most often {of}", f"Left out of {selection.ref}" if left_out else f"Chosen least often {of}"
    pairs = zip(titles, shown, (tiles[: len(shown[0])], tiles[len(shown[0]) :]), strict=True)
    parts = [Part(title, [one.caption for one in each], some) for title, each, some in pairs if each]
    legend = [(layer.name, layer.colour) for layer in layers]
    return Sheet(lay_out(parts, tile, columns, legend), found.rounds, never, shown[0], shown[1])


def draw_groups(
    store: Store,
    dataset: Dataset,
    groups: Mapping[str, Mapping[int, tuple[str, str]]],
    *,
    tile: int = 72,
    columns: int = 16,
) -> Image.Image:
    """Lay out the images of some samples.

    Args:
        store: the store.
        dataset: that they are of.
        groups: {title: {sample: the two lines of its caption}}; groups without samples are left out.
        tile: pixels that an image's longer side gets.
        columns: images a row.

    Raises:
        ReportError: nothing, or too much, to show.
        ShardChanged, DecodeError, DecoderRefused: naming the shard or the sample.
    """
    samples_B = np.asarray([sample for group in groups.values() for sample in group], np.int64)
    if not 0 < len(samples_B) <= LARGEST:
        raise ReportError(f"{len(samples_B)} images to show: expected 1 to {LARGEST}.")
    tiles = iter(_tiles(Index.open(store, dataset), samples_B, tile))
    parts = [Part(title, list(g.values()), [next(tiles) for _ in g]) for title, g in groups.items() if g]
    return lay_out(parts, tile, columns)


def _by_time(samples_B: Ints, frames: Frames | None) -> Ints:
    if frames is None:
        return samples_B
    return samples_B[np.lexsort((samples_B, frames.seconds_N[samples_B], frames.camera_N[samples_B]))]


def _shown(
    index: Index, found: Priority, samples_B: Ints, frames: Frames | None, layers: Sequence[Layer]
) -> tuple[Shown, ...]:
    if not len(samples_B):
        return ()
    keys, labels, dataset = index.keys(samples_B), index.labels[samples_B].tolist(), index.dataset
    rows = zip(samples_B.tolist(), keys, labels, strict=True)
    return tuple(
        Shown(
            sample, key, class_name(dataset, label), int(found.times[sample]), float(found.weight[sample]),
            *_placed(frames, sample), tuple(layer.count(sample) for layer in layers),
        )
        for sample, key, label in rows
    )  # fmt: skip


def _placed(frames: Frames | None, sample: int) -> tuple[str | None, float | None]:
    if frames is None or frames.camera_N[sample] < 0:
        return None, None
    return frames.cameras[frames.camera_N[sample]], float(frames.seconds_N[sample])


def class_name(dataset: Dataset, label: int) -> str | None:
    """What a class is called: its name, or its number; None where the dataset has none."""
    if not dataset.has_classes:
        return None
    return dataset.classes[label] if 0 <= label < len(dataset.classes) else str(label)


def _tiles(index: Index, samples_B: Ints, tile: int, layers: Sequence[Layer] = ()) -> list[Image.Image]:
    """The images, scaled, with their boxes; they may be of any sizes."""
    member = index.dataset.image
    suffix = check_suffix(member, IMAGES)
    loader = Loader(index, Media("ranges", sparse=True, options=dict(index.store.root.options)))
    try:
        raw = loader.raw(Chosen(samples_B, np.ones(len(samples_B), np.float32))).batch
        found: list[Image.Image] = []
        for sample, data in zip(samples_B.tolist(), raw.members[member], strict=True):
            pixels = decode_images([data], suffix, name=lambda _, sample=sample: index.name(sample))[0]
            image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            found.append(fit(image, tile))
            for layer in layers:
                layer.draw(found[-1], sample, image.size)
        return found
    finally:
        loader.close()
