"""Selections: which samples, with which weights, in force from which epoch. Published once, never changed.

A selection is found by its key (the same method, parameters, inputs and seed: the same selection) and by name@version.
Publishing what is there answers with what is there; publishing something else under a name makes the next version.
"""

from tamis.store.selections.catalog import Published, Selections
from tamis.store.selections.request import Request
from tamis.store.selections.rounds import Round, RoundData, digest_of
from tamis.store.selections.selection import Difference, Selection, check_comparable, compare

__all__ = [
    "Difference",
    "Published",
    "Request",
    "Round",
    "RoundData",
    "Selection",
    "Selections",
    "check_comparable",
    "compare",
    "digest_of",
]
