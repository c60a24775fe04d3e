"""The one list of image formats: what `dataset pack` packs, what is found as a dataset's image, and what is decoded.

A format is on it when pillow reads it without other programs, refuses damaged files with an error, and says in the
header how many pixels there are.
"""

# Suffix -> pillow's name of the format. Where a sample has several images, the first suffix on the list is the input.
IMAGES: dict[str, str] = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "ppm": "PPM", "pgm": "PPM", "bmp": "BMP", "gif": "GIF",
    "tif": "TIFF", "tiff": "TIFF",
}  # fmt: skip

# Between suffixes that stand for one another, as WebDataset writes it: "jpg;png" is whichever a sample has.
EITHER = ";"

# Two suffixes of one format: files of both are packed under the first.
SAME = {"jpeg": "jpg", "tiff": "tif"}


_STARTS = (
    (b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"BM", "bmp"), (b"GIF8", "gif"), (b"II*\0", "tif"), (b"MM\0*", "tif"),
    (b"P6", "ppm"), (b"P3", "ppm"), (b"P5", "pgm"), (b"P2", "pgm"),
)  # fmt: skip


def told(data: bytes) -> str:
    """The suffix of an image's format, told by its first bytes.

    Raises:
        ValueError: it is none on the list.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for start, suffix in _STARTS:
        if data.startswith(start):
            return suffix
    raise ValueError("its first bytes are those of no image on the list")
