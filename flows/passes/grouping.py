"""How many tasks the shards of a pass become.

What: `groups` cuts them into runs of neighbours with about as many samples each.
How: a task costs 5 ms on a Prefect server and .16 s on a cluster, and loads the model; a killed one loses no more than
the shard that it was at. So a task has at least `LEAST` samples where every worker has one anyway, and there are no
more than four a worker (or 64), so that the last to end are waited for a quarter of a worker's time at the most.
"""

from collections.abc import Sequence

from tamis.store.datasets import Shard

LEAST = 8192  # samples a task: some seconds of a small network on one core
_MOST, _SHARE = 64, 4  # tasks, in all and a worker


def groups(shards: Sequence[Shard], numbers: Sequence[int], width: int = 1) -> list[list[int]]:
    """Cut shards into groups, each for a task.

    Args:
        shards: all shards of a dataset.
        numbers: of those that have to be done, ascending.
        width: tasks at once.

    Returns:
        The numbers in their order; no group is empty.
    """
    counts = [shards[number].count for number in numbers]
    left = sum(counts)
    wanted = min(max(left // LEAST, width), max(_MOST, _SHARE * width), len(numbers))
    found, begin = list[list[int]](), 0
    for more in range(wanted, 0, -1):
        end, taken = begin + 1, counts[begin]
        while end <= len(numbers) - more and (more == 1 or taken + counts[end] / 2 < left / more):
            taken += counts[end]
            end += 1
        found.append(list(numbers[begin:end]))
        left, begin = left - taken, end
    return found
