"""Temporal de-duplication: of neighbouring frames that look alike, only the first.

What: `difference_hashes` makes 64 bits of a frame: of an 8 x 9 grid of mean brightness, whether each cell is brighter
than its left neighbour. `distinct_in_time` keeps a frame whose hash differs from that of the last kept frame of its
camera in more than a threshold of bits.
When: before culling, where a scene stands still: hard frames are hard alike, and a budget of hundreds would go to one
minute. A slow change is noticed, because the comparison is with the frame that was kept, not with the neighbour.
Cost: hashing reads each pixel once, 8 bytes a frame are left; keeping takes .2 µs a frame.
Source: the difference hash is N. Krawetz, "Kind of Like That", 2013. The comparison in time is an addition here.
Legend: N frames of h x w pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.curation.errors import CurationError

THRESHOLD = 4  # bits; noise of a few grey levels turns 0 to 3 in a still scene
_ROWS, _COLUMNS = 8, 9
_BLOCK = 64 << 20  # bytes of sums at a time


def difference_hashes(images_Nhw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The difference hash of each frame.

    Args:
        images_Nhw: grey images [N, h, w], at least 8 rows and 9 columns; small ones will do.

    Returns:
        uint64 [N].

    Raises:
        CurationError: not such images.
    """
    grey = images_Nhw.dtype == np.uint8 and images_Nhw.ndim == 3
    if not grey or images_Nhw.shape[1] < _ROWS or images_Nhw.shape[2] < _COLUMNS:
        raise CurationError(
            f"images are {images_Nhw.dtype} {list(images_Nhw.shape)}; expected grey uint8 [N, h, w] of {_ROWS} x "
            f"{_COLUMNS} pixels or more"
        )
    n, height, width = images_Nhw.shape
    step = max(1, _BLOCK // (8 * height * width))
    parts = [_hashes(images_Nhw[a : a + step]) for a in range(0, n, step)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def distinct_in_time(
    hashes_N: NDArray[np.uint64], *, threshold: int = THRESHOLD, cameras_N: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """The frames to keep.

    Args:
        hashes_N: from `difference_hashes`, uint64 [N], in the order of time, of each camera at least.
        threshold: bits, 0 to 63; frames that differ in more are kept. 0 drops only equal hashes.
        cameras_N: which camera each frame is of, [N]; None: one.

    Returns:
        int64, the kept frames, ascending: the first of each camera among them.

    Raises:
        CurationError: another type, a threshold out of range, or other than one camera a frame.
    """
    if hashes_N.dtype != np.uint64 or hashes_N.ndim != 1:
        raise CurationError(f"hashes are {hashes_N.dtype} {list(hashes_N.shape)}; expected uint64 [N]")
    if not 0 <= threshold <= 63:
        raise CurationError(f"threshold is {threshold}; expected 0 to 63 of the 64 bits")
    cameras = np.zeros(len(hashes_N), np.int64) if cameras_N is None else cameras_N
    if cameras.shape != hashes_N.shape:
        raise CurationError(f"cameras are {list(cameras.shape)}; expected one for each of {len(hashes_N)} frames")
    last, kept = dict[Any, int](), list[int]()
    for frame, (camera, bits) in enumerate(zip(cameras.tolist(), hashes_N.tolist(), strict=True)):
        if camera not in last or (last[camera] ^ bits).bit_count() > threshold:
            last[camera] = bits
            kept.append(frame)
    return np.array(kept, np.int64)


def _hashes(images_nhw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    rows, columns = _edges(images_nhw.shape[1], _ROWS), _edges(images_nhw.shape[2], _COLUMNS)
    sums = np.add.reduceat(images_nhw, rows[:-1], axis=1, dtype=np.int64)
    sums = np.add.reduceat(sums, columns[:-1], axis=2)
    # Cells may differ by a pixel in width: means are compared crosswise, in whole numbers.
    wide = np.diff(columns)
    brighter = sums[:, :, 1:] * wide[:-1] > sums[:, :, :-1] * wide[1:]
    return np.packbits(brighter.reshape(len(sums), -1), axis=1).view(">u8")[:, 0].astype(np.uint64)


def _edges(size: int, parts: int) -> NDArray[np.int64]:
    return np.arange(parts + 1) * size // parts
