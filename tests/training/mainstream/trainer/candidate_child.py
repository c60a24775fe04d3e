"""Trains one candidate with a checkpoint after each epoch, and kills itself at the end of an epoch.

Arguments: the store, the candidate's config as JSON, branch, epoch.
"""

import os
import signal
import sys

import torch

from tamis.store import Store
from tamis.training.mainstream.trainer import checkpoints
from tamis.training.mainstream.trainer.building import Build
from tamis.training.mainstream.trainer.config import PackageConfig


def main() -> None:
    store, config, branch, epoch = sys.argv[1:]

    def die(done: int, _: int) -> None:
        if done == int(epoch):
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)  # as in the tests: sums depend on their number
    checkpoints.EVERY = 0.0
    Build(Store.open(store), PackageConfig.model_validate_json(config)).train(int(branch), progress=die)


if __name__ == "__main__":
    main()
