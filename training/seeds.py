"""Seeds by purpose: every use of randomness draws from a stream of its own."""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: object) -> int:
    """63 bits of sha256 over the seed and what the numbers are for. Never `seed + epoch`."""
    text = "\n".join(map(str, ("tamis seed 1", seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Draws:
    """A NumPy generator for each seed, the same object again: making one takes as long as drawing for a whole batch."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._state, self._generator = self._bits.state, np.random.Generator(self._bits)

    def at(self, seed: int) -> np.random.Generator:
        """The generator, at the beginning of the stream of a seed."""
        self._state["state"]["key"][0] = seed
        self._bits.state = self._state
        return self._generator
