"""Datasets: named, versioned, immutable lists of samples that lie in WebDataset shards.

A sample is a number, dense from 0, given in the order of shards and of members in a shard. Appending shards makes the
next version; the numbers that were given stay. Shards are indexed in place and never rewritten.
"""

from tamis.store.datasets.catalog import Datasets
from tamis.store.datasets.dataset import Added, Dataset, Locations
from tamis.store.shards.indexing import AUTO, Progress
from tamis.store.shards.shards import Shard

__all__ = ["AUTO", "Added", "Dataset", "Datasets", "Locations", "Progress", "Shard"]
