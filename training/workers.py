"""Worker processes for a stream: started, listened to, and gone when the iteration is.

What: `in_workers` reads and decodes in processes and gives their batches in order.
How: torch's DataLoader, whose workers are started by a fork server: they are forks of a clean process, never of one in
which threads of other libraries hold locks (Prefect's, an object store's), which a plain fork would copy locked.
Cost: 3 to 5 s for the first workers of a process, which load torch, and a tenth of a second for later ones; about 4 µs
a raw sample for the way between processes.
"""

from collections.abc import Generator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from tamis.training.errors import WorkerDied


def in_workers(dataset: IterableDataset[Any], workers: int) -> Generator[Any]:
    """What a dataset yields in each of some worker processes, in turn.

    Args:
        dataset: its iteration shares the work out by `get_worker_info`.
        workers: processes.

    Raises:
        WorkerDied: one was killed, by the user or for want of memory.
    """
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context="forkserver")
    batches = iter(loader)
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise WorkerDied(
                    f"A worker process of the stream died ({str(error).splitlines()[0]}): it was killed, or the "
                    "machine ran out of memory. Go on from the last state, with fewer workers if it was memory."
                ) from error
            yield batch
    finally:
        del batches, loader
