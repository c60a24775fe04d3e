"""Whether images can be decoded: each is decoded once, before it is packed.

Cost: reading and decoding every file, on several threads; memory for one decoded image a thread.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tamis.store.errors import ShardError
from tamis.store.shards.folders import Pictures
from tamis.store.shards.images import IMAGES
from tamis.store.shards.indexing import in_threads
from tamis.store.shards.skipped import Skipped, summed

_SOME = 3


def check_pictures(
    pictures: Pictures, *, skip: bool = False, progress: Callable[[int, int], None] | None = None
) -> Pictures:
    """Decode every image once.

    Args:
        pictures: from `find_pictures`.
        skip: leave out those that cannot be decoded, counted and named.
        progress: called with (images done, images).

    Returns:
        The pictures that are left.

    Raises:
        ShardError: an image cannot be decoded, and is not to be left out; or none can.
    """
    files = [path for group in pictures.files for path in group]
    found = dict(zip(files, in_threads(problem, files, progress), strict=True))
    bad = {path: why for path, why in found.items() if why is not None}
    if not bad:
        return pictures
    if not skip or len(bad) == len(files):
        some = "; ".join(f"{path.relative_to(pictures.root)}: {why}" for path, why in list(bad.items())[:_SOME])
        raise ShardError(
            f"{len(bad)} of {len(files)} images in {pictures.root} cannot be decoded ({some}). Repair them, remove "
            "them, or skip them (--skip-bad)."
        )
    left = tuple(tuple(path for path in group if path not in bad) for group in pictures.files)
    names = [Skipped("images that cannot be decoded", 1, (str(path.relative_to(pictures.root)),)) for path in bad]
    return replace(pictures, files=left, skipped=summed((*pictures.skipped, *names)))


def problem(path: Path) -> str | None:
    """Why an image cannot be decoded, or None where it can."""
    from PIL import Image

    kind = IMAGES[path.suffix.lower().removeprefix(".")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, and of odd but readable files
            with Image.open(io.BytesIO(path.read_bytes()), formats=(kind,)) as image:
                image.load()
    except Exception as error:  # noqa: BLE001 - pillow's plug-ins raise whatever damaged bytes lead them to
        text: Any = getattr(error, "strerror", None) or error
        return " ".join(str(text).split())[:100] or type(error).__name__
    return None
