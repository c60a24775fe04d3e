"""Adding videos as a dataset: the question is looked up first, then frames are packed and published.

How: videos (by their digests), cameras, starts, rate, format and the builds of decoder and encoder are the question;
its digest is in the names of the shards and, as `source_key`, in the dataset's origin. The same question is answered by
the version that it made, and nothing is decoded. Other builds give other pixels, perhaps, so that a dataset of another
build is never taken for the answer: that is said, and the frames can go under another name.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.store.datasets import Dataset, Datasets
from tamis.store.datasets.frames import VIDEO, Footage
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardError
from tamis.store.keys import canonical, check_name, key_of
from tamis.store.shards.skipped import Skipped
from tamis.store.video.encoding import ENCODERS, build
from tamis.store.video.packing import Packed, Packing, Progress
from tamis.store.video.sources import Placed, Source, digest_of, place, rate_of, start_of


@dataclass(frozen=True)
class AddedVideos:
    """What adding videos came to.

    Attributes:
        dataset: the version.
        skipped: what of the videos could not be read, or is otherwise to be said.
        cached: whether it was there already.
    """

    dataset: Dataset
    skipped: tuple[Skipped, ...]
    cached: bool


def add_videos(
    datasets: Datasets,
    name: str,
    sources: Sequence[Source],
    out: str | os.PathLike[str],
    *,
    fps: str = "1",
    kind: str = "jpg",
    start: str = "0",
    per_shard: int = 5000,
    append: bool = False,
    progress: Progress | None = None,
) -> AddedVideos:
    """Pack frames of videos and publish them as a dataset, or as the next version of one.

    Args:
        datasets: of the store.
        name: the dataset's name.
        sources: the videos and their cameras.
        out: folder of the shards.
        fps: frames a second (1, 0.5, 30000/1001), or "all".
        kind: "jpg" or "png".
        start: when each video begins on its camera's time line: seconds, or "after" the one before it.
        per_shard: frames in a shard.
        append: add to the newest version; videos that it has already at this rate and format are passed over.
        progress: called with (seconds of video done, seconds).

    Raises:
        DatasetExists: the name has other content, or is of another build of the decoder.
        DatasetNotFound: there is none to append to.
        ShardError: a video cannot be read, two of a camera overlap, or PyAV is missing.
        StoreFull: the medium is full; packing goes on when it is repeated.
    """
    check_name(name, "dataset")
    rate, digests = rate_of(fps), [digest_of(source.path) for source in sources]
    start_of(start)
    if kind not in ENCODERS or per_shard < 1:
        raise ShardError(f"Format {kind!r}, {per_shard} frames a shard: expected {' or '.join(ENCODERS)}, 1 or more.")
    settings: dict[str, Any] = {
        "fps": "all" if rate is None else str(rate), "format": kind, "per_shard": per_shard, "build": build(kind),
    }  # fmt: skip
    base = _base(datasets, name, append, kind)
    made = [] if base is None else [json.loads(o["params"]) for o in base.origins() if o["kind"] == VIDEO]
    if base is not None and append:
        known = {(v["digest"], v["camera"]) for one in made if _alike(one, settings) for v in one["videos"]}
        pairs = [(s, d) for s, d in zip(sources, digests, strict=True) if (d, s.camera) not in known]
        if not pairs:
            return AddedVideos(base, (), True)
        sources, digests = [s for s, _ in pairs], [d for _, d in pairs]
    placed = place(sources, digests, start, [v for one in made for v in one["videos"]] if append else [])
    question = settings | {"videos": [video.as_json() for video in placed]}
    key = key_of(VIDEO, question)
    if base is not None and not append:
        return AddedVideos(_same(datasets, base, question, key), (), True)
    packing = Packing(placed, Path(out).expanduser().absolute() / f"{name}-{key[:12]}", rate, kind, per_shard, progress)
    packed = packing.run()
    origin = {"kind": VIDEO, "source": "", "source_key": key, "params": canonical(question)}
    footage = Footage(origin, {str(path): rows for path, rows in packed.rows.items()})
    added = datasets.index(name, list(packed.rows), image=kind, label=None, append=append, footage=footage)
    packing.remove_notes()
    return AddedVideos(added.dataset, _said(placed, packed), False)


def _base(datasets: Datasets, name: str, append: bool, kind: str) -> Dataset | None:
    """The newest version of the name, looked at before anything is decoded."""
    try:
        base = datasets.get(name)
    except DatasetNotFound:
        if append:
            raise
        return None
    if append and (base.image != kind or base.label is not None):
        raise ShardError(
            f"{base.ref} has {base.image} images and {base.label or 'no'} labels: frames in {kind} without labels "
            "cannot be appended. Choose its format (--format), or another name."
        )
    return base


def _alike(made: dict[str, Any], settings: dict[str, Any]) -> bool:
    return all(made[name] == settings[name] for name in ("fps", "format", "build"))


def _same(datasets: Datasets, base: Dataset, question: dict[str, Any], key: str) -> Dataset:
    """The first version, where it is the answer."""
    first = datasets.get(f"{base.name}@1")
    origin = first.origin()
    if origin is not None and origin["source_key"] == key:
        return first
    made: dict[str, Any] = {} if origin is None or origin["kind"] != VIDEO else json.loads(origin["params"])
    if made | {"build": None} == question | {"build": None}:
        other = ", ".join(f"{k} {v}" for k, v in made["build"].items() if question["build"].get(k) != v)
        raise DatasetExists(
            f"Dataset {base.name!r} has the frames of these videos as another build decodes or encodes them ({other}); "
            "pixels may differ. Use it as it is, or choose another name to decode anew."
        )
    raise DatasetExists(
        f"Dataset {base.name!r} already exists (version {base.version}, {base.samples} samples) and has other content. "
        "Nothing was decoded: append the videos (--append), or choose another name."
    )


def _said(placed: Sequence[Placed], packed: Packed) -> tuple[Skipped, ...]:
    damaged = [f"{placed[i].source.video}: {'; '.join(said[:5])}" for i, said in packed.damage.items() if said]
    untimed = [placed[i].source.video for i in sorted(packed.untimed)]
    found = [
        Skipped("videos damaged or incomplete, whose readable frames were kept", len(damaged), tuple(damaged[:3])),
        Skipped("videos without time stamps, timed by frame number and average rate", len(untimed), tuple(untimed[:3])),
    ]
    return tuple(one for one in found if one.count)
