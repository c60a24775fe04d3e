"""Write the artefact of the present store format: python tests/formats/make_artefact.py

It is made once, when a format is released, and kept for ever: every later tamis must open it. An artefact that is there
is not written again; remove it by hand if the format was never released.
"""

import io
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from tamis.store import Store
from tamis.store.selections import Request, RoundData
from tamis.store.store import FORMAT

HERE = Path(__file__).parent
TRAIN, SCORE, LOST = "7ea1" + "0" * 28, "5c0e" + "0" * 28, "dead" + "0" * 28


def write(path: Path) -> Store:
    """A store with something of everything: two versions, two rounds, a second name, scores that are not finite,
    losses of two epochs, a failed run, a blob, and what a killed writer left behind."""
    store = Store.create(path)
    first = _shard(path / "shards" / "three-000000.tar", ["apple", "pear", "plum"], [1, 0, 1])
    second = _shard(path / "shards" / "three-000001.tar", ["fig", "sub/date"], [0, 1])
    three = store.datasets.add("three", [first], classes=["stone-free", "with a stone"])
    longer = store.datasets.add("three", [second], append=True)
    store.runs.begin(kind="score", key=SCORE, dataset=three.ref, model="hand", config={"epochs": 2})
    store.runs.put_scores(SCORE, {"entropy": [0.25, np.nan, 0.5], "margin": [1.0, 2.0, 3.0]}, [0, 1, 2])
    store.runs.finish(SCORE, metrics={"not_finite": 1}, seconds={"score": 1.5})
    rounds = [RoundData([2, 0], [1.0, 0.5], objective=0.125), RoundData([1], first_epoch=3)]
    _publish(store, three, "pick", 0, [SCORE], rounds)
    _publish(store, longer, "pick", 1, [], [RoundData([4, 3, 0])])
    _publish(store, longer, "best", 1, [], [RoundData([4, 3, 0])])
    blob = store.blobs.put(b"the weights of a model\n")
    store.runs.begin(kind="train", key=TRAIN, dataset=three.ref, model="hand", selection=None)
    for epoch in range(2):
        store.runs.put_losses(TRAIN, epoch, [0, 1, 2], [0.5, 1.5, 2.5 - epoch], max(0, epoch - 1), selected=[1, 0, 1])
    store.runs.finish(TRAIN, metrics={"accuracy": 0.75}, seconds={"train": 2.0}, model=blob)
    store.runs.begin(kind="train", key=LOST, dataset=longer.ref)
    store.runs.fail(LOST, "no luck")
    lost = store.tables.read("selection_samples").slice(0, 1)
    store.tables.append("selection_samples", lost.set_column(5, "attempt", [["killed" + "0" * 26]]))
    return store


def _publish(store: Store, dataset, name: str, seed: int, inputs: list[str], rounds: list[RoundData]) -> None:
    request = Request(dataset, "by-hand", 1, {"why": "to keep"}, inputs, seed)
    store.selections.publish(request, name, rounds, seconds=0.5, stats={"k": 2})


def _shard(path: Path, keys: list[str], labels: list[int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, label in zip(keys, labels, strict=True):
            for extension, content in (("ppm", b"P6 1 1 255\n" + key[:3].encode()), ("cls", b"%d" % label)):
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def main() -> None:
    kept = HERE / f"store-format-{FORMAT}.zip"
    if kept.exists():
        sys.exit(f"{kept.name} is there already: a released format is kept as it is.")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "store")
        for log in Path(folder).rglob("*.json"):  # a note in it says where it was made, which is nobody's business
            log.write_text(log.read_text().replace(folder, ""))
        shutil.make_archive(str(kept.with_suffix("")), "zip", Path(folder) / "store")
    print(f"{kept.name}: {kept.stat().st_size} bytes")


if __name__ == "__main__":
    main()
