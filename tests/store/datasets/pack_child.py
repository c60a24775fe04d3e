"""A process of the packing tests: packs a folder into a store, and may be made to die at a moment.

python pack_child.py STORE NAME FOLDER OUT PER_SHARD [dies after so many links]
"""

import os
import signal
import sys

from tamis.store import Store
from tamis.store.datasets.packing import pack_dataset, picture_samples
from tamis.store.shards import writing
from tamis.store.shards.folders import find_pictures

store, name, folder, out, per_shard, *moment = sys.argv[1:]
links = 0
link = os.link


def dying(source: os.PathLike[str], target: os.PathLike[str]) -> None:
    global links
    if moment and links == int(moment[0]):
        os.kill(os.getpid(), signal.SIGKILL)
    links += 1
    link(source, target)


writing.os.link = dying
pictures = find_pictures(folder)
made = pack_dataset(
    Store.open(store).datasets, name, lambda: picture_samples(pictures), out, per_shard=int(per_shard),
    classes=pictures.classes,
)  # fmt: skip
print(made.ref, made.samples)
