"""Runs plan.json on a.mp4 in a folder, slowly, and prints how many frames are done: watch_child.py FOLDER."""

import sys
import time
from pathlib import Path

import torch

from tamis.store import Store
from tamis.training.mainstream.runner.deploying import Deployer
from tamis.training.mainstream.runner.results import Recorder
from tamis.training.mainstream.runner.running import Options, Runner
from tamis.training.mainstream.runner.sources import Video
from tamis.training.mainstream.scheduling.plan import read_plan

if __name__ == "__main__":
    folder, done = Path(sys.argv[1]), 0
    store = Store.open(folder / "store")
    schedule = Deployer(store, torch.device("cpu")).deploy(read_plan(folder / "plan.json"))

    def progress(_: float) -> None:
        global done
        done += 1
        print(done, flush=True)
        time.sleep(0.02)

    recorder = Recorder(store, "watched", source="a.mp4", dataset="", config={}, seconds=0.1)
    Runner(schedule, Video(str(folder / "a.mp4")), Options(), recorder=recorder, progress=progress).run()
