"""Images laid out in titled groups on one picture, each with a caption, and a legend above.

What: `lay_out` puts tiles side by side; `fit` scales an image to a tile. Small images are enlarged by whole factors, so
that pixels stay what they are; large ones are averaged down.
Cost: the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_GAP, _LINE, _TITLE, _SWATCH = 4, 13, 22, 9  # pixels
_INK, _PAPER = (20, 20, 20), (255, 255, 255)
_LINES = 2  # of a caption, at least

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Legend = Sequence[tuple[str, tuple[int, int, int]]]  # names and their colours


@dataclass(frozen=True)
class Part:
    """Images under a title.

    Attributes:
        title: above them.
        captions: of each image, its lines.
        tiles: the images.
    """

    title: str
    captions: Sequence[Sequence[str]]
    tiles: Sequence[Image.Image]


def fit(image: Image.Image, tile: int) -> Image.Image:
    """An image whose longer side has at most `tile` pixels."""
    longer = max(image.size)
    if longer <= tile:
        factor = tile // longer
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(side * tile / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def lay_out(groups: Sequence[Part], tile: int, columns: int, legend: Legend = ()) -> Image.Image:
    """A picture of all groups.

    Args:
        groups: none of them empty.
        tile: pixels of a tile's side.
        columns: tiles a row.
        legend: what colours mean.
    """
    columns = min(columns, max(len(part.tiles) for part in groups))
    lines = max(_LINES, *(len(caption) for part in groups for caption in part.captions))
    across, down = tile + _GAP, tile + lines * _LINE + _GAP
    heights = [_TITLE + down * -(-len(part.tiles) // columns) for part in groups]
    font = ImageFont.load_default()
    names = [part.title for part in groups] + [f"    {name}" for name, _ in legend]
    wide = max(across * columns, *(int(font.getlength(name)) + _GAP for name in names))
    sheet = Image.new("RGB", (_GAP + wide, _GAP + _LINE * len(legend) + sum(heights)), _PAPER)
    pen, top = ImageDraw.Draw(sheet), _GAP
    for name, colour in legend:
        pen.rectangle((_GAP, top + 2, _GAP + _SWATCH, top + 2 + _SWATCH), colour)
        pen.text((_GAP + 2 * _SWATCH, top), name, _INK, font)
        top += _LINE
    for part, height in zip(groups, heights, strict=True):
        pen.text((_GAP, top), part.title, _INK, font)
        for i, (caption, image) in enumerate(zip(part.captions, part.tiles, strict=True)):
            left, above = _GAP + across * (i % columns), top + _TITLE + down * (i // columns)
            sheet.paste(image, (left + (tile - image.width) // 2, above + (tile - image.height) // 2))
            for line, text in enumerate(caption):
                pen.text((left, above + tile + line * _LINE), _cut(text, font, tile), _INK, font)
        top += height
    return sheet


def _cut(text: str, font: Font, width: int) -> str:
    """What of a caption fits beneath its image, in characters that pillow's own font has."""
    text = " ".join(text.encode("ascii", "replace").decode().split())
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
