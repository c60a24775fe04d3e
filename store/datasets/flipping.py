"""Flipping labels: a dataset with label noise of a known share, without copying or rewriting a shard.

What: `flip` draws which samples get another label, and which. The derived dataset has the same shards; its rows in the
index hold the new labels, and everything that reads labels goes by the index. The shards keep the old ones:
`Dataset.outdated` names the member that holds them, which readers refuse, and `tamis selection materialize` replaces.
Source: UniformFlip of Ren et al., "Learning to Reweight Examples for Robust Deep Learning", 2018: a label becomes one
of the *other* classes, each as likely; its own class is never drawn. The share is exact, not a probability for each
sample (A. Jiang, thesis, 2020, section 3.6.4: 10 % of 50,000 are 5,000).
How: the classes are those that some sample has. How a dataset gets other labels stands in `relabelling`. Which samples
were flipped is a comparison with the source, whose name is kept in the table `dataset_origins`.
Cost: one read of the samples' rows and one append; memory for them.

Legend: N samples, F flipped ones, K classes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.store.datasets.dataset import Dataset
from tamis.store.errors import ShardError
from tamis.store.keys import canonical

Ints = npt.NDArray[np.int64]
FLIP = "flip"  # the kind of origin


@dataclass(frozen=True)
class Flips:
    """What was flipped.

    Attributes:
        source: name@version of the dataset with the labels before.
        share: that was asked for.
        seed: of the draws.
        samples: [F] numbers, rising.
        before: [F] their labels in the source.
    """

    source: str
    share: float
    seed: int
    samples: Ints
    before: Ints


def flip(labels_N: npt.ArrayLike, share: float, *, seed: int) -> Ints:
    """Labels of which a share is another class's.

    Args:
        labels_N: class numbers.
        share: of the samples, above 0 and below 1; rounded to whole samples.
        seed: of which samples and which classes.

    Returns:
        [N] the labels, of which round(share * N) differ.

    Raises:
        ShardError: the share or the seed is none, it comes to no sample, there are samples without a class, or fewer
            than two classes.
    """
    old_N = np.asarray(labels_N, np.int64)
    if not (math.isfinite(share) and 0 < share < 1) or seed < 0:
        raise ShardError(
            f"Share {share} with seed {seed}: expected a share above 0 and below 1 (0.1 for 10 %), and a seed of 0 or "
            "more."
        )
    classes_K = np.unique(old_N)
    if len(classes_K) < 2 or classes_K[0] < 0:
        raise ShardError(
            f"{len(classes_K)} class{'es' * (len(classes_K) != 1)} (first: {classes_K[:1].tolist()}) among "
            f"{len(old_N)} labels: expected class numbers from 0, of two classes or more, to flip between."
        )
    count = math.floor(share * len(old_N) + 0.5)
    if count == 0:
        raise ShardError(f"A share of {share:g} of {len(old_N)} samples is none of them: give a larger share.")
    generator = np.random.default_rng(np.random.SeedSequence([seed, *b"flip"]))
    chosen_F = generator.choice(len(old_N), count, replace=False)
    turned_F = np.searchsorted(classes_K, old_N[chosen_F]) + generator.integers(1, len(classes_K), count)
    new_N = old_N.copy()
    new_N[chosen_F] = classes_K[turned_F % len(classes_K)]
    return new_N


def origin_of(source: Dataset, share: float, seed: int, count: int) -> dict[str, Any]:
    """What is kept of how a dataset was made: columns of `dataset_origins`."""
    params = {"share": share, "seed": seed, "flipped": count}
    return {"kind": FLIP, "source": source.ref, "source_key": source.key, "params": canonical(params)}


def flips_of(dataset: Dataset, origin: Mapping[str, Any], source: Dataset) -> Flips:
    """What was flipped in a dataset; samples that were appended since were not."""
    before_N = source.labels()
    samples_F = np.flatnonzero(dataset.labels()[: source.samples] != before_N)
    params = json.loads(origin["params"])
    return Flips(source.ref, float(params["share"]), int(params["seed"]), samples_F, before_N[samples_F])
