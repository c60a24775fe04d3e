"""What is published, found by key or by name without reading the rest, and published so that nobody else can be first.

A head table's commits carry *claims*, pairs of a text and a number: `key/<key>` 1 for a selection, `name/<name>` 3 for
its version. A claim is granted once: a publisher looks whether anybody has it, and writes its commit as the very next
one; where another was faster, it looks again. So there is no lock to hold or to leave behind.

`index/<table>/` makes looking cheap. Each claim has a small file there with the rows that it published, and `mark.json`
says up to which commit that holds; what was committed behind the mark is read from the log itself, a commit or two. All
of it is derived from the table and made again where it is missing, as in a store of an earlier version, or where it is
that of another log, as where tables were restored from a copy. An index that is made again gets a folder of its own, a
*generation*, which the mark names: one that is in use is never changed but by entries that are added. A table that was
made and has nothing yet has no index either: its log, of a commit or two, is looked at.

Cost: a claim is found, or found missing, with three or four small files read, however many were published; publishing
writes one row of Parquet, the commit, a file a claim and the mark.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.store.errors import StoreFormatError, TamisError, WriteConflict
from tamis.store.roots.roots import Root
from tamis.store.tables.log import Action, Commit, Log, Published, Row, digest_of, run_length

_TRIES = 1_000
_YOUNG = 4  # commits up to which a log without an index is read itself
_NO_INDEX = "none"  # the generation of an index that is not there

Claims = Mapping[str, int]
# The version of a table, and everything that it publishes in the order of its log.
Derive = Callable[[], tuple[int, list[Published]]]
Write = Callable[[Sequence[Row]], list[Action]]


@dataclass
class _Tail:
    """What the log has behind the mark, and the index that the mark is of."""

    generation: str
    mark: int
    commits: list[Commit]

    @property
    def version(self) -> int:
        return self.commits[-1].version if self.commits else self.mark

    def find(self, what: str, version: int) -> Published | None:
        for commit in self.commits:
            said = commit.published
            if said is not None and said.claims.get(what) == version:
                return said
        return None


class Barred(Exception):
    """A commit would come behind something that forbids it.

    Attributes:
        what: the claim that somebody has.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Heads:
    """The heads of one table.

    Args:
        root: the store's.
        table: its name.
        derive: reads the table whole: its version, and all that it publishes, in order.
        write: writes rows as data files, for `publish`.
    """

    def __init__(self, root: Root, table: str, derive: Derive, write: Write) -> None:
        self._root, self._table, self._derive, self._write = root, table, derive, write
        self._log = Log(root, table)

    def get(self, what: str, version: int) -> Published | None:
        """What was published with a claim, or None.

        Raises:
            StoreFormatError: its file, or the log, is damaged.
        """
        mark = self._marked()
        found = None if mark is None else self._indexed(mark[0], what, version)
        if found is not None:
            return found
        tail = self._tail() or self._young()
        if tail is None:
            return self._derived().get((what, version))
        return tail.find(what, version) or self._indexed(tail.generation, what, version)

    def newest(self, what: str) -> int:
        """The last version that was claimed for something, 0 for none. Versions have no gaps."""
        return self.newest_of(what)[0]

    def newest_of(self, *whats: str) -> list[int]:
        """As `newest`, of several at one moment."""
        tail = self._tail() or self._young()
        if tail is not None:
            return [self._newest(tail, what) for what in whats]
        derived = self._derived()
        return [max((v for w, v in derived if w == what), default=0) for what in whats]

    def every(self, what: str) -> list[Published]:
        """What was published with each version of a claim, in order."""
        found: list[Published] = []
        mark = self._marked()
        while mark is not None and (said := self._indexed(mark[0], what, len(found) + 1)) is not None:
            found.append(said)
        while (said := self.get(what, len(found) + 1)) is not None:
            found.append(said)
        return found

    def publish(
        self,
        rows: Sequence[Row],
        claims: Claims,
        note: Mapping[str, str],
        unless: Claims | None = None,
        good: Callable[[Sequence[Commit]], bool] | None = None,
        since: int = -1,
    ) -> int | None:
        """Commit rows, if nobody has any of the claims; returns the number of the commit, or None.

        The rows get their place in the log as `log_version`. Without rows, the claims and the note alone are kept.

        Args:
            rows: of the table.
            claims: what is claimed with them.
            note: texts that are kept with the claims.
            unless: claims that nobody may have.
            good: says of the commits behind `since`, which this one will be behind too, whether it still may be made.
            since: the version of the table that the rows were told from.

        Raises:
            Barred: somebody has one of `unless`.
            WriteConflict: others were faster every time.
        """
        tail = self._tail() or self._build()
        for _ in range(_TRIES):
            for what, version in (unless or {}).items():
                if self._taken(tail, what, version):
                    raise Barred(what)
            if any(self._taken(tail, what, version) for what, version in claims.items()):
                return None
            if good is not None and not good(self._log.after(since)):
                return None
            version = tail.version + 1
            placed = [{**row, "log_version": version} for row in rows]
            adds = self._write(placed) if placed else []
            clock = self._log.clock(tail.version)
            actions: list[Action] = [{"add": add} for add in adds]
            if self._log.put(version, actions, clock=clock, rows=placed, claims=dict(claims), note=dict(note)):
                self._index(tail)
                return version
            for add in adds:
                self._root.delete(f"tables/{self._table}/{add['path']}")
            tail.commits += self._log.after(tail.version)
        raise WriteConflict(
            f"Table {self._table} of {self._root.url}: {_TRIES} attempts to publish lost to other writers. "
            "Run the command again with fewer concurrent writers."
        )

    def marked(self) -> int | None:
        """Up to which commit the index holds; None where it is missing, or is not that of this log."""
        found = self._marked()
        return None if found is None else found[1]

    def generation(self) -> str | None:
        """The folder of the index that is in use, in the store."""
        found = self._marked()
        return None if found is None else f"index/{self._table}/{found[0]}"

    def _marked(self) -> tuple[str, int] | None:
        data = self._root.get(self._mark)
        if data is None:
            return None
        said = unpacked(f"{self._root.url}/{self._mark}", data)
        return (str(said["generation"]), int(said["mark"])) if self._log.exists(int(said["mark"])) else None

    def _newest(self, tail: _Tail, what: str) -> int:
        late = [said.claims[what] for c in tail.commits if (said := c.published) is not None and what in said.claims]
        if late:
            return max(late)
        return run_length(lambda v: self._root.exists(self._name(tail.generation, what, v)))

    def _taken(self, tail: _Tail, what: str, version: int) -> bool:
        name = self._name(tail.generation, what, version)
        return tail.find(what, version) is not None or self._root.exists(name)

    def _tail(self) -> _Tail | None:
        """The log behind the mark; None where there is no index, or where somebody wrote who keeps none."""
        found = self._marked()
        if found is None:
            return None
        tail = _Tail(*found, self._log.after(found[1]))
        return None if _foreign(tail.commits) else tail

    def _young(self) -> _Tail | None:
        """The whole log, of a table for which nobody has published yet, or hardly; None where it has more to it."""
        commits = self._log.after(-1, _YOUNG) if self._log.exists(0) else []
        return None if len(commits) in (0, _YOUNG) or _foreign(commits) else _Tail(_NO_INDEX, -1, commits)

    def _index(self, tail: _Tail) -> None:
        """Take what was committed into the index. It is published with or without that."""
        try:
            tail.commits += self._log.after(tail.version)
            for commit in tail.commits:
                if (said := commit.published) is not None:
                    self._enter(tail.generation, said)
            self._put_mark(tail.generation, tail.version)
        except (TamisError, OSError):
            return

    def _build(self) -> _Tail:
        """Make the index from the table, or take that of somebody who was faster: it may have more by now."""
        alone = not self._root.exists(self._mark)
        tail = self._tail()
        if tail is not None:
            return tail
        version, published = self._derive()
        generation = uuid.uuid4().hex[:8]
        for said in published:
            self._enter(generation, said)
        mark = _packed({"generation": generation, "mark": version})
        if not alone or not self._root.put_new(self._mark, mark):
            tail = self._tail() if alone else None
            if tail is not None:
                return tail
            self._root.put(self._mark, mark)
        return _Tail(generation, version, self._log.after(version))

    def _put_mark(self, generation: str, version: int) -> None:
        self._root.put(self._mark, _packed({"generation": generation, "mark": version}))

    def _derived(self) -> dict[tuple[str, int], Published]:
        _, published = self._derive()
        return {claim: said for said in published for claim in said.claims.items()}

    def _enter(self, generation: str, said: Published) -> None:
        for what, version in said.claims.items():
            entry = {"rows": list(said.rows), "claims": said.claims, "note": said.note}
            self._root.put_new(self._name(generation, what, version), _packed(entry))

    def _indexed(self, generation: str, what: str, version: int) -> Published | None:
        name = self._name(generation, what, version)
        data = self._root.get(name)
        if data is None:
            return None
        found = unpacked(f"{self._root.url}/{name}", data)
        return Published(tuple(found["rows"]), dict(found["claims"]), dict(found["note"]))

    def _name(self, generation: str, what: str, version: int) -> str:
        return f"index/{self._table}/{generation}/{what}/{version}.json"

    @property
    def _mark(self) -> str:
        return f"index/{self._table}/mark.json"


def _foreign(commits: Sequence[Commit]) -> bool:
    """Whether rows were added by somebody who does not say what they claim."""
    return any(c.published is None and any(a.get("dataChange") for a in c.adds) for c in commits)


def _packed(value: dict[str, Any]) -> bytes:
    return json.dumps({**value, "digest": digest_of(value)}, separators=(",", ":")).encode() + b"\n"


def unpacked(shown: str, data: bytes) -> dict[str, Any]:
    """The content of a file of an index.

    Raises:
        StoreFormatError: it is damaged.
    """
    try:
        value = json.loads(data)
        good = value.pop("digest") == digest_of(value)
    except (ValueError, KeyError, AttributeError, TypeError):
        good, value = False, {}
    if not good:
        raise StoreFormatError(
            f"{shown} is damaged: its content does not have the digest that was kept with it. Remove the folder of "
            "this name's table below index/: it is made again from the table."
        )
    return value
