"""A pass that the tests start: python boxes_child.py STORE WEIGHTS FUNCTION [BLOCK]; prints the run's key."""

import sys

from tamis.store import Store
from tamis.training.detection import detecting
from tamis.training.detection.detecting import Cost, Question, compute, finish
from tamis.training.detection.detector import find_detector


def main(store: str, weights: str, function: str, block: str = str(detecting.BLOCK)) -> None:
    detecting.BLOCK = int(block)
    opened = Store.open(store)
    dataset = opened.datasets.get("frames")
    asked = Question(opened, dataset, find_detector(opened, f"blob_detector:{function}", weights=weights))
    compute(asked, range(len(dataset.shards)), device="cpu")
    print(finish(asked, ("bright", "dim"), Cost(0, 0), device="cpu").key)


if __name__ == "__main__":
    main(*sys.argv[1:])
