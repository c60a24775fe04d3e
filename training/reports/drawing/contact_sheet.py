"""Contact sheets: the images that a selection chose most and least often, or others, on one picture.

What: `contact_sheet` reads those images alone, by byte range out of their shards, and lays them out in two groups, each
scaled to fit an equal tile and captioned with number, times chosen and label. `draw_groups` does so with any samples.
How: which samples, and in which order, `tamis.training.reports.priority` says. Small images are enlarged by whole
factors, so that pixels stay what they are; large ones are averaged down.
Cost: reading and decoding of the images shown; a picture of 72 x 104 pixels each.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.training.decoding.decode import IMAGES, check_suffix, decode_images
from tamis.training.errors import ReportError
from tamis.training.reports.drawing.plots import check_form
from tamis.training.reports.priority import Priority, least, most, priority
from tamis.training.streaming.batches import Chosen, Loader
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.readers import Media

LARGEST = 5_000  # images a sheet
_GAP, _LINE, _TITLE = 4, 13, 22  # pixels
_INK, _PAPER = (20, 20, 20), (255, 255, 255)

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """One image of a sheet.

    Attributes:
        sample, key: which.
        label: its class's name, or number; None where the dataset has none.
        times: in how many rounds it was chosen.
        weight: the sum of its weights.
    """

    sample: int
    key: str
    label: str | None
    times: int
    weight: float


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
) -> Sheet:
    """Lay out the images that were chosen most and least often.

    Args:
        store: the store.
        selection: whose rounds are counted.
        most_often, least_often: how many of each; fewer are shown where there are fewer.
        seed: draws among the equally little chosen.
        tile: pixels that an image's longer side gets.
        columns: images a row.

    Raises:
        ReportError: nothing, or too much, to show.
        ShardChanged, DecodeError, DecoderRefused: naming the shard or the sample.
    """
    if not 0 < most_often + least_often <= LARGEST or min(most_often, least_often, tile - 1, columns - 1) < 0:
        raise ReportError(
            f"{most_often} most and {least_often} least in tiles of {tile} pixels, {columns} a row: expected 1 to "
            f"{LARGEST} images in all, and at least 1 pixel and column."
        )
    dataset = store.datasets.get(selection.dataset)
    index, found = Index.open(store, dataset), priority(selection, dataset.samples)
    groups = most(found, most_often), least(found, least_often, seed=seed)
    shown = [_shown(index, found, each) for each in groups]
    tiles = _tiles(index, np.concatenate(groups), tile)
    of = f"in {found.rounds} round{'s' * (found.rounds != 1)} of {selection.ref}"
    captions = [[(f"{one.sample}  x{one.times}", one.label or "") for one in each] for each in shown]
    parts = [
        (f"Chosen most often {of}", captions[0], tiles[: len(shown[0])]),
        (f"Chosen least often {of}", captions[1], tiles[len(shown[0]) :]),
    ]
    picture = _lay_out([part for part in parts if part[1]], tile, columns)
    return Sheet(picture, found.rounds, int((found.times == 0).sum()), shown[0], shown[1])


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
    parts = [(title, list(g.values()), [next(tiles) for _ in g]) for title, g in groups.items() if g]
    return _lay_out(parts, tile, columns)


def _shown(index: Index, found: Priority, samples_B: Ints) -> tuple[Shown, ...]:
    if not len(samples_B):
        return ()
    keys, labels, dataset = index.keys(samples_B), index.labels[samples_B].tolist(), index.dataset
    rows = zip(samples_B.tolist(), keys, labels, strict=True)
    return tuple(
        Shown(sample, key, class_name(dataset, label), int(found.times[sample]), float(found.weight[sample]))
        for sample, key, label in rows
    )


def class_name(dataset: Dataset, label: int) -> str | None:
    """What a class is called: its name, or its number; None where the dataset has none."""
    if not dataset.has_classes:
        return None
    return dataset.classes[label] if 0 <= label < len(dataset.classes) else str(label)


def _tiles(index: Index, samples_B: Ints, tile: int) -> list[Image.Image]:
    """The images, scaled; they may be of any sizes."""
    member = index.dataset.image
    suffix = check_suffix(member, IMAGES)
    loader = Loader(index, Media("ranges", sparse=True, options=dict(index.store.root.options)))
    try:
        raw = loader.raw(Chosen(samples_B, np.ones(len(samples_B), np.float32))).batch
        found: list[Image.Image] = []
        for sample, data in zip(samples_B.tolist(), raw.members[member], strict=True):
            pixels = decode_images([data], suffix, name=lambda _, sample=sample: index.name(sample))[0]
            found.append(_fit(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), tile))
        return found
    finally:
        loader.close()


def _fit(image: Image.Image, tile: int) -> Image.Image:
    longer = max(image.size)
    if longer <= tile:
        factor = tile // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * tile / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _lay_out(
    groups: list[tuple[str, list[tuple[str, str]], list[Image.Image]]], tile: int, columns: int
) -> Image.Image:
    columns = min(columns, max(len(shown) for _, shown, _ in groups))
    across, down = tile + _GAP, tile + 2 * _LINE + _GAP
    heights = [_TITLE + down * -(-len(shown) // columns) for _, shown, _ in groups]
    font = ImageFont.load_default()
    wide = max(across * columns, *(int(font.getlength(title)) + _GAP for title, _, _ in groups))
    sheet = Image.new("RGB", (_GAP + wide, _GAP + sum(heights)), _PAPER)
    pen, top = ImageDraw.Draw(sheet), _GAP
    for (title, shown, tiles), height in zip(groups, heights, strict=True):
        pen.text((_GAP, top), title, _INK, font)
        for i, (one, image) in enumerate(zip(shown, tiles, strict=True)):
            left, above = _GAP + across * (i % columns), top + _TITLE + down * (i // columns)
            sheet.paste(image, (left + (tile - image.width) // 2, above + (tile - image.height) // 2))
            for line, text in enumerate(one):
                pen.text((left, above + tile + line * _LINE), _cut(text, font, tile), _INK, font)
        top += height
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """What of a caption fits beneath its image, in characters that pillow's own font has."""
    text = " ".join(text.encode("ascii", "replace").decode().split())
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
