"""The tasks of a pass: every shard once and in order, about as many samples each, and no more tasks than pay."""

from hypothesis import given
from hypothesis import strategies as st

from tamis.flows.passes.grouping import LEAST, groups
from tamis.store.datasets import Shard


def shards(counts: list[int]) -> list[Shard]:
    firsts = [sum(counts[:i]) for i in range(len(counts))]
    return [
        Shard(f"/{i}.tar", 1, None, "", 0, first, n) for i, (first, n) in enumerate(zip(firsts, counts, strict=True))
    ]


@given(st.lists(st.integers(1, 3 * LEAST), max_size=60), st.integers(1, 40), st.data())
def test_each_shard_is_in_one_group(counts: list[int], width: int, data: st.DataObject) -> None:
    numbers = sorted(data.draw(st.sets(st.integers(0, max(len(counts) - 1, 0))))) if counts else []
    made = groups(shards(counts), numbers, width)
    assert [number for group in made for number in group] == numbers
    assert all(made)
    if numbers:
        assert len(made) >= min(width, len(numbers)), "a worker has nothing to do"
        assert len(made) <= max(64, 4 * width)


def test_small_shards_share_a_task_and_workers_share_small_datasets() -> None:
    few = shards([300] * 10)
    assert groups(few, range(10), 1) == [list(range(10))]
    assert groups(few, range(10), 2) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert groups(few, [], 2) == []


def test_a_large_pass_has_four_tasks_a_worker() -> None:
    many = shards([10_000] * 4_000)
    assert len(groups(many, range(4_000), 1)) == 64
    sizes = [len(group) for group in groups(many, range(4_000), 100)]
    assert sizes == [10] * 400


def test_samples_count_not_shards() -> None:
    uneven = shards([8 * LEAST, LEAST, LEAST, LEAST, LEAST, LEAST, LEAST, LEAST, LEAST])
    assert groups(uneven, range(9), 2)[0] == [0]
