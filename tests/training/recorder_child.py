"""Records two epochs and half of a third under a name, then waits to be killed: python recorder_child.py STORE RUN"""

import sys

import numpy as np

from tamis.training import LossRecorder


def main(store: str, run: str) -> None:
    everyone = np.arange(1498)
    with LossRecorder(store, run, dataset="digits") as recorder:
        for epoch in range(2):
            recorder.add(everyone, np.full(1498, 1.0 + epoch))
            recorder.end_epoch()
        recorder.add(everyone[:700], np.full(700, 9.0))
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
