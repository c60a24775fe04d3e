"""Pursuits of many problems, in one level or two: what `tamis.curation.gradmatch.matching` solves its problems with.

Problems of more than `part_size` rows are solved in two levels: each of several random parts is pursued towards its
share of b for `surplus` times as many rows as its share of k, and then k are pursued among the winners.
Legend: N samples, D numbers a gradient, k chosen samples.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from tamis.curation.gradmatch.gradients import Floats, Gradients, Ints
from tamis.curation.omp import problem as pursued
from tamis.curation.omp.problem import Pursue, Pursued


@dataclass(frozen=True)
class Settings:
    """How problems are solved; the attributes are the parameters of `tamis.curation.gradmatch.matching.match`."""

    lam: float
    tolerance: float
    spare: float
    part_size: int
    surplus: float
    memory: int | None
    pursue: Pursue
    generator: np.random.Generator


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be pursued: up to k of some samples, towards b."""

    source: Gradients
    samples: Ints
    b: Floats
    k: int

    @property
    def stays(self) -> bool:
        """Whether all of them may be chosen."""
        return self.k >= len(self.samples)


def pursue_all(wanted: list[Wanted], settings: Settings) -> list[Pursued]:
    """Pursue each in one level or two. The rows of the answers are samples."""
    parts = [_parts(one, settings) for one in wanted]
    winners = iter(_pursue_once([part for each in parts for part in each if not part.stays], settings))
    second = list[Wanted]()
    for one, each in zip(wanted, parts, strict=True):
        left = [part.samples if part.stays else next(winners).rows for part in each]
        second.append(replace(one, samples=np.sort(np.concatenate(left))) if left else one)
    return _pursue_once(second, settings)


def _parts(one: Wanted, settings: Settings) -> list[Wanted]:
    """The first level: random parts, each towards its share of b; none where one level is enough."""
    count, n = -(-len(one.samples) // settings.part_size), len(one.samples)
    if count == 1:
        return []
    shuffled, each = settings.generator.permutation(one.samples), math.ceil(settings.surplus * one.k / count)
    return [
        Wanted(one.source, np.sort(part), one.b * (len(part) / n), each) for part in np.array_split(shuffled, count)
    ]


def _pursue_once(wanted: list[Wanted], settings: Settings) -> list[Pursued]:
    """Pursue each in one level; no samples (no part had one that helps) have no answer but nothing."""
    problems = (
        pursued.Problem(one.source.rows(one.samples), one.b, min(one.k, len(one.samples)))
        for one in wanted
        if len(one.samples)
    )
    how = settings
    answers = iter(how.pursue(problems, lam=how.lam, tolerance=how.tolerance, spare=how.spare, memory=how.memory))
    found = list[Pursued]()
    for one in wanted:
        if len(one.samples):
            answer = next(answers)
            found.append(replace(answer, rows=one.samples[answer.rows]))
        else:
            found.append(Pursued(one.samples, np.empty(0), square(one.b), np.empty(0), "optimal"))
    return found


def rest_of(source: Gradients, samples: Ints, b: Floats, found: Pursued) -> Ints:
    """The samples that were not chosen, those first that correlate most with the target; of equals the lowest."""
    rest = np.setdiff1d(samples, found.rows)
    return rest[np.argsort(-source.correlate(rest, b), kind="stable")]


def square(values: Floats) -> float:
    """The sum of the squares."""
    return float(values @ values)
