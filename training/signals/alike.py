"""Which dataset versions have the same content under other names: what was computed of one is there for all."""

from tamis.store import Store
from tamis.store.datasets import Dataset


def alike(store: Store, dataset: Dataset) -> frozenset[str]:
    """The references ("name@version") of a version and of all with the same content, as their keys tell.

    Runs are found by content and keep the reference that they were first asked for.
    """
    rows = store.datasets.all()
    return frozenset(
        {dataset.ref} | {f"{row['dataset']}@{row['version']}" for row in rows if row["key"] == dataset.key}
    )
