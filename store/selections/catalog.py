"""The selections of a store: publishing and finding them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.store.errors import SelectionNotFound
from tamis.store.keys import canonical, check_name
from tamis.store.lifecycle import Renamable
from tamis.store.naming.named import Named
from tamis.store.naming.series import row_of_key
from tamis.store.roots.waiting import one_patience
from tamis.store.selections.request import Request
from tamis.store.selections.rounds import Floats, Ints, RoundData, check_rounds, digest_of, round_rows, sample_rows
from tamis.store.selections.selection import Difference, Payload, RoundHead, Selection, check_comparable, compare
from tamis.store.tables.arrow import pc
from tamis.store.tables.lives import Need
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables, new_attempt, now, until_claimed

_ROUND = ("round", "first_epoch", "size", "objective")
# The columns of a head that are the first fields of a Selection.
_FIELDS = ("selection", "name", "version", "dataset", "method", "method_version", "seed", "size", "seconds", "params",
           "stats")  # fmt: skip


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


class Selections(Named[Selection], Renamable):
    """The selections of one store."""

    table, word, absent = "selections", "selection", SelectionNotFound

    @one_patience
    def publish(
        self,
        request: Request,
        name: str,
        rounds: Sequence[RoundData],
        *,
        seconds: float,
        stats: Mapping[str, Any] | None = None,
    ) -> Published:
        """Keep a selection. The payload goes first, the row that makes it visible last.

        Args:
            request: what was asked.
            name: its name; the next version of the name is taken unless the name has this key already.
            rounds: what was chosen, by first epoch.
            seconds: what choosing took, scoring included, s.
            stats: anything worth knowing later, plain JSON.

        Raises:
            SelectionError: samples repeated or unknown, weights not finite, no rounds, rounds out of order.
        """
        check_name(name, "selection")
        checked = check_rounds(rounds, request.dataset.samples)
        key = request.key
        needs = [Need("datasets", request.dataset.name, request.dataset.version)]
        needs += [Need("runs", one) for one in request.inputs]
        head = {
            "selection": key, "dataset": request.dataset.ref, "method": request.method,
            "method_version": request.version, "params": canonical(dict(request.params)),
            "inputs": list(request.inputs), "seed": request.seed, "rounds": len(rounds),
            "size": len(checked[0][0]), "stats": canonical(dict(stats or {})), "seconds": seconds,
        }  # fmt: skip

        def publish() -> Published | None:
            there = self.find(key)
            if there is None:
                return self._publish(head, name, checked, rounds, needs)
            same = _same(there, checked, rounds)
            named = self.find(key, name)
            if named is not None:
                return Published(named, created=False, confirmed=same)
            return self._alias(there, name, same, needs)

        return until_claimed(publish, f"Publishing selection {name}")

    @one_patience
    def find(self, asked: Request | str, name: str | None = None) -> Selection | None:
        """The selection of this request or key (under this name), or None."""
        return self._of_key(asked if isinstance(asked, str) else asked.key, name)

    @one_patience
    def all(self) -> list[Selection]:
        """Every name@version, by name and version."""
        heads = self._tables.state("selections")
        rows = self._tables.alive(heads)
        if renamed := self._tables.lives(heads).renamed:
            names = pa.array([renamed.get(name, name) for name in rows["name"].to_pylist()], pa.string())
            rows = rows.set_column(rows.column_names.index("name"), "name", names)
        rows = rows.sort_by([("name", "ascending"), ("version", "ascending")])
        old = rows.filter(pc.is_null(rows["round_heads"]))["attempt"].unique().to_pylist()
        rounds = self._rounds_of(set(old)) if old else {}
        heads = _heads_of(rows["round_heads"].combine_chunks())
        columns = (rows[name].to_pylist() for name in (*_FIELDS, "inputs", "attempt", "files", "digest"))
        return [
            _of(f, i, rounds.get(attempt) or head, self._tables, Payload(attempt, tuple(files or ()), digest))
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
        self,
        head: dict[str, Any],
        name: str,
        checked: "list[tuple[Ints, Floats]]",
        rounds: Sequence[RoundData],
        needs: list[Need],
    ) -> Published | None:
        attempt, key = new_attempt(), head["selection"]
        tables = [sample_rows(key, attempt, i, *arrays) for i, arrays in enumerate(checked)]
        files = self._tables.append("selection_samples", pa.concat_tables(tables))
        more = self._tables.append("selection_rounds", round_rows(key, attempt, checked, rounds))
        row = head | {
            "attempt": attempt, "files": list(files),
            "digest": digest_of((r.first_epoch, *arrays) for r, arrays in zip(rounds, checked, strict=True)),
            "round_heads": [
                {"round": i, "first_epoch": r.first_epoch, "size": len(samples), "objective": r.objective}
                for i, (r, (samples, _)) in enumerate(zip(rounds, checked, strict=True))
            ],
        }  # fmt: skip
        made = None
        try:
            made = until_claimed(lambda: self._show(row, name, needs), f"Publishing selection {name}")
        finally:
            if not made:
                self._tables.drop_attempt("selection_samples", files)
                self._tables.drop_attempt("selection_rounds", more)
        return made or None

    def _show(self, head: dict[str, Any], name: str, needs: list[Need]) -> Published | bool | None:
        """Make a payload visible under the next version of its name. False where the key was published meanwhile."""
        there, claimed = row_of_key(self._tables, "selections", head["selection"])
        if there is not None:
            return False
        claims = {f"key/{head['selection']}": claimed + 1}
        row = self._put(head | {"created": now()}, name, claims, needs)
        return None if row is None else Published(self._made(row, name), created=True)

    def _alias(self, there: Selection, name: str, same: bool, needs: list[Need]) -> Published | None:
        """A second name for what is there, as long as that is."""
        row, _ = row_of_key(self._tables, "selections", there.key)
        if row is None:
            return None
        claims = self._further_claims(there.key, name, row)
        if claims is None:
            return None
        made = self._put({**row, "created": now()}, name, claims[0], needs, claims[1])
        return None if made is None else Published(self._made(made, name), created=True, confirmed=same)

    def _made(self, row: Row, name: str) -> Selection:
        rounds = None if row.get("round_heads") is not None else self._rounds_of({row["attempt"]})[row["attempt"]]
        return _selection({**row, "name": name}, rounds, self._tables)

    def _rounds_of(self, attempts: set[str]) -> dict[str, tuple[RoundHead, ...]]:
        """The rounds of selections of earlier versions, whose heads do not have them."""
        rounds: dict[str, list[RoundHead]] = {}
        for r in self._tables.read("selection_rounds", attempt=attempts).sort_by("round").to_pylist():
            rounds.setdefault(r["attempt"], []).append(_round(r))
        return {attempt: tuple(found) for attempt, found in rounds.items()}


def _round(row: Mapping[str, Any]) -> RoundHead:
    return row["round"], row["first_epoch"], row["size"], row["objective"]


def _heads_of(column: pa.ListArray) -> list[tuple[RoundHead, ...]]:
    """The rounds of many heads, () where a head has none."""
    flat = column.flatten()
    rounds = list(zip(*(flat.field(name).to_pylist() for name in _ROUND), strict=True))
    ends = np.cumsum(np.asarray(pc.list_value_length(column).fill_null(0))).tolist()
    return [tuple(rounds[a:b]) for a, b in pairwise([0, *ends])]


def _selection(row: Mapping[str, Any], rounds: tuple[RoundHead, ...] | None, tables: Tables) -> Selection:
    """A head as a selection; its rounds are in it, but for those of earlier versions."""
    heads = tuple(map(_round, row["round_heads"])) if rounds is None else rounds
    payload = Payload(row["attempt"], tuple(row.get("files") or ()), row.get("digest"))
    return _of([row[name] for name in _FIELDS], row["inputs"], heads, tables, payload)


def _of(
    fields: Sequence[Any], inputs: Sequence[str], heads: tuple[RoundHead, ...], tables: Tables, payload: Payload
) -> Selection:
    everything: tuple[Any, ...] = (*fields, tuple(inputs), heads, tables, payload)
    return Selection(*everything)


def _same(there: Selection, checked: list[tuple[Ints, Floats]], rounds: Sequence[RoundData]) -> bool:
    """Whether a recomputed answer is the stored one, sample for sample and weight for weight."""
    if [r.first_epoch for r in there.rounds] != [r.first_epoch for r in rounds]:
        return False
    pairs = zip(there.read_rounds(), checked, strict=True)
    return all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in pairs)
