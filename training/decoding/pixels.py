"""Which decoder made the pixels: what of it enters the keys of all that is computed from them.

What: `decoder_key` is put into the payload of a key. It is empty where pixels are what they always were, so keys of
results that are stored already stay as they are; it names the decoder's version where pixels are others now.
    version 1: pillow decodes the whole picture and resizes it. All formats, and JPEG that is taken as it is.
    version 3: a JPEG that is scaled to `image_size` (`tamis.training.decoding.jpeg`,
    `tamis.training.decoding.scaling`): on photographs
        less than 2 levels from version 1 on average, 16 at worst; to one level the same where it is decoded whole.
    version 2: the same, but a side as long as what was wanted of it was not scaled (449 x 149 to 224, for one).
A result of an earlier version stays in the store under its key, but is no answer to a question whose pixels would be
those of version 3. The libraries that do the work have no part in a key: libjpeg-turbo gives the same pixels through
simplejpeg and through pillow, and resizing without AVX2 differs by one level at most.
Cost: none; torch is not loaded.
"""

import json
import struct

from tamis.store.shards.images import EITHER

JPEG_VERSION = 3  # raise it when a scaled JPEG comes to have other pixels
JPEGS = frozenset({"jpg", "jpeg"})


def decoder_key(*images: tuple[str, int | None]) -> dict[str, int]:
    """What enters a key beside the rest: {} or {"decoder": version}.

    Args:
        images: of each dataset that is decoded, the member that is its image ("jpg", "left.png"), and the size that
            its images are scaled to, None for as they are.
    """
    scaled = any(size is not None and is_jpeg(member) for member, size in images)
    return {"decoder": JPEG_VERSION} if scaled else {}


def is_jpeg(member: str) -> bool:
    """Whether a member is a JPEG, by its suffix; of "jpg;png", whether one may be."""
    return any(each.rpartition(".")[2].lower() in JPEGS for each in member.split(EITHER))


def image_size_of(model: bytes) -> int | None:
    """What a model's images are scaled to, out of its file's header; None for as they are, or where it does not say.

    Args:
        model: as `tamis.training.models.weights.pack_model` made it. What is no such file is refused when it is loaded.
    """
    try:
        (length,) = struct.unpack_from("<Q", model)
        size = json.loads(json.loads(model[8 : 8 + length])["__metadata__"]["tamis"])["image_size"]
    except (struct.error, ValueError, KeyError, TypeError):
        return None
    return size if isinstance(size, int) else None
