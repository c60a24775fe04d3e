"""Who looks at which frame: the frames of a dataset of that rate; sharers together, as the scheduler's costs count."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from videokit import video

from tamis.store.video.sampling import Told, pictures
from tamis.training.mainstream.runner.rates import Member, Rates, leaders

RATES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0)


def looks(members: list[Member], times: list[Fraction]) -> dict[str, list[Fraction]]:
    rates, found = Rates(members), {one.name: list[Fraction]() for one in members}
    for seconds in times:
        for name in rates.due(seconds):
            found[name].append(seconds)
    return found


@pytest.mark.parametrize("rate", ["1", "3", "4", "7", "10", "25", "1/3"])
def test_an_application_looks_at_the_frames_of_a_dataset_of_its_rate(tmp_path: Path, rate: str) -> None:
    path = video(tmp_path / "a.mp4", 60)
    every = [seconds for seconds, _ in pictures(str(path), None, Told())]
    sampled = [seconds for seconds, _ in pictures(str(path), Fraction(rate), Told())]
    assert looks([Member("a", "base", 0, float(Fraction(rate)))], every)["a"] == sampled


def test_a_slower_sharer_waits_for_the_faster_one() -> None:
    """At 30 frames a second, 4 a second alone would look at .267 s, where the one of 10 a second does not run."""
    times = [Fraction(i, 30) for i in range(60)]
    together = looks([Member("fast", "t", 2, 10.0), Member("slow", "t", 1, 4.0)], times)
    alone = looks([Member("fast", "t", 2, 10.0), Member("slow", "t", 0, 4.0)], times)
    assert set(together["slow"]) <= set(together["fast"])
    assert not set(alone["slow"]) <= set(alone["fast"])
    assert [len(together[name]) for name in ("fast", "slow")] == [20, 8]


def test_leaders_by_hand() -> None:
    members = [
        Member("a", "t", 1, 10.0), Member("b", "t", 3, 6.0), Member("c", "t", 3, 4.0), Member("d", "t", 0, 1.0),
        Member("e", "other", 3, 2.0), Member("f", "t", 2, 5.0),
    ]  # fmt: skip
    assert leaders(members) == {"a": None, "b": "a", "c": "b", "d": None, "e": None, "f": "b"}


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(RATES)), min_size=1, max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=80),
)
def test_a_segment_runs_when_the_fastest_of_its_sharers_does(kinds: list[tuple[int, float]], steps: list[int]) -> None:
    """Whatever frames there are: the cost model has each segment run at the highest rate of those that share it."""
    members = [Member(f"a{i}", "t", branch, fps) for i, (branch, fps) in enumerate(kinds)]
    times = [Fraction(sum(steps[:i]), 30) for i in range(len(steps))]
    found = looks(members, times)
    for segment in range(4):
        sharers = [one for one in members if one.branch > segment]
        if sharers:
            fastest = max(sharers, key=lambda one: one.fps)
            assert {at for one in sharers for at in found[one.name]} == set(found[fastest.name])


def test_points_that_were_passed_over_are_made_up_for_once() -> None:
    assert looks([Member("a", "t", 0, 10.0)], [Fraction(0), Fraction(5), Fraction(51, 10)])["a"] == [
        Fraction(0), Fraction(5), Fraction(51, 10),
    ]  # fmt: skip
    rates = Rates([Member("a", "t", 0, 1.0)])
    assert [bool(rates.due(Fraction(t, 10))) for t in (0, 39, 40, 41, 50)] == [True, True, True, False, True]


def test_a_new_schedule_goes_on_where_the_old_one_was() -> None:
    old = Rates([Member("a", "t", 0, 1.0), Member("b", "t", 0, 1.0)])
    assert old.due(Fraction(4)) == ["a", "b"]
    new = Rates([Member("a", "t", 0, 1.0), Member("c", "t", 0, 1.0)], old.last)
    assert new.due(Fraction(41, 10)) == ["c"]
    assert new.due(Fraction(5)) == ["a", "c"]
