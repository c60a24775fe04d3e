"""Selections: which samples, with which weights, in force from which epoch. Published once, never changed.

A selection is found by its key (the same method, parameters, inputs and seed: the same selection) and by name@version.
Publishing what is there answers with what is there; publishing something else under a name makes the next version.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.arrow import pc
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError, SelectionNotFound
from tamis.store.keys import canonical, check_name, key_of, split_ref
from tamis.store.roots import Root
from tamis.store.tables import Tables, new_attempt, now, rows_of, until_claimed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RoundData:
    """What a method chose: samples in the order of their rank, the best first.

    Attributes:
        samples: [k] int64, each once.
        weights: [k] float32, finite; None for a weight of 1 each.
        first_epoch: the first epoch in which the round is in force.
        objective: what the method minimised, where it has such a thing.
    """

    samples: npt.ArrayLike
    weights: npt.ArrayLike | None = None
    first_epoch: int = 0
    objective: float | None = None


@dataclass(frozen=True)
class Round:
    """A round's head: what is in force from `first_epoch` on, until the next round."""

    round: int
    first_epoch: int
    size: int
    objective: float | None


@dataclass(frozen=True)
class Selection:
    """A published selection. Its samples are read when they are asked for."""

    key: str
    name: str
    version: int
    dataset: str
    method: str
    method_version: int
    params: dict[str, Any]
    inputs: tuple[str, ...]
    seed: int
    size: int
    stats: dict[str, Any]
    seconds: float
    rounds: tuple[Round, ...]
    _tables: Tables = field(repr=False, compare=False)
    _attempt: str = field(repr=False, compare=False)

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    def round_at(self, epoch: int) -> tuple[Ints, Floats]:
        """The samples [k] in force in an epoch, in rank order, and their weights [k].

        Raises:
            SelectionError: no round is in force so early.
        """
        in_force = [r.round for r in self.rounds if r.first_epoch <= epoch]
        if not in_force:
            raise SelectionError(
                f"{self.ref} begins at epoch {self.rounds[0].first_epoch}: nothing is selected in epoch {epoch}."
            )
        return self.read_round(in_force[-1])

    def read_round(self, number: int) -> tuple[Ints, Floats]:
        """Samples and weights of one round, in rank order."""
        rows = self._rows()
        return _ranked(rows.filter(pc.equal(rows["round"], number)))

    def read_rounds(self) -> list[tuple[Ints, Floats]]:
        """Samples and weights of every round, in rank order: read once, however many rounds there are."""
        rows = self._rows().sort_by("round")
        starts = np.searchsorted(np.asarray(rows["round"]), np.arange(len(self.rounds) + 1))
        return [_ranked(rows.slice(a, b - a)) for a, b in pairwise(starts.tolist())]

    def _rows(self) -> pa.Table:
        columns = ["round", "sample", "weight", "rank"]
        return self._tables.read("selection_samples", None, columns, selection=self.key, attempt=self._attempt)


@dataclass(frozen=True)
class Published:
    """The answer to a publication.

    Attributes:
        selection: what is in the store.
        created: whether this call made it, or a name for it.
        confirmed: whether a recomputed answer agrees with the stored one; None where nothing was stored before.
    """

    selection: Selection
    created: bool
    confirmed: bool | None = None


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


class Selections:
    """The selections of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @staticmethod
    def key(
        *,
        dataset: Dataset,
        method: str,
        version: int,
        params: Mapping[str, Any],
        inputs: Sequence[str],
        seed: int,
    ) -> str:
        """The key of a selection: what it is computed from, and how."""
        payload = {
            "dataset": dataset.key, "method": method, "version": version, "params": dict(params),
            "inputs": list(inputs), "seed": seed,
        }  # fmt: skip
        return key_of("selection", payload)

    def publish(
        self,
        *,
        name: str,
        dataset: Dataset,
        method: str,
        version: int,
        params: Mapping[str, Any],
        inputs: Sequence[str],
        seed: int,
        rounds: Sequence[RoundData],
        seconds: float,
        stats: Mapping[str, Any] | None = None,
    ) -> Published:
        """Keep a selection. The payload goes first, the row that makes it visible last.

        Args:
            name: its name; the next version of the name is taken unless the name has this key already.
            dataset: the version it was chosen from.
            method: the method's name.
            version: the method's version.
            params: the method's parameters with their defaults, plain JSON.
            inputs: keys of what it was computed from (runs), in order.
            seed: of the method's generator.
            rounds: what was chosen, by first epoch.
            seconds: what choosing took, scoring included, s.
            stats: anything worth knowing later, plain JSON.

        Raises:
            SelectionError: samples repeated or unknown, weights not finite, no rounds, rounds out of order.
        """
        check_name(name, "selection")
        checked = _check(rounds, dataset.samples)
        key = self.key(dataset=dataset, method=method, version=version, params=params, inputs=inputs, seed=seed)
        head = {
            "selection": key, "name": name, "dataset": dataset.ref, "method": method, "method_version": version,
            "params": canonical(dict(params)), "inputs": list(inputs), "seed": seed, "rounds": len(rounds),
            "size": len(checked[0][0]), "stats": canonical(dict(stats or {})), "seconds": seconds,
        }  # fmt: skip

        def publish() -> Published | None:
            there = self.find(key)
            if there is None:
                return self._publish(head, checked, rounds)
            same = _same(there, checked, rounds)
            if name in (s.name for s in self._all(selection=key)):
                return Published(self.find(key, name) or there, created=False, confirmed=same)
            return self._alias(there, name, same)

        return until_claimed(publish, f"Publishing selection {name}")

    def find(self, key: str, name: str | None = None) -> Selection | None:
        """The selection of this key (under this name), or None."""
        found = [s for s in self._all(selection=key) if name is None or s.name == name]
        return found[0] if found else None

    def get(self, ref: str) -> Selection:
        """A selection by "name" (newest version), "name@version", or key.

        Raises:
            SelectionNotFound: lists what there is.
        """
        if len(ref) == 32 and (found := self.find(ref)) is not None:
            return found
        name, version = split_ref(ref)
        there = {s.version: s for s in self._all(name=name)}
        if not there:
            names = ", ".join(sorted({s.name for s in self._all()})) or "none"
            raise SelectionNotFound(f"No selection {ref!r} in {self._root.url}; there are: {names}.")
        if version is not None and version not in there:
            raise SelectionNotFound(
                f"Selection {name!r} has versions {', '.join(map(str, sorted(there)))}, not {version}."
            )
        return there[version if version is not None else max(there)]

    def all(self) -> list[Selection]:
        """Every name@version, by name and version."""
        return sorted(self._all(), key=lambda s: (s.name, s.version))

    def diff(self, first: Selection, second: Selection, epoch: int = 0) -> Difference:
        """What two selections of one dataset have in common in an epoch.

        Raises:
            SelectionError: they choose from different datasets, whose sample numbers mean different samples.
        """
        check_comparable(first, second)
        return compare(*first.round_at(epoch), *second.round_at(epoch))

    def _publish(
        self, head: dict[str, Any], checked: "list[tuple[Ints, Floats]]", rounds: Sequence[RoundData]
    ) -> Published | None:
        attempt, key = new_attempt(), head["selection"]
        tables = [_sample_rows(key, attempt, i, *arrays) for i, arrays in enumerate(checked)]
        self._tables.append("selection_samples", pa.concat_tables(tables))
        self._tables.append("selection_rounds", _round_rows(key, attempt, checked, rounds))
        heads = tuple(
            Round(i, r.first_epoch, len(samples), r.objective)
            for i, (r, (samples, _)) in enumerate(zip(rounds, checked, strict=True))
        )
        made = until_claimed(lambda: self._show(head, attempt, heads), f"Publishing selection {head['name']}")
        if not made:
            for table in ("selection_samples", "selection_rounds"):
                self._tables.drop_attempt(table, attempt)
        return made or None

    def _show(self, head: dict[str, Any], attempt: str, rounds: tuple[Round, ...]) -> Published | bool | None:
        """Make a payload visible under the next version of its name. False where the key was published meanwhile."""
        key, name = head["selection"], head["name"]
        if self._tables.claimed("selections", f"selection:{key}"):
            return False
        version = self._tables.claimed("selections", f"name:{name}") + 1
        row = rows_of("selections", {**head, "version": version, "created": now(), "attempt": attempt}, 1)
        if self._tables.append("selections", row, _claims(key, name, version) | {f"selection:{key}": 1}):
            return Published(_selection(row.to_pylist()[0], rounds, self._tables), created=True)
        return None

    def _alias(self, there: Selection, name: str, same: bool) -> Published | None:
        """A second name for what is there."""
        version = self._tables.claimed("selections", f"name:{name}") + 1
        row = self._tables.read("selections", selection=there.key).slice(0, 1).to_pylist()[0]
        row |= {"name": name, "version": version, "created": now()}
        if self._tables.append("selections", rows_of("selections", row, 1), _claims(there.key, name, version)):
            return Published(self._read(there.key, row["attempt"], row), created=True, confirmed=same)
        return None

    def _all(self, **equal: str) -> "list[Selection]":
        rows = self._tables.read("selections", **equal).sort_by("created").to_pylist()
        if not rows:
            return []
        parts = self._tables.read("selection_rounds", attempt={row["attempt"] for row in rows})
        rounds: dict[str, list[Round]] = {}
        for r in parts.sort_by("round").to_pylist():
            rounds.setdefault(r["attempt"], []).append(Round(r["round"], r["first_epoch"], r["size"], r["objective"]))
        return [_selection(row, tuple(rounds[row["attempt"]]), self._tables) for row in rows]

    def _read(self, key: str, attempt: str, row: dict[str, Any]) -> Selection:
        rounds = self._tables.read("selection_rounds", selection=key, attempt=attempt).sort_by("round").to_pylist()
        heads = tuple(Round(r["round"], r["first_epoch"], r["size"], r["objective"]) for r in rounds)
        return _selection(row, heads, self._tables)


def _ranked(rows: pa.Table) -> tuple[Ints, Floats]:
    order = np.argsort(np.asarray(rows["rank"]))
    return np.asarray(rows["sample"])[order], np.asarray(rows["weight"])[order]


def _claims(key: str, name: str, version: int) -> dict[str, int]:
    """What a head claims: the version, and that the name has the key, so that it gets it once."""
    return {f"name:{name}": version, f"named:{name}:{key}": 1}


def _selection(row: Mapping[str, Any], rounds: tuple[Round, ...], tables: Tables) -> Selection:
    return Selection(
        row["selection"], row["name"], row["version"], row["dataset"], row["method"], row["method_version"],
        json.loads(row["params"]), tuple(row["inputs"]), row["seed"], row["size"], json.loads(row["stats"]),
        row["seconds"], rounds, tables, row["attempt"],
    )  # fmt: skip


def _check(rounds: Sequence[RoundData], count: int) -> list[tuple[Ints, Floats]]:
    if not rounds:
        raise SelectionError("A selection has at least one round.")
    epochs = [r.first_epoch for r in rounds]
    if epochs != sorted(set(epochs)) or epochs[0] < 0:
        raise SelectionError(f"Rounds begin at epochs {epochs}: they must rise, from 0 or later.")
    return [_check_round(r, i, count) for i, r in enumerate(rounds)]


def _check_round(data: RoundData, number: int, count: int) -> tuple[Ints, Floats]:
    samples = np.asarray(data.samples)
    if samples.ndim != 1 or not len(samples) or samples.dtype.kind not in "iu":
        raise SelectionError(
            f"Round {number} must list sample numbers (integers, at least one), not {samples.dtype} {samples.shape}."
        )
    samples = samples.astype(np.int64)
    if samples.min() < 0 or samples.max() >= count:
        outside = samples[(samples < 0) | (samples >= count)]
        raise SelectionError(f"Round {number} names sample {outside[0]}: the dataset has samples 0 to {count - 1}.")
    if len(np.unique(samples)) < len(samples):
        raise SelectionError(
            f"Round {number} names {len(samples) - len(np.unique(samples))} samples twice: each is chosen once."
        )
    weights = np.ones(len(samples), np.float32) if data.weights is None else np.asarray(data.weights, np.float32)
    if weights.shape != samples.shape or not np.isfinite(weights).all():
        raise SelectionError(
            f"Round {number} needs one finite weight a sample, not {weights.shape} with NaN or infinities."
        )
    return samples, weights


def _same(there: Selection, checked: list[tuple[Ints, Floats]], rounds: Sequence[RoundData]) -> bool:
    """Whether a recomputed answer is the stored one, sample for sample and weight for weight."""
    if [r.first_epoch for r in there.rounds] != [r.first_epoch for r in rounds]:
        return False
    stored = (there.read_round(i) for i in range(len(checked)))
    return all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(stored, checked, strict=True))


def _sample_rows(key: str, attempt: str, number: int, samples: Ints, weights: Floats) -> pa.Table:
    columns = {
        "selection": key, "attempt": attempt, "round": number, "sample": samples, "weight": weights,
        "rank": np.arange(len(samples)),
    }  # fmt: skip
    return rows_of("selection_samples", columns, len(samples))


def _round_rows(key: str, attempt: str, checked: list[tuple[Ints, Floats]], rounds: Sequence[RoundData]) -> pa.Table:
    columns = {
        "selection": key, "attempt": attempt, "round": pa.array(range(len(rounds)), pa.int32()),
        "first_epoch": pa.array([r.first_epoch for r in rounds], pa.int32()),
        "size": pa.array([len(samples) for samples, _ in checked], pa.int64()),
        "objective": pa.array([r.objective for r in rounds], pa.float64()),
    }  # fmt: skip
    return rows_of("selection_rounds", columns, len(rounds))
