"""One published selection, and two side by side. Samples are read when they are asked for."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import SelectionError, StoreFormatError
from tamis.store.keys import split_ref
from tamis.store.selections.rounds import Floats, Ints, Round, digest_of, in_force
from tamis.store.tables.tables import Tables

RoundHead = tuple[int, int, int, float | None]  # the fields of a Round


@dataclass(frozen=True)
class Selection:
    """A published selection. Its samples are read when they are asked for.

    Attributes:
        key: what it was asked by.
        name, version: one of its names.
        dataset: "name@version" that it chooses from.
        method, method_version, params, inputs, seed: how it was made.
        size: samples of the first round.
        stats: what else is worth knowing.
        seconds: what choosing took.
        rounds: their heads, in order.
    """

    key: str
    name: str
    version: int
    dataset: str
    method: str
    method_version: int
    seed: int
    size: int
    seconds: float
    # Texts and tuples as they are kept: a list of thousands is not parsed to be looked at.
    _params: str
    _stats: str = field(repr=False)
    inputs: tuple[str, ...]
    heads: tuple[RoundHead, ...] = field(repr=False)  # of the rounds
    _tables: Tables = field(repr=False, compare=False)
    _payload: "Payload" = field(repr=False, compare=False)

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @cached_property
    def params(self) -> dict[str, Any]:
        """The method's parameters, with their defaults."""
        return json.loads(self._params)

    @cached_property
    def stats(self) -> dict[str, Any]:
        """What else is worth knowing: samples left out, seconds by part."""
        return json.loads(self._stats)

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The heads of the rounds, by first epoch."""
        return tuple(Round(*head) for head in self.heads)

    @property
    def digest(self) -> str | None:
        """What identifies its samples and weights (`digest_of`); None for selections of earlier versions."""
        return self._payload.digest

    def round_at(self, epoch: int) -> tuple[Ints, Floats]:
        """The samples [k] in force in an epoch, in rank order, and their weights [k].

        Raises:
            SelectionError: no round is in force so early.
        """
        return self.read_round(in_force(self.rounds, epoch, self.ref).round)

    def read_round(self, number: int) -> tuple[Ints, Floats]:
        """Samples and weights of one round, in rank order."""
        return self.read_rounds()[number]

    def read_rounds(self) -> list[tuple[Ints, Floats]]:
        """Samples and weights of every round, in rank order: read once, however many rounds there are.

        Raises:
            StoreFormatError: they are not what was published.
        """
        rows = self._rows().sort_by([("round", "ascending"), ("rank", "ascending")])
        starts = np.searchsorted(np.asarray(rows["round"]), np.arange(len(self.rounds) + 1))
        samples, weights = np.asarray(rows["sample"]), np.asarray(rows["weight"])
        rounds = [(samples[a:b], weights[a:b]) for a, b in pairwise(starts.tolist())]
        self._check(rounds)
        return rounds

    def _check(self, rounds: "list[tuple[Ints, Floats]]") -> None:
        """Hold what was read against the digest that was published with it; selections of old have none."""
        found = digest_of(zip((r.first_epoch for r in self.rounds), *zip(*rounds, strict=True), strict=True))
        sizes = [len(samples) for samples, _ in rounds] == [r.size for r in self.rounds]
        if not sizes or self._payload.digest not in (None, found):
            raise StoreFormatError(
                f"Selection {self.ref} is damaged: its samples and weights are not those that were published. Restore "
                "tables/selection_samples from a copy; `tamis verify` names everything that is damaged."
            )

    def _rows(self) -> pa.Table:
        columns = ["round", "sample", "weight", "rank"]
        files = [self._tables.file_rows("selection_samples", path) for path in self._payload.files]
        there = [rows for rows in files if rows is not None]
        if files and len(there) == len(files):
            return pa.concat_tables(there).select(columns)
        attempt = self._payload.attempt
        return self._tables.read("selection_samples", None, columns, selection=self.key, attempt=attempt)


@dataclass(frozen=True)
class Payload:
    """Where the samples of a selection are, and what they must be."""

    attempt: str
    files: tuple[str, ...]
    digest: str | None


@dataclass(frozen=True)
class Difference:
    """Two selections side by side; sample arrays are sorted."""

    both: Ints
    only_first: Ints
    only_second: Ints
    jaccard: float
    weight_correlation: float | None


def compare(a: Ints, weight_a: npt.ArrayLike, b: Ints, weight_b: npt.ArrayLike) -> Difference:
    """Two choices of samples side by side.

    Args:
        a, b: the samples, [k] and [m], each once.
        weight_a, weight_b: their weights. Their correlation (Pearson's) is that over samples in both, and None where
            there are fewer than two such, or one side's weights do not vary.
    """
    both, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    union = len(a) + len(b) - len(both)
    x, y = np.asarray(weight_a, np.float64)[at_a], np.asarray(weight_b, np.float64)[at_b]
    varies = len(both) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
    return Difference(
        both, np.setdiff1d(a, b, assume_unique=True), np.setdiff1d(b, a, assume_unique=True), len(both) / union,
        float(np.corrcoef(x, y)[0, 1]) if varies else None,
    )  # fmt: skip


def check_comparable(first: Selection, second: Selection) -> None:
    """Refuse selections of different datasets.

    Raises:
        SelectionError: naming both.
    """
    if split_ref(first.dataset)[0] != split_ref(second.dataset)[0]:
        raise SelectionError(
            f"{first.ref} chooses from {first.dataset}, {second.ref} from {second.dataset}: their sample numbers "
            "mean different samples. Compare selections of one dataset."
        )
