"""Hits to events by hand, and events against labels: an event found once, false events of a gap counted once."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.judging import Found, Stretch, Verdict, judge_events
from tamis.training.mainstream.runner.noticing import Gap, Noticed, Noticing


def events(hits: str, votes: int, gap: str, step: float = 1.0) -> list[tuple[float, float, float, int, int]]:
    """Looks as text, "x" for a hit: (begins, reported, ends, hits, looks) of each event."""
    noticing, found = Noticing(votes, Gap.of(gap)), list[Noticed | None]()
    for i, look in enumerate(hits):
        found.append(noticing.look(i * step, look == "x", 0.5 + i / 1000)[0])
    found.append(noticing.close())
    return [(e.begins, e.reported, e.ends, e.hits, e.looks) for e in found if e is not None]


@pytest.mark.parametrize(
    ("hits", "votes", "gap", "expected"),
    [
        ("..xx..", 1, "1", [(2, 2, 3, 2, 2)]),
        ("..xx..", 2, "1", [(2, 3, 3, 2, 2)]),
        ("..xx..", 3, "1", []),
        ("x.x.x.", 2, "1", []),  # a run of hits is broken by a miss
        ("xx.x..", 2, "2", [(0, 1, 3, 3, 4)]),  # one hit is enough to go on
        ("xx..xx", 1, "2", [(0, 0, 1, 2, 2), (4, 4, 5, 2, 2)]),
        ("xx..xx", 1, "3", [(0, 0, 5, 4, 6)]),
        ("xx..xx", 1, "3s", [(0, 0, 5, 4, 6)]),
        ("xx..xx", 1, "2.5s", [(0, 0, 1, 2, 2), (4, 4, 5, 2, 2)]),
        ("xxxx", 2, "3", [(0, 1, 3, 4, 4)]),  # open at the end
    ],
)
def test_events_by_hand(hits: str, votes: int, gap: str, expected: list[tuple[float, ...]]) -> None:
    assert events(hits, votes, gap) == expected


@given(st.text("x.", max_size=60), st.integers(1, 4), st.integers(1, 4))
def test_events_are_apart_and_begin_with_enough_hits(hits: str, votes: int, misses: int) -> None:
    found = events(hits, votes, str(misses))
    for begins, reported, ends, count, looks in found:
        assert hits[int(begins) : int(reported) + 1] == "x" * votes
        inside = hits[int(begins) : int(ends) + 1]
        assert (inside.count("x"), len(inside)) == (count, looks)
        assert "." * misses not in inside
    for (*_, ends, _, _), (begins, *_) in pairwise(found):
        assert "." * misses in hits[int(ends) : int(begins)]


def test_a_gap_is_misses_or_seconds() -> None:
    assert (Gap.of("3"), Gap.of("2s"), Gap.of(".5s")) == (Gap(3, None), Gap(None, 2.0), Gap(None, 0.5))
    for bad in ("", "0", "0s", "-1", "2.5", "s", "often", "1e9999s"):
        with pytest.raises(RunnerError, match="closes no event"):
            Gap.of(bad)


LABELS = [
    Stretch(0, 10, False), Stretch(10, 12, True), Stretch(12, 20, False), Stretch(20, 30, True), Stretch(30, 40, False),
]  # fmt: skip


def test_events_against_labels_by_hand() -> None:
    found = [Found(1, 2), Found(3, 4), Found(19, 21), Found(25, 26), Found(29.5, 33)]
    verdict = judge_events(LABELS, found)
    assert verdict == Verdict(events=2, found=1, gaps=3, false=1)  # two false events of one gap count once
    assert (verdict.recall, verdict.precision, verdict.f1) == (0.5, 0.5, 0.5)


def test_edges_of_judging() -> None:
    nothing = judge_events(LABELS, [])
    assert (nothing.recall, nothing.precision, nothing.f1) == (0.0, 0.0, 0.0)
    every = judge_events(LABELS, [Found(12 - 1e-9, 12), Found(20, 20)])
    assert (every.f1, every.false) == (1.0, 0)
    assert judge_events(LABELS, [Found(12, 12)]).found == 0  # the event ends where the gap begins
    assert judge_events(LABELS, [Found(50, 60)]) == Verdict(2, 0, 3, 0)  # nothing is labelled there
    assert judge_events(LABELS, [Found(10, 11)], until=15).recall == 1.0  # what came later was not seen
    endless = [Stretch(0, 5, True), Stretch(5, math.inf, False)]
    assert judge_events(endless, [Found(1e6, 2e6)]) == Verdict(1, 0, 1, 1)
