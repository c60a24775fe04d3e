"""A Delta table's log: one JSON file a commit, put where none was, and the order and time of everything in it.

Commits are written here and not by the Delta library, for three things that publication rests on. The number of a
commit is known before it is written, so that a row can carry its place in the log. A commit costs the same however
many there are: nothing of the table is read for it. And a commit of a head carries its rows, so that what was published
lately is known from the log alone. Everything else (snapshots, checkpoints, schemas) is the library's, and any Delta
reader reads what is written here.

The order of commits is their number, never a clock. Their time is kept beside it: `timestamp` as this machine's clock
had it, and `clock`, which never goes back: the state at a time is the last whose `clock` is at most that time.

Reference: the Delta transaction log protocol, sections "Delta Log Entries" and "Actions".
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tamis.store.errors import StoreFormatError, WriteConflict
from tamis.store.keys import canonical
from tamis.store.roots.roots import Root

Action = dict[str, Any]
Row = dict[str, Any]

_TRIES = 10_000


@dataclass(frozen=True)
class Commit:
    """One entry of a log.

    Attributes:
        version: its number.
        actions: what it says, in Delta's words.
        name: of its file, for messages.
    """

    version: int
    actions: tuple[Action, ...]
    name: str

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What is said of the commit itself."""
        return next((a["commitInfo"] for a in self.actions if "commitInfo" in a), {})

    @cached_property
    def published(self) -> "Published | None":
        """The rows of a head that were published with it, and their claims; None where it says nothing of such."""
        said = self.info.get("tamis")
        if not isinstance(said, dict) or "rows" not in said:
            return None
        if said.get("digest") != digest_of({k: v for k, v in said.items() if k != "digest"}):
            raise StoreFormatError(damaged(self.name, "its rows do not have the digest that was kept with them"))
        return Published(tuple(said["rows"]), dict(said["claims"]), dict(said["note"]))

    @property
    def adds(self) -> list[Action]:
        return [a["add"] for a in self.actions if "add" in a]

    @property
    def removes(self) -> list[Action]:
        return [a["remove"] for a in self.actions if "remove" in a]


@dataclass(frozen=True)
class Published:
    """What a commit of a head published.

    Attributes:
        rows: as plain JSON.
        claims: what was claimed, {what: version}.
        note: anything that goes with the claims alone.
    """

    rows: tuple[Row, ...]
    claims: dict[str, int] = field(default_factory=dict[str, int])
    note: dict[str, str] = field(default_factory=dict[str, str])


class Log:
    """The log of one table.

    Args:
        root: the store's.
        table: the table's name.
    """

    def __init__(self, root: Root, table: str) -> None:
        self._root, self._table = root, table

    def latest(self, known: int = 0) -> int:
        """The number of the newest commit, -1 where the table has none.

        Args:
            known: a commit that is known to be there; looking begins behind it.
        """
        start = max(known, self._checkpoint())
        if self._root.path is None:
            return self._latest_of(self._root.behind(self._folder, _file(start - 1) if start else ""), start)
        if not self.exists(start):
            names = [name.rpartition("/")[2] for name, _ in self._root.list(self._folder)]
            return self._latest_of(names, -1)
        return start + run_length(lambda i: self.exists(start + i))

    def read(self, version: int) -> Commit | None:
        """One commit, or None where it is not there.

        Raises:
            StoreFormatError: its file is damaged.
        """
        name = f"{self._folder}/{_file(version)}"
        data = self._root.get(name)
        if data is None:
            return None
        try:
            actions = tuple(json.loads(line) for line in data.decode().splitlines() if line.strip())
        except ValueError as error:
            raise StoreFormatError(damaged(f"{self._root.url}/{name}", str(error))) from error
        if not actions or not all(isinstance(a, dict) for a in actions):
            raise StoreFormatError(damaged(f"{self._root.url}/{name}", "it contains something other than actions"))
        return Commit(version, actions, f"{self._root.url}/{name}")

    def after(self, version: int, most: int | None = None) -> list[Commit]:
        """Every commit behind a version, in order; no more than `most`, where that is given."""
        found: list[Commit] = []
        if version < 0:
            version = self.first() - 1
        while len(found) != most and (commit := self.read(version + 1 + len(found))) is not None:
            found.append(commit)
        return found

    def put(self, version: int, actions: Sequence[Action], *, clock: int = 0, **said: Any) -> bool:
        """Write a commit as this number; whether nobody else had done so.

        Args:
            version: its number, one behind the newest.
            actions: what it does.
            clock: the `clock` of the commit before, ms.
            said: more of it, kept as `tamis` in its info: `rows` and `claims` of a head.
        """
        wall = time.time_ns() // 1_000_000
        info: dict[str, Any] = {
            "timestamp": wall, "clock": max(wall, clock), "operation": "WRITE",
            "operationParameters": {"mode": "Append"}, "engineInfo": "tamis", "id": os.urandom(8).hex(),
        }  # fmt: skip
        if said:
            info["tamis"] = {**said, "digest": digest_of(said)}
        lines = [{"commitInfo": info}, *actions]
        data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        name = f"{self._folder}/{_file(version)}"
        # When the answer to a request gets lost, the client asks again and is then beaten by itself.
        return self._root.put_new(name, data) or self._root.get(name) == data

    def append(self, actions: Sequence[Action], known: int = 0) -> int:
        """Add a commit that no other can contradict, behind whatever is there; returns its number.

        Raises:
            WriteConflict: others were faster every time.
        """
        version = self.latest(known) + 1
        for _ in range(_TRIES):
            if self.put(version, actions, clock=self.clock(version - 1)):
                return version
            version += 1
        raise WriteConflict(
            f"Table {self._table} of {self._root.url}: {_TRIES} commits lost to other writers. Run the command again."
        )

    def clock(self, version: int) -> int:
        """The largest time of all commits up to a version, ms since 1970; 0 before the first."""
        return _Clocks(self).of(version)

    def at(self, moment: int) -> int | None:
        """The newest version whose clock is at most `moment`, ms since 1970; None where the log begins later."""
        newest, first = self.latest(), self.first()
        clocks = _Clocks(self)
        low, high = first - 1, newest
        while low < high:
            middle = (low + high + 1) // 2
            if clocks.of(middle) <= moment:
                low = middle
            else:
                high = middle - 1
        return None if low < first else low

    def first(self) -> int:
        """The oldest commit that is kept."""
        if self.exists(0):
            return 0
        names = [name.rpartition("/")[2] for name, _ in self._root.list(self._folder)]
        return min((v for v in map(_version, names) if v is not None), default=0)

    def _checkpoint(self) -> int:
        data = self._root.get(f"{self._folder}/_last_checkpoint")
        try:
            return max(0, int(json.loads(data)["version"])) if data else 0
        except (ValueError, KeyError, TypeError):
            return 0  # a hint only: without it the log is read from its beginning

    def exists(self, version: int) -> bool:
        return self._root.exists(f"{self._folder}/{_file(version)}")

    @staticmethod
    def _latest_of(names: Iterable[str], otherwise: int) -> int:
        return max((v for v in map(_version, names) if v is not None), default=otherwise)

    @property
    def _folder(self) -> str:
        return f"tables/{self._table}/_delta_log"


class _Clocks:
    """The clock of each commit; the Delta library's own commits have a timestamp only, so that the largest up to them
    is taken."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[int, int] = {}

    def of(self, version: int) -> int:
        largest, at = 0, version
        while at >= 0 and at not in self._known:
            commit = self._log.read(at)
            largest = max(largest, clock_of(commit))
            if commit is None or "clock" in commit.info:
                break
            at -= 1
        largest = max(largest, self._known.get(at, 0))
        self._known[version] = largest
        return largest


def clock_of(commit: Commit | None) -> int:
    """The time of a commit, ms since 1970; 0 where it says none."""
    info = commit.info if commit is not None else {}
    value = info.get("clock", info.get("timestamp", 0))
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0


def run_length(there: Any) -> int:
    """How many of 1, 2, 3, ... are there, where those that are have no gap: by doubling, then by halving."""
    high = 1
    while there(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low


def digest_of(value: object) -> str:
    """32 hex characters over a plain JSON value."""
    return hashlib.sha256(canonical(value).encode(errors="surrogatepass")).hexdigest()[:32]


def damaged(name: str, why: str) -> str:
    return f"{name} is damaged: {why}. Restore it from a copy; `tamis verify` names everything that is damaged."


def _file(version: int) -> str:
    return f"{version:020d}.json"


def _version(name: str) -> int | None:
    stem, _, suffix = name.partition(".")
    return int(stem) if suffix == "json" and len(stem) == 20 and stem.isdigit() else None
