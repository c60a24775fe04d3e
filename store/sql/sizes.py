"""Sizes in bytes as people write them."""

import re

_UNITS = {u + i: (1024 if i else 1000) ** n for n, u in enumerate("kmgt", 1) for i in ("", "i")} | {"": 1}


def parse_size(text: str) -> int | None:
    """'64MiB', '200MB' or a number of bytes -> bytes; None for anything else."""
    given = re.fullmatch(r"\s*([0-9]{1,18}) *(|[kmgt]i?)b?\s*", text.lower(), re.ASCII)
    return int(given[1]) * _UNITS[given[2]] if given else None
