"""The one list of image formats: what `dataset pack` packs, what is found as a dataset's image, and what is decoded.

A format is on it when pillow reads it without other programs, refuses damaged files with an error, and says in the
header how many pixels there are.
"""

# Suffix -> pillow's name of the format. Where a sample has several images, the first suffix on the list is the input.
IMAGES: dict[str, str] = {
    "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "ppm": "PPM", "pgm": "PPM", "bmp": "BMP", "gif": "GIF",
    "tif": "TIFF", "tiff": "TIFF",
}  # fmt: skip

# Two suffixes of one format: files of both are packed under the first.
SAME = {"jpeg": "jpg", "tiff": "tif"}
