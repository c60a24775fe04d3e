"""Answers that a package keeps, replayed at lower rates on the video it was measured on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curvekit import people
from footage import footage

from tamis.store import Store
from tamis.store.relabelling import relabel
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.mainstream.trainer.evaluating import pack_hits
from tamis.training.reports.mainstream.replaying import profiled

HITS = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]  # of the later half: five frames of north, five of south


def test_recall_at_lower_rates(store: Store, tmp_path: Path) -> None:
    """Two frames a second. Events: frames 1 to 3 of north's later half, 0 and 1 of south's, of which none is a hit."""
    footage(store, tmp_path)
    sql = "select sample, sample in (1, 2, 6, 7, 8, 11, 12, 15, 16) as label from frames where dataset = 'site'"
    marked = relabel(store, "site", sql=sql, classes=["no", "yes"], name="marked")
    store.datasets.split(marked.ref, {"train": 0.5, "later": 0.5}, by_time=True)
    config = PackageConfig(
        name="people", dataset="marked-train@1", evaluate_on="marked-later@1", base="mobilenet_v2", event="yes",
        weights="sha256:0", image_size=32, block=1.0, validation=0.5,
    )  # fmt: skip
    package = people(store, config=config.model_dump(mode="json"))
    hits = pack_hits(np.array(HITS, bool))
    candidate = replace(package.candidates[1], metrics={"hits": hits, "held": 10})
    found = profiled(store, package, candidate)
    assert found is not None
    assert found.events == 2
    assert found.fps == pytest.approx((2, 1, 2 / 3, 0.5, 0.4))
    assert found.recall == pytest.approx((1 / 2, 1 / 4, 1 / 6, 1 / 8, 1 / 10))  # one event of two, one beginning of k
    assert profiled(store, package, package.candidates[1]) is None  # it kept no answers
    assert profiled(store, package, replace(candidate, metrics={"hits": hits, "held": 9})) is None
    gone = replace(package, config=config.model_copy(update={"dataset": "other@1"}).model_dump(mode="json"))
    assert profiled(store, gone, candidate) is None
