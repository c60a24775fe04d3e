"""Prioritisation functions that are kept: F of AdaptSB, by name and version, as plain data.

What: a function is JSON (`tamis.curation.selective.priority.Priority.to_json`), which the store does not interpret. A
name has versions, which never change; the same function published again under a name that has it is that version.
Lineage: `search` is the run of the search that found it, whose trials are runs too; None where it was imported.
Cost: one small row each, found by its name with a few small reads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tamis.store.advice import did_you_mean
from tamis.store.errors import PriorityNotFound
from tamis.store.keys import NAME, canonical, check_name, key_of, split_ref
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.tables import Tables, moment_of, now, until_claimed


@dataclass(frozen=True)
class StoredPriority:
    """A version of a name.

    Attributes:
        name: its name.
        version: 1, 2, ...
        key: of the function alone: equal functions have equal keys, whatever they are called.
        function: plain JSON.
        search: key of the run that searched for it, or None.
        trial: number of the trial of that search which it is from, or None.
        stats: what is worth knowing of it.
        created: when it was published.
    """

    name: str
    version: int
    key: str
    function: dict[str, Any]
    search: str | None
    trial: int | None
    stats: dict[str, Any]
    created: Any

    @property
    def ref(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"


class Priorities:
    """The prioritisation functions of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @one_patience
    def publish(
        self,
        name: str,
        function: Mapping[str, Any],
        *,
        search: str | None = None,
        trial: int | None = None,
        stats: Mapping[str, Any] | None = None,
    ) -> StoredPriority:
        """Keep a function as the next version of a name, or find the version that it is.

        Args:
            name: its name.
            function: plain JSON.
            search: key of the run that found it.
            trial: of that search.
            stats: plain JSON.
        """
        check_name(name, "priority")
        key = key_of("priority", function)

        def attempt() -> StoredPriority | None:
            there = self._versions(name)
            same = [one for one in there if one.key == key and one.search == search]
            if same:
                return same[-1]
            row = {
                "priority": key, "name": name, "version": len(there) + 1, "function": canonical(dict(function)),
                "search": search, "trial": trial, "stats": canonical(dict(stats or {})), "created": now(),
            }  # fmt: skip
            made = self._tables.publish("priorities", [row], {f"name/{name}": len(there) + 1})
            return _stored(row) if made else None

        return until_claimed(attempt, f"Publishing priority {name}")

    @one_patience
    def get(self, ref: str) -> StoredPriority:
        """A function by "name" (the newest version) or "name@version".

        Raises:
            PriorityNotFound: naming what there is.
        """
        name, version = split_ref(ref)
        found = self._versions(name) if NAME.fullmatch(name) else []
        if not found:
            names = sorted({one.name for one in self.all()})
            raise PriorityNotFound(
                f"No priority {name[:200]!r} in {self._root.url}; there are: {', '.join(names) or 'none'}."
                f"{did_you_mean(name, names)}"
            )
        if version is not None and version > len(found):
            raise PriorityNotFound(f"Priority {name!r} has versions 1 to {len(found)}, not {version}.")
        return found[(version or len(found)) - 1]

    @one_patience
    def all(self) -> list[StoredPriority]:
        """Every version of every name, in the order in which they were published."""
        return [_stored(row) for row in self._tables.rows_in_order("priorities")]

    def _versions(self, name: str) -> list[StoredPriority]:
        return [_stored(row) for row in self._tables.every("priorities", f"name/{name}")]


def _stored(row: Mapping[str, Any]) -> StoredPriority:
    return StoredPriority(
        row["name"], row["version"], row["priority"], json.loads(row["function"]), row["search"], row["trial"],
        json.loads(row["stats"]), moment_of(row["created"]),
    )  # fmt: skip
