"""Other loaders at the job of the streaming benchmarks: the same samples' bytes and labels, shuffled, in one process.

WebDataset reads the shards themselves. litdata, mosaicml-streaming and Lance read copies in formats of their own, which
are written beforehand, once. Each is used in the way that its documentation recommends, and where there are two ways,
in both; passes give the number of samples, so that nobody is measured at less work. A loader that is not installed
has no ways.
"""

import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds
from streamsets import Data

BUFFER = 1_000  # samples that WebDataset's shuffle holds
TAKE = 8_192  # rows of a Lance take: in smaller ones a row costs more

Way = Callable[[], int]


@dataclass
class Peer:
    """A loader.

    Attributes:
        name: of it, and of its version.
        full: ways to read all samples, by name.
        part: ways to read the chosen tenth.
        seconds: what writing its copy of the data took; None where it reads the shards.
        installed: whether it is there.
    """

    name: str
    full: dict[str, Way] = field(default_factory=dict)
    part: dict[str, Way] = field(default_factory=dict)
    seconds: float | None = None
    installed: bool = True


def every(data: Data) -> list[Peer]:
    """All peers, those that are not installed with no ways."""
    made: list[Peer] = []
    for name, make in _MAKERS.items():
        try:
            made.append(make(data))
        except ImportError:
            made.append(Peer(name, installed=False))
    return made


def count(samples: Iterable[object]) -> int:
    number = 0
    for _ in samples:
        number += 1
    return number


def preads(data: Data) -> Peer:
    """The limit of the machine: one call a sample, with places that are in memory and in order before it begins."""
    where = data.dataset.locations()
    files = [os.open(uri, os.O_RDONLY) for uri in data.shards]

    def way(samples: Any) -> Way:
        shard, size, offset = (column[samples].tolist() for column in (where.shard, where.size, where.offset))
        descriptors = [files[number] for number in shard]
        return lambda: count(os.pread(*call) for call in zip(descriptors, size, offset, strict=True))

    shuffled = np.random.default_rng(0).permutation(data.dataset.samples)
    return Peer("one pread a sample", {"": way(shuffled)}, {"": way(data.chosen())})


def webdataset(data: Data) -> Peer:
    keys = frozenset(data.dataset.keys(data.chosen()))
    return Peer(
        f"webdataset {wds.__version__}",
        {"": lambda: count(shuffled(data.shards))},
        {"select": lambda: count(shuffled(data.shards).select(lambda sample: sample["__key__"] in keys))},
    )


def shuffled(shards: list[str]) -> Any:
    """WebDataset over shards: their order and a buffer of samples are shuffled."""
    return wds.WebDataset(shards, shardshuffle=len(shards), empty_check=False).shuffle(BUFFER)


def litdata(data: Data) -> Peer:
    import litdata as module

    def write(folder: Path) -> None:
        module.optimize(
            _image_and_label, data.shards, str(folder), chunk_bytes="64MB", num_workers=1, reorder_files=False,
            keep_data_ordered=True, verbose=False,
        )  # fmt: skip

    folder, seconds = _copied(data, "litdata", write)
    full = module.StreamingDataset(str(folder), shuffle=True)
    single = module.StreamingDataset(str(folder), shuffle=False)
    chosen = data.chosen()
    return Peer(
        f"litdata {module.__version__}",
        {"": lambda: count(full)},
        {
            "ds[i], in order of place": lambda: count(single[i] for i in np.sort(chosen).tolist()),
            "ds[i], shuffled": lambda: count(single[i] for i in chosen.tolist()),
        },
        seconds,
    )


def mosaicml(data: Data) -> Peer:
    import streaming
    from streaming import MDSWriter, StreamingDataset  # a folder of that name is on the path where tests run

    def write(folder: Path) -> None:
        with MDSWriter(out=str(folder), columns={"image": "bytes", "label": "int"}) as writer:
            for image, label in data.members():
                writer.write({"image": image, "label": label})

    folder, seconds = _copied(data, "mosaicml", write)
    streaming.base.util.clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=128)
    order = np.random.default_rng(0).permutation(data.dataset.samples)
    return Peer(
        f"mosaicml-streaming {streaming.__version__}",
        {"": lambda: count(dataset), "ds[i], shuffled": lambda: count(dataset[i] for i in order.tolist())},
        {"ds[i], shuffled": lambda: count(dataset[i] for i in data.chosen().tolist())},
        seconds,
    )


def lance(data: Data) -> Peer:
    import lance as module
    import pyarrow as pa

    def write(folder: Path) -> None:
        images, labels = zip(*data.members(), strict=True)
        module.write_dataset(pa.table({"image": pa.array(images, pa.binary()), "label": labels}), str(folder))

    folder, seconds = _copied(data, "data.lance", write)
    dataset = module.dataset(str(folder))

    def way(samples: Any) -> Way:
        def taken() -> Iterator[bytes]:
            for a in range(0, len(samples), TAKE):
                rows = dataset.take(samples[a : a + TAKE].tolist())
                yield from rows["image"].to_pylist()

        return lambda: count(taken())

    order = np.random.default_rng(0).permutation(data.dataset.samples)
    how = f"take of {TAKE:,}"
    return Peer(f"Lance {module.__version__}", {how: way(order)}, {how: way(data.chosen())}, seconds)


_MAKERS: dict[str, Callable[[Data], Peer]] = {
    "webdataset": webdataset, "litdata": litdata, "mosaicml-streaming": mosaicml, "Lance": lance,
}  # fmt: skip


def _copied(data: Data, name: str, write: Callable[[Path], None]) -> tuple[Path, float]:
    """Where a peer's copy lies, written if an earlier run has not done so, and the seconds that writing took."""
    folder, note = data.folder / name, data.folder / f"{name}.seconds"
    if not note.exists():
        shutil.rmtree(folder, ignore_errors=True)  # half of one, of a run that was interrupted
        started = time.perf_counter()
        write(folder)
        note.write_text(f"{time.perf_counter() - started}\n")
    return folder, float(note.read_text())


def _image_and_label(shard: str) -> Iterator[dict[str, Any]]:
    """What litdata writes of a shard. Each sample's label follows its image there."""
    with tarfile.open(shard) as tar:
        image = b""
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            if member.name.endswith(".cls"):
                yield {"image": image, "label": int(file.read())}
            else:
                image = file.read()
