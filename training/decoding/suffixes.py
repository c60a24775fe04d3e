"""Which members of a sample run code when stock WebDataset decodes them. They are never read or copied."""

from tamis.store.shards.images import EITHER

# What stock decoders give to pickle or to torch.load.
EXECUTABLE = frozenset({"pkl", "pickle", "pyd", "pth", "pt"})


def is_executable(suffix: str) -> bool:
    """Whether decoding a member of this suffix could run code.

    Stock decoders go by the last part of a suffix, and unpack what ends in .gz before they look at it. Of suffixes that
    stand for one another ("jpg;pkl"), whether one could.
    """
    return any(map(_runs, suffix.lower().split(EITHER)))


def _runs(suffix: str) -> bool:
    parts = suffix.split(".")
    while len(parts) > 1 and parts[-1] == "gz":
        parts.pop()
    return parts[-1] in EXECUTABLE
