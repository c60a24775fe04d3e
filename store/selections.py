"""Selections: which samples, with which weights, in force from which epoch. Published once, never changed.

A selection is found by its key (the same method, parameters, inputs and seed: the same selection) and by name@version.
Publishing what is there answers with what is there; publishing something else under a name makes the next version.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError, SelectionNotFound, StoreFormatError
from tamis.store.keys import KEY, NAME, canonical, check_name, key_of, split_ref
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.arrow import pc
from tamis.store.tables.tables import Tables, new_attempt, now, rows_of, until_claimed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_Head = tuple[int, int, int, float | None]  # the fields of a Round
ROUND = ("round", "first_epoch", "size", "objective")
# The columns of a head that are the first fields of a Selection.
_FIELDS = ("selection", "name", "version", "dataset", "method", "method_version", "seed", "size", "seconds", "params",
           "stats")  # fmt: skip


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
    heads: tuple[_Head, ...] = field(repr=False)  # of the rounds
    _tables: Tables = field(repr=False, compare=False)
    _payload: "_Payload" = field(repr=False, compare=False)

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
        in_force = [r.round for r in self.rounds if r.first_epoch <= epoch]
        if not in_force:
            raise SelectionError(
                f"{self.ref} begins at epoch {self.rounds[0].first_epoch}: nothing is selected in epoch {epoch}."
            )
        return self.read_round(in_force[-1])

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
class _Payload:
    """Where the samples of a selection are, and what they must be."""

    attempt: str
    files: tuple[str, ...]
    digest: str | None


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
        if not -(2**63) <= seed < 2**63:
            raise SelectionError(f"The seed is {seed}: expected -2^63 to 2^63 - 1, which is what the store keeps.")
        payload = {
            "dataset": dataset.key, "method": method, "version": version, "params": dict(params),
            "inputs": list(inputs), "seed": seed,
        }  # fmt: skip
        return key_of("selection", payload)

    @one_patience
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
            named = self.find(key, name)
            if named is not None:
                return Published(named, created=False, confirmed=same)
            return self._alias(there, name, same)

        return until_claimed(publish, f"Publishing selection {name}")

    @one_patience
    def find(self, key: str, name: str | None = None) -> Selection | None:
        """The selection of this key (under this name), or None."""
        first = self._found(f"key/{key}", 1)
        if first is None or name in (None, first.name):
            return first
        return self._found(f"named/{name}/{key}", 1)

    @one_patience
    def get(self, ref: str) -> Selection:
        """A selection by "name" (newest version), "name@version", or key.

        Raises:
            SelectionNotFound: lists what there is.
        """
        if KEY.fullmatch(ref) and (found := self.find(ref)) is not None:
            return found
        name, version = split_ref(ref)
        newest = self._tables.claimed("selections", f"name/{name}") if NAME.fullmatch(name) else 0
        if not newest:
            names = ", ".join(sorted({s.name for s in self.all()})) or "none"
            raise SelectionNotFound(f"No selection {ref!r} in {self._root.url}; there are: {names}.")
        found = self._found(f"name/{name}", newest if version is None else version)
        if found is None:
            raise SelectionNotFound(f"Selection {name!r} has versions 1 to {newest}, not {version}.")
        return found

    @one_patience
    def all(self) -> list[Selection]:
        """Every name@version, by name and version."""
        rows = self._tables.read("selections").sort_by([("name", "ascending"), ("version", "ascending")])
        old = rows.filter(pc.is_null(rows["round_heads"]))["attempt"].unique().to_pylist()
        rounds = self._rounds_of(set(old)) if old else {}
        heads = _heads_of(rows["round_heads"].combine_chunks())
        columns = (rows[name].to_pylist() for name in (*_FIELDS, "inputs", "attempt", "files", "digest"))
        return [
            _of(f, i, rounds.get(attempt) or head, self._tables, _Payload(attempt, tuple(files or ()), digest))
            for head, *f, i, attempt, files, digest in zip(heads, *columns, strict=True)
        ]

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
        files = self._tables.append("selection_samples", pa.concat_tables(tables))
        more = self._tables.append("selection_rounds", _round_rows(key, attempt, checked, rounds))
        row = head | {
            "attempt": attempt, "files": list(files),
            "digest": digest_of((r.first_epoch, *arrays) for r, arrays in zip(rounds, checked, strict=True)),
            "round_heads": [
                {"round": i, "first_epoch": r.first_epoch, "size": len(samples), "objective": r.objective}
                for i, (r, (samples, _)) in enumerate(zip(rounds, checked, strict=True))
            ],
        }  # fmt: skip
        made = until_claimed(lambda: self._show(row), f"Publishing selection {head['name']}")
        if not made:
            self._tables.drop_attempt("selection_samples", files)
            self._tables.drop_attempt("selection_rounds", more)
        return made or None

    def _show(self, head: dict[str, Any]) -> Published | bool | None:
        """Make a payload visible under the next version of its name. False where the key was published meanwhile."""
        key, name = head["selection"], head["name"]
        if self._tables.found("selections", f"key/{key}", 1) is not None:
            return False
        version = self._tables.claimed("selections", f"name/{name}") + 1
        row = head | {"version": version, "created": now()}
        if self._tables.publish("selections", [row], {f"name/{name}": version, f"key/{key}": 1}):
            return Published(_selection(row, None, self._tables), created=True)
        return None

    def _alias(self, there: Selection, name: str, same: bool) -> Published | None:
        """A second name for what is there."""
        version = self._tables.claimed("selections", f"name/{name}") + 1
        first = self._tables.found("selections", f"key/{there.key}", 1)
        assert first is not None
        row = first.rows[0] | {"name": name, "version": version, "created": now()}
        if self._tables.publish("selections", [row], {f"name/{name}": version, f"named/{name}/{there.key}": 1}):
            return Published(_selection(row, there.heads, self._tables), created=True, confirmed=same)
        return None

    def _found(self, what: str, version: int) -> Selection | None:
        said = self._tables.found("selections", what, version)
        if said is None:
            return None
        row = said.rows[0]
        rounds = None if row.get("round_heads") is not None else self._rounds_of({row["attempt"]})[row["attempt"]]
        return _selection(row, rounds, self._tables)

    def _rounds_of(self, attempts: set[str]) -> dict[str, tuple[_Head, ...]]:
        """The rounds of selections of earlier versions, whose heads do not have them."""
        rounds: dict[str, list[_Head]] = {}
        for r in self._tables.read("selection_rounds", attempt=attempts).sort_by("round").to_pylist():
            rounds.setdefault(r["attempt"], []).append(_round(r))
        return {attempt: tuple(found) for attempt, found in rounds.items()}


def digest_of(rounds: Iterable[tuple[int, Ints, Floats]]) -> str:
    """What identifies the content of a selection: 32 hex characters over each round's first epoch, samples, weights.

    Args:
        rounds: (first epoch, samples [k] int64, weights [k] float32) in order.
    """
    total = hashlib.sha256()
    for first_epoch, samples, weights in rounds:
        total.update(np.asarray([first_epoch, len(samples)], "<i8").tobytes())
        total.update(np.ascontiguousarray(samples, "<i8").tobytes())
        total.update(np.ascontiguousarray(weights, "<f4").tobytes())
    return total.hexdigest()[:32]


def _round(row: Mapping[str, Any]) -> _Head:
    return row["round"], row["first_epoch"], row["size"], row["objective"]


def _heads_of(column: pa.ListArray) -> list[tuple[_Head, ...]]:
    """The rounds of many heads, () where a head has none."""
    flat = column.flatten()
    rounds = list(zip(*(flat.field(name).to_pylist() for name in ROUND), strict=True))
    ends = np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0))).tolist()
    return [tuple(rounds[a:b]) for a, b in pairwise([0, *ends])]


def _selection(row: Mapping[str, Any], rounds: tuple[_Head, ...] | None, tables: Tables) -> Selection:
    """A head as a selection; its rounds are in it, but for those of earlier versions."""
    heads = tuple(map(_round, row["round_heads"])) if rounds is None else rounds
    payload = _Payload(row["attempt"], tuple(row.get("files") or ()), row.get("digest"))
    return _of([row[name] for name in _FIELDS], row["inputs"], heads, tables, payload)


def _of(
    fields: Sequence[Any], inputs: Sequence[str], heads: tuple[_Head, ...], tables: Tables, payload: _Payload
) -> Selection:
    everything: tuple[Any, ...] = (*fields, tuple(inputs), heads, tables, payload)
    return Selection(*everything)


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
    pairs = zip(there.read_rounds(), checked, strict=True)
    return all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in pairs)


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
