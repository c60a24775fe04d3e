"""Packing frames into shards `PREFIX-000000.tar`, so that a killed packing goes on where it was.

How: beside each shard lies a note (`PREFIX-000000.json`) of whose frames it has and what was wrong so far, written
before the shard gets its name. Where both are there the shard is complete and the prefix says of what (a digest of
videos, rate, format and builds), so that packing goes on behind its last frame, without decoding what is before it.
Two threads encode while the next frames are decoded.
Cost: decoding; memory for `_QUEUE` frames, and 40 bytes for each frame's row.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa

from tamis.store.datasets.frames import ROWS
from tamis.store.errors import ShardError
from tamis.store.roots.roots import reporting_full
from tamis.store.shards.writing import NewShard, remove_abandoned, write_members
from tamis.store.video.encoding import ENCODERS, Pixels
from tamis.store.video.sampling import Told, pictures
from tamis.store.video.sources import Placed

Progress = Callable[[int, int], None]
_QUEUE = 8  # frames between decoding and writing


@dataclass
class Packed:
    """What packing came to.

    Attributes:
        rows: of each shard, in order, its rows of the table `frames`.
        damage: what is wrong with a video, by its place.
        untimed: places of the videos that have no time stamps.
    """

    rows: dict[Path, pa.Table] = field(default_factory=dict[Path, pa.Table])
    damage: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    untimed: set[int] = field(default_factory=set[int])


@dataclass(frozen=True)
class _Row:
    """A frame of a video: which, and when in it."""

    number: int
    seconds: Fraction


class Packing:
    """One packing of videos into shards.

    Args:
        videos: on the time lines of their cameras.
        prefix: path and beginning of the shards' names; it stands for these videos and what follows.
        fps: frames a second; None for all.
        kind: "jpg" or "png".
        per_shard: frames in a shard.
        progress: called with (whole seconds of video done, seconds).
    """

    def __init__(
        self, videos: Sequence[Placed], prefix: Path, fps: Fraction | None, kind: str, per_shard: int,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._videos, self._prefix, self._fps, self._kind, self._per_shard = videos, prefix, fps, kind, per_shard
        self._progress, self._packed = progress, Packed()

    def run(self) -> Packed:
        """Write the shards that are not there yet.

        Raises:
            ShardError: there are no frames, or another file has a shard's name.
            StoreFull: the medium is full.
        """
        with reporting_full(str(self._prefix.parent)):
            self._prefix.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self._prefix)
            last = self._known()
            with ThreadPoolExecutor(2) as pool:
                left = self._encoded(pool, last)
                for first in left:
                    self._write(first, islice(left, self._per_shard - 1))
        if not self._packed.rows:
            wrong = "; ".join(f"{self._videos[i].source.video} {d[0]}" for i, d in self._packed.damage.items() if d)
            raise ShardError(f"No frame can be decoded: nothing was packed ({wrong or 'the videos have none'}).")
        return self._packed

    def remove_notes(self) -> None:
        """Once the shards are published: what lies beside them has served."""
        for path in self._packed.rows:
            path.with_suffix(".json").unlink(missing_ok=True)

    def key(self, row: _Row) -> str:
        """A sample's key: camera and milliseconds on its time line."""
        video = self._videos[row.number]
        return f"{video.source.camera}-{int((video.start + row.seconds) * 1000):010d}"

    def _known(self) -> _Row | None:
        """Take up the shards that are complete; the last frame in them."""
        last = None
        while (path := self._path()).is_file() and (text := _read(path.with_suffix(".json"))) is not None:
            note = json.loads(text)
            rows = [_Row(int(number), Fraction(seconds)) for number, seconds in note["rows"]]
            self._packed.damage = {int(i): list(said) for i, said in note["damage"].items()}
            self._packed.untimed = set(note["untimed"])
            self._packed.rows[path] = self._table(rows)
            last = rows[-1]
        return last

    def _encoded(self, pool: ThreadPoolExecutor, last: _Row | None) -> Iterator[tuple[_Row, bytes]]:
        """Frames behind the last one that is there, encoded by the pool in order."""
        waiting: deque[tuple[_Row, Future[bytes]]] = deque()
        for row, pixels in self._decoded(last):
            waiting.append((row, pool.submit(ENCODERS[self._kind], pixels)))
            if len(waiting) >= _QUEUE:
                row, future = waiting.popleft()
                yield row, future.result()
        for row, future in waiting:
            yield row, future.result()

    def _decoded(self, last: _Row | None) -> Iterator[tuple[_Row, Pixels]]:
        total = sum(video.end - video.start for video in self._videos)
        done = Fraction(0)
        before = None if last is None else self.key(last)
        for number, video in enumerate(self._videos):
            if last is None or number >= last.number:
                told = Told()
                after = last.seconds if last is not None and number == last.number else None
                for seconds, pixels in pictures(video.source.path, self._fps, told, after=after):
                    row = _Row(number, seconds)
                    if self._progress is not None:
                        self._progress(min(int(done + seconds), int(total)), max(int(total), 1))
                    if (key := self.key(row)) != before:
                        before = key
                        self._check(video, seconds)
                        yield row, pixels
                self._tell(number, video, told)
            done += video.end - video.start
        if self._progress is not None:
            self._progress(max(int(total), 1), max(int(total), 1))

    def _check(self, video: Placed, seconds: Fraction) -> None:
        """Refuse a video that goes on where another of its camera has begun."""
        at = video.start + seconds
        for other in self._videos if at >= video.end else ():
            if other is not video and other.source.camera == video.source.camera and other.start <= at < other.end:
                raise ShardError(
                    f"{video.source.video} lasts longer than it says ({float(video.end - video.start):g} s) and runs "
                    f"into {other.source.video}, of the same camera {video.source.camera}: give their starts."
                )

    def _tell(self, number: int, video: Placed, told: Told) -> None:
        said = self._packed.damage.setdefault(number, [])
        said += [each for each in told.damage if each not in said]
        whole = video.end - video.start
        if told.untimed:
            self._packed.untimed.add(number)
        if whole - told.end > 1 and not told.untimed:
            said.append(f"ends at {float(told.end):.3f} of {float(whole):.3f} s")

    def _write(self, first: tuple[_Row, bytes], rest: Iterator[tuple[_Row, bytes]]) -> None:
        path, rows = self._path(), list[_Row]()

        def members() -> Iterator[tuple[str, bytes]]:
            yield from (member(row, data) for row, data in (first,))
            yield from (member(row, data) for row, data in rest)

        def member(row: _Row, data: bytes) -> tuple[str, bytes]:
            rows.append(row)
            return f"{self.key(row)}.{self._kind}", data

        with NewShard(path) as shard:
            file: IO[bytes] = shard.file
            write_members(file, members())
            self._note(path, rows)
            shard.publish()
        self._packed.rows[path] = self._table(rows)

    def _note(self, path: Path, rows: list[_Row]) -> None:
        note = {
            "rows": [[row.number, str(row.seconds)] for row in rows],
            "damage": self._packed.damage,
            "untimed": sorted(self._packed.untimed),
        }
        unfinished = path.with_name(f".{path.stem}.json-{os.getpid()}")
        unfinished.write_text(json.dumps(note))
        unfinished.replace(path.with_suffix(".json"))

    def _table(self, rows: list[_Row]) -> pa.Table:
        videos = [self._videos[row.number] for row in rows]
        seconds = [float(video.start + row.seconds) for video, row in zip(videos, rows, strict=True)]
        columns = [[v.source.camera for v in videos], [v.source.video for v in videos], seconds]
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, ROWS, strict=True)], schema=ROWS)

    def _path(self) -> Path:
        return self._prefix.parent / f"{self._prefix.name}-{len(self._packed.rows):06d}.tar"


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:  # another packing of the same videos has finished and removed it, perhaps just now
        return None
