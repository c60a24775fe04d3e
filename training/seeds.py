"""Seeds by purpose: every use of randomness draws from a stream of its own."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """63 bits of sha256 over the seed and what the numbers are for. Never `seed + epoch`."""
    text = "\n".join(map(str, ("tamis seed 1", seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
