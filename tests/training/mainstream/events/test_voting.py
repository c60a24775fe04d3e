"""Runs of hits: against all sequences, powers of the transition matrix, and published values."""

from itertools import product

import numpy as np
import pytest

from tamis.training.errors import EventsError
from tamis.training.mainstream.events.chain import Single
from tamis.training.mainstream.events.model import Events, event_scores
from tamis.training.mainstream.events.voting import Runs, run_chance


def _first_run(hits: tuple[bool, ...], votes: int) -> int | None:
    """The look, from 1, that completes a run; None without one."""
    for last in range(votes, len(hits) + 1):
        if all(hits[last - votes : last]):
            return last
    return None


def _chance(hits: tuple[bool, ...], hit: float, c: float) -> float:
    """Of exactly this sequence."""
    after = {True: hit + c * (1 - hit), False: hit * (1 - c)}  # P(hit | hit), P(hit | miss)
    total, chance = 1.0, hit
    for each in hits:
        total *= chance if each else 1 - chance
        chance = after[each]
    return total


CHAINS = [(hit, c) for hit in (0, 0.05, 0.6, 0.97, 1) for c in (0, 0.3, 0.9, 1)]


@pytest.mark.parametrize("votes", [1, 2, 3, 4, 7])
def test_all_sequences_are_counted(votes: int) -> None:
    hit, c = np.array(CHAINS).T
    for looks in (0, 1, 2, 3, 8):
        expected = [
            sum(_chance(hits, *chain) for hits in product((True, False), repeat=looks) if _first_run(hits, votes))
            for chain in CHAINS
        ]
        np.testing.assert_allclose(run_chance(votes, looks, hit, c), expected, atol=1e-12)


@pytest.mark.parametrize("votes", [1, 2, 3])
def test_recall_precision_and_delay_are_those_of_all_sequences(votes: int) -> None:
    """Six looks at an event and six at a gap, at any phase; the look that completes a run reports."""
    events, fps = Events(2, 2, 0.5, 0.4), 3.0
    firsts = {hits: _first_run(hits, votes) for hits in product((True, False), repeat=6)}
    found = {hits: first for hits, first in firsts.items() if first}
    recall, false = (sum(_chance(hits, rate, 0.4) for hits in found) for rate in (0.7, 0.1))
    waited = sum(_chance(hits, 0.7, 0.4) * (first - 0.5) / fps for hits, first in found.items())
    scores = event_scores(events, 0.7, 0.1, fps, votes)
    assert scores.recall == pytest.approx(recall)
    assert scores.precision == pytest.approx(recall / (recall + false))
    assert scores.false_alarms == pytest.approx(900 * false)
    assert scores.delay == pytest.approx(waited / recall)


def test_a_miss_is_followed_by_the_chain_not_by_a_fresh_look() -> None:
    """8 frames, X = 2, hit rate .7, c = .4: .950. The authors' code goes back to the unconditional rate: .989."""
    assert run_chance(2, 8, 0.7, 0.4) == pytest.approx(0.950, abs=5e-4)
    assert run_chance(2, 8, 0.7, 0.4, reset=True) == pytest.approx(0.989, abs=5e-4)
    assert run_chance(2, 8, 0.7, 0, reset=True) == pytest.approx(run_chance(2, 8, 0.7, 0))


def _no_run(miss: float, c: float, votes: int, looks: int) -> float:
    """By the power of the matrix over lengths of the run so far."""
    again, hit = miss + c * (1 - miss), (1 - miss) + c * miss
    steps, start = np.zeros((votes, votes)), np.zeros(votes)
    steps[:, 0], start[0] = 1 - hit, miss
    steps[0, 0] = again
    if votes > 1:
        steps[0, 1], start[1] = 1 - again, 1 - miss
        steps[np.arange(1, votes - 1), np.arange(2, votes)] = hit
    return float((start @ np.linalg.matrix_power(steps, looks - 1)).sum())


def test_any_number_of_looks_and_votes_together() -> None:
    """Rates near 0 and 1, up to 20 votes and a million looks, all in one call, tails included."""
    generator, count = np.random.default_rng(0), 600
    miss, c = (np.concatenate([u[:200], u[200:400] ** 6, 1 - u[400:] ** 6]) for u in generator.random((2, count)))
    generator.shuffle(c)
    votes, looks = generator.integers(1, 21, count), (10 ** (6 * generator.random(count))).astype(np.int64)
    expected = [_no_run(*each) for each in zip(miss, c, votes.tolist(), looks.tolist(), strict=True)]
    np.testing.assert_allclose(1 - run_chance(votes, looks, 1 - miss, c), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("votes", "looks", "hit", "c", "said"),
    [
        (0, 8, 0.5, 0, "votes is 0.0; expected a whole number of hits"),
        (2, -1, 0.5, 0, "number of looks is -1.0; expected a whole number from 0"),
        (2, 2.5, 0.5, 0, "number of looks is 2.5"),
        (2, 8, [0.5, 1.1], 0, "rate of hits is 1.1; expected 0 to 1"),
        (2, 8, 0.5, np.nan, "correlation of misses is nan; expected 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(votes: int, looks: float, hit: float, c: float, said: str) -> None:
    with pytest.raises(EventsError, match=said):
        run_chance(votes, looks, hit, c)


def test_looks_that_pass_are_summed() -> None:
    """The sum that delays are made of, in its table and in its tail; and the same in closed form for X = 1."""
    miss, c, votes = np.array([0.4, 0.9, 0.99, 0]), np.array([0.3, 0.5, 0, 0]), np.array([2.0, 3, 2, 2])
    runs, single = Runs(miss, c, votes, 4000), Single(miss, c)
    for chances in (runs, single):
        each = np.stack([chances.missed(np.array(n)) for n in range(4000)])
        for looks in (0, 1, 2, 3, 50, 4000):
            np.testing.assert_allclose(chances.missed_before(np.array(looks)), each[:looks].sum(0), rtol=1e-9)
