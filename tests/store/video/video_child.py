"""Adding a video in a process of its own: python video_child.py STORE VIDEO MOMENT [NUMBER]; prints the dataset's key.

MOMENT is "frame" (killed by SIGKILL at so many frames), "notes" (killed when it is published, before its notes go),
"meet" (begins when NUMBER processes are there) or "whole".
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tamis.store import Store
from tamis.store.video import Source, packing
from tamis.store.video.adding import add_videos


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(store: str, video: str, moment: str, number: str = "0") -> None:
    opened, real, out = Store.open(store), packing.pictures, Path(store).with_name("shards")

    def dying(*given: Any, **more: Any) -> Any:
        for i, each in enumerate(real(*given, **more)):
            if i == int(number):
                kill()
            yield each

    if moment == "frame":
        packing.pictures = dying
    elif moment == "notes":
        packing.Packing.remove_notes = kill
    elif moment == "meet":
        Path(store).with_name(f"here-{os.getpid()}").touch()
        until = time.monotonic() + 60
        while len(list(Path(store).parent.glob("here-*"))) < int(number) and time.monotonic() < until:
            time.sleep(0.005)
    made = add_videos(opened.datasets, "site", [Source(video, "north")], out, fps="all", per_shard=8)
    print(made.dataset.key, made.dataset.ref)


if __name__ == "__main__":
    main(*sys.argv[1:])
