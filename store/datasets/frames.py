"""Which camera took which sample, and when: what a dataset of video frames has beside its shards.

What: the table `frames` has a row for each sample that is a frame of a video; `Frames` is it as arrays. `Footage` is
what packing videos hands to publication: rows by shard, and how they were made (an origin of kind "video").
How: the rows are payload of the version that added the samples, as their places are. A dataset that is derived of
another (`splitting`, `flipping`) has the rows of its samples. Samples that are no frames have none.
Cost: one read of the rows, 20 bytes a frame.

Legend: N samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.shards.shards import Shard
from tamis.store.tables.tables import rows_of

VIDEO = "video"  # the kind of origin
ROWS = pa.schema([("camera", pa.string()), ("video", pa.string()), ("seconds", pa.float64())])


@dataclass(frozen=True)
class Frames:
    """The samples of a dataset on the time lines of their cameras.

    Attributes:
        cameras: their names, in alphabetical order.
        videos: the files' names, in alphabetical order.
        camera_N: [N] place in `cameras`; -1 for samples that are no frames.
        video_N: [N] place in `videos`; -1 likewise.
        seconds_N: [N] on the camera's time line; NaN likewise.
    """

    cameras: tuple[str, ...]
    videos: tuple[str, ...]
    camera_N: npt.NDArray[np.int32]
    video_N: npt.NDArray[np.int32]
    seconds_N: npt.NDArray[np.float64]

    @classmethod
    def of(cls, rows: pa.Table, samples: int) -> "Frames":
        """From rows of the table.

        Args:
            rows: sample, camera, video, seconds, in any order.
            samples: N.
        """
        at = np.asarray(rows["sample"], np.int64)
        cameras, camera_N = _numbered(rows["camera"], at, samples)
        videos, video_N = _numbered(rows["video"], at, samples)
        seconds_N = np.full(samples, np.nan)
        seconds_N[at] = np.asarray(rows["seconds"], np.float64)
        return cls(cameras, videos, camera_N, video_N, seconds_N)

    def rows(self, name: str, attempt: str, samples: npt.ArrayLike | None = None) -> pa.Table:
        """Rows of the table for a derived dataset.

        Args:
            name: of the derived dataset.
            attempt: that writes it.
            samples: which of the samples it has, in its order; None for all.
        """
        chosen = np.arange(len(self.camera_N)) if samples is None else np.asarray(samples, np.int64)
        there = np.flatnonzero(self.camera_N[chosen] >= 0)
        taken = chosen[there]
        columns = {
            "camera": pa.array(self.cameras, pa.string()).take(pa.array(self.camera_N[taken])),
            "video": pa.array(self.videos, pa.string()).take(pa.array(self.video_N[taken])),
            "seconds": self.seconds_N[taken],
        }
        return rows_of("frames", {"dataset": name, "attempt": attempt, "sample": there, **columns}, len(there))


@dataclass(frozen=True)
class Footage:
    """What packing videos hands to publication.

    Attributes:
        origin: columns of `dataset_origins`: kind, source, source_key, params.
        by_shard: of each shard's address, the rows (`ROWS`) of its samples in order.
    """

    origin: Mapping[str, Any]
    by_shard: Mapping[str, pa.Table]

    def rows(self, name: str, shards: Sequence[Shard], attempt: str) -> pa.Table:
        """Rows of the table `frames` for shards that are published."""
        taken = [(shard, self.by_shard[shard.uri]) for shard in shards if shard.uri in self.by_shard]
        columns = pa.concat_tables([ROWS.empty_table(), *(rows for _, rows in taken)]).combine_chunks()
        numbers = [np.arange(shard.first_sample, shard.first_sample + len(rows)) for shard, rows in taken]
        given = {"dataset": name, "attempt": attempt, "sample": np.concatenate([np.empty(0, np.int64), *numbers])}
        return rows_of("frames", given | {c: columns[c] for c in ROWS.names}, len(columns))


def _numbered(names: pa.ChunkedArray, at: npt.NDArray[np.int64], samples: int) -> tuple[tuple[str, ...], Any]:
    """The names there are, and of each sample the place of its name."""
    known, numbers = np.unique(np.asarray(names.to_pylist(), object), return_inverse=True)
    found = np.full(samples, -1, np.int32)
    found[at] = numbers
    return tuple(str(name) for name in known), found
