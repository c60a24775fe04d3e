"""The order of samples in an epoch: a pure function of (what is read, seed, epoch, position).

What: `permute` sends position p to an index in 0..n-1 by a keyed permutation, so nobody has to hold, send or
store a shuffled array; `permute_near` is the same for media on which near reads are cheap and far ones are not.
Any worker of any job can ask for any position at once, which is what makes one global order for every number of
nodes and resuming in mid-epoch at another one possible.
When: always, through `EpochOrder`.
How: a Feistel network over b = ceil(log2 n) bits, its halves as equal as b allows and never above 32 bits, with
a multiply-xorshift round function keyed by sha256; an output outside 0..n-1 is sent through again until it
falls inside ("cycle walking"), which keeps it a bijection and takes less than two passes a position on average.
Cost: 10 to 45 ns a position in blocks of 65,536 or more (worst where n is just above a power of two), memory
O(1) in n; about 150 µs for a block of any smaller size.
Source: Luby and Rackoff, "How to construct pseudorandom permutations", 1988 (four rounds make a permutation
hard to tell from a random one; six are used here because the halves of a small n have few bits); Black and
Rogaway, "Ciphers with arbitrary finite domains", 2002 (cycle walking).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
BLOCK = 65_536
WINDOW = 16  # blocks whose samples are mixed
_CHUNK = 8_192  # positions at a time: four uint32 scratch arrays of 32 KiB stay in the second-level cache
_MIN_BITS = 6  # below that the halves are too small to reach every order of 2, 3 or 4 samples equally often
_MAX = 2**63

Samples = NDArray[np.int64]
_Words = NDArray[np.uint32]


def order_key(source: str, seed: int, epoch: int) -> int:
    """The key of one epoch's permutation: 256 bits of sha256 over the source's key, the seed and the epoch.

    Never `seed + epoch`: with that, epoch 1 of seed 0 would be epoch 0 of seed 1.
    """
    return int.from_bytes(hashlib.sha256(f"tamis order 1\n{source}\n{seed}\n{epoch}".encode()).digest(), "big")


def permute(positions: Samples, n: int, key: int) -> Samples:
    """Where each position's sample lies: a permutation of 0..n-1 chosen by the key.

    Args:
        positions: int64 [P], any of 0..n-1 in any order, repeats allowed.
        n: how many there are in all, 0 to 2^63.
        key: any non-negative integer; see `order_key`.

    Returns:
        int64 [P], `out[i]` is the index that stands at `positions[i]`.

    Raises:
        ValueError: n out of range, or a position outside 0..n-1.
    """
    if not 0 <= n <= _MAX:
        raise ValueError(f"n is {n}: expected 0 to 2^63 samples.")
    positions = np.ascontiguousarray(positions, dtype=np.int64)
    if positions.size and not (int(positions.min()) >= 0 and int(positions.max()) < n):
        raise ValueError(f"positions run from {positions.min()} to {positions.max()}: expected 0 to {n - 1}.")
    if n <= 1:
        return np.zeros_like(positions)
    return _Feistel.of(n, key).walk(positions, n)


@dataclass(frozen=True)
class _Feistel:
    """A keyed bijection of 0 .. 2^(left + right) - 1."""

    left: int  # bits of the high half
    right: int  # bits of the low half, left or left + 1
    keys: tuple[tuple[np.uint32, np.uint32], ...]  # (added, multiplied), one pair a round

    @classmethod
    def of(cls, n: int, key: int) -> "_Feistel":
        bits = max(_MIN_BITS, (n - 1).bit_length())
        head = key.to_bytes(max(32, (key.bit_length() + 7) // 8), "big")
        words = [int.from_bytes(hashlib.sha256(head + bytes([r])).digest()[:8], "big") for r in range(ROUNDS)]
        # An odd multiplier loses nothing: x -> x * odd is a bijection of 32-bit words.
        keys = tuple((np.uint32(w & 0xFFFFFFFF), np.uint32((w >> 32) | 1)) for w in words)
        return cls(bits // 2, bits - bits // 2, keys)

    def walk(self, positions_P: Samples, n: int) -> Samples:
        """Applies the bijection until every value is below n; those outside go again together."""
        values = self.apply(positions_P)
        outside = np.flatnonzero(values >= n)
        while outside.size:
            again = self.apply(values[outside])
            values[outside] = again
            outside = outside[again >= n]
        return values

    def apply(self, values_P: Samples) -> Samples:
        """The bijection itself, a chunk at a time."""
        out = np.empty(values_P.shape, np.int64)
        for a in range(0, values_P.size, _CHUNK):
            out[a : a + _CHUNK] = self._apply_chunk(values_P[a : a + _CHUNK])
        return out

    def _apply_chunk(self, values_P: Samples) -> Samples:
        high = (values_P >> self.right).astype(np.uint32)
        low = values_P.astype(np.uint32)  # the cast keeps the low 32 bits
        low &= np.uint32((1 << self.right) - 1)
        scratch, shifted = np.empty_like(low), np.empty_like(low)
        # Halves of unequal size take turns: each round changes the one from a function of the other.
        for number, (added, multiplied) in enumerate(self.keys):
            source, target = (low, high) if number % 2 == 0 else (high, low)
            bits = self.left if number % 2 == 0 else self.right
            _mix(source, added, multiplied, scratch, shifted)
            scratch >>= np.uint32(32 - bits)  # the high bits of a product are the well mixed ones
            target ^= scratch
        return (high.astype(np.int64) << self.right) | low


def _mix(source: _Words, added: np.uint32, multiplied: np.uint32, out: _Words, shifted: _Words) -> None:
    """out = a keyed hash of each 32-bit word, in place: add, multiply, fold the high half down, multiply."""
    np.add(source, added, out=out)
    np.multiply(out, multiplied, out=out)
    np.right_shift(out, np.uint32(15), out=shifted)
    np.bitwise_xor(out, shifted, out=out)
    np.multiply(out, np.uint32(0x2C1B3C6D), out=out)
    np.right_shift(out, np.uint32(13), out=shifted)
    np.bitwise_xor(out, shifted, out=out)
    np.multiply(out, np.uint32(0x297A2D39), out=out)


def permute_near(positions: Samples, n: int, key: int, near: int) -> Samples:
    """A permutation that keeps what is read in a while close together: blocks are shuffled, then samples in a window.

    0..n-1 is cut into blocks of `near`, which are put in a keyed order; each `WINDOW` of them that follow each other in
    it are a window, inside which every sample may stand anywhere. So a window's samples come from `WINDOW` places that
    lie anywhere in 0..n-1, and no order by class shows through, as it would if whole blocks were read one by one. What
    does not fill a block comes last; a keyed rotation makes that other samples each epoch.

    Args, returns and errors as `permute`; `near` is at least 1. Up to `near` samples make one block: that is `permute`.
    """
    positions = np.ascontiguousarray(positions, dtype=np.int64)
    full = n // near  # whole blocks
    within, between, turn = (order_key(f"{part} {key}", near, 0) for part in ("within", "between", "turn"))
    out = np.empty_like(positions)
    tail = positions >= full * near
    out[tail] = full * near + permute(positions[tail] - full * near, n - full * near, within)
    windows = np.where(tail, -1, positions // (near * WINDOW))
    for window in np.unique(windows[windows >= 0]).tolist():
        here = windows == window
        first = window * WINDOW
        blocks = permute(np.arange(first, min(first + WINDOW, full)), full, between)
        inside = permute(positions[here] - first * near, len(blocks) * near, within + window + 1)
        block, rest = np.divmod(inside, near)
        out[here] = blocks[block] * near + rest
    return (out + turn % max(n, 1)) % max(n, 1)


@dataclass(frozen=True)
class EpochOrder:
    """The order of one epoch over n samples.

    Args:
        source: content key of what is read (a selection's or a dataset's).
        n: how many samples the epoch has.
        seed: the job's seed.
        epoch: the epoch's number, from 0.
        shuffle: False keeps 0, 1, 2, ...
        near: None lets every sample stand anywhere; a number shuffles blocks of so many, and then windows of blocks.
    """

    source: str
    n: int
    seed: int
    epoch: int
    shuffle: bool = True
    near: int | None = None

    def at(self, positions: Samples) -> Samples:
        """The index that stands at each position; positions at or beyond n begin again at the front.

        Args:
            positions: int64 [P], non-negative.

        Returns:
            int64 [P], each in 0..n-1.
        """
        wrapped = np.asarray(positions, np.int64)
        if self.n and wrapped.size and int(wrapped.max()) >= self.n:
            wrapped = wrapped % self.n
        if not self.shuffle:
            return wrapped
        key = order_key(self.source, self.seed, self.epoch)
        return permute(wrapped, self.n, key) if self.near is None else permute_near(wrapped, self.n, key, self.near)

    def blocks(self, start: int = 0, stop: int | None = None, step: int = 1) -> Iterator[Samples]:
        """The indices at positions start, start + step, ... below stop, in blocks of at most 65,536.

        `blocks(rank, None, world)` is one rank's share. Memory is one block.
        """
        stop = self.n if stop is None else stop
        for a in range(start, stop, BLOCK * step):
            yield self.at(np.arange(a, min(a + BLOCK * step, stop), step, dtype=np.int64))
