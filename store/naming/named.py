"""What is published under names is found by key, or by name and version, newest first.

How: a row of the table is claimed by its key (`key/KEY`), by a further name for the same key (`named/NAME/KEY`) and by
the version of its name (`name/NAME`), as `tamis.store.tables.heads` keeps claims. What was removed or renamed since
stands in rows of their own (`tamis.store.tables.lives`): a key whose thing was removed is claimed once more by who
computes it anew, under the next number; a renamed thing keeps its first name in its rows, and `label/NEW` leads to it.
Cost: a few small reads, however many there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from tamis.store.advice import did_you_mean
from tamis.store.errors import InvalidName
from tamis.store.keys import KEY, split_ref
from tamis.store.naming.needs import publish_needing
from tamis.store.naming.series import Series, further_of, row_of_key, series_of
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import Need
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables


class HasName(Protocol):
    """What has a name of its own."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=HasName)


class Named(ABC, Generic[T]):
    """The published things of one table.

    Attributes:
        table: where they are.
        word: what one is called.
        absent: raised where there is no such thing.
    """

    table: ClassVar[str]
    word: ClassVar[str]
    absent: ClassVar[type[Exception]]

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @one_patience
    def get(self, ref: str) -> T:
        """One by "name" (newest version), "name@version", or key.

        A name with a version leads to that version also after it was renamed: what was written down stays good.

        Raises:
            absent: lists what there is; says what was renamed or removed.
        """
        if KEY.fullmatch(ref) and (found := self._of_key(ref)) is not None:
            return found
        name, version = split_ref(ref)
        series = self.series(name)
        if version is None and series.called != name and series.newest:
            raise self.absent(f"{self.word.capitalize()} {name!r} was renamed to {series.called!r}: use that name.")
        number = series.last if version is None else version
        if number > series.newest:
            raise self.absent(f"{self.word.capitalize()} {name!r} has versions 1 to {series.newest}, not {version}.")
        if not number or not series.life.alive(number):
            raise self.absent(self._removed(series, version))
        said = self._tables.found(self.table, f"name/{series.thing}", number)
        if said is None:
            raise self.absent(f"{self.word.capitalize()} {name!r} has versions 1 to {number - 1}, not {number}.")
        return self._made(said.rows[0], series.called)

    def series(self, name: str) -> Series:
        """The versions of a name.

        Raises:
            absent: there never was one; lists what there is.
        """
        found = series_of(self._tables, self.table, name)
        if not found.newest:
            names = self.names()
            raise self.absent(
                f"No {self.word} {name[:200]!r} in {self._root.url}; there are: {', '.join(names) or 'none'}."
                f"{did_you_mean(name, names)}"
            )
        return found

    def names(self) -> list[str]:
        """All names, in alphabetical order."""
        heads = self._tables.state(self.table)
        lives = self._tables.lives(heads)
        return sorted({lives.called(name) for name in self._tables.alive(heads, ["name"])["name"].to_pylist()})

    def _rows(self) -> tuple[list[Row], Mapping[str, str]]:
        """The rows of all that is there, and what those are called that were renamed."""
        heads = self._tables.state(self.table)
        return self._tables.alive(heads).to_pylist(), self._tables.lives(heads).renamed

    def _removed(self, series: Series, version: int | None) -> str:
        what = series.called if version is None else f"{series.called}@{version}"
        return (
            f"{self.word.capitalize()} {what} was removed. `tamis {self.word} restore {what}` undoes that until its "
            "files are freed (tamis gc)."
        )

    def _of_key(self, key: str, name: str | None = None) -> T | None:
        """The one of a key (under this name), or None."""
        row, _ = row_of_key(self._tables, self.table, key)
        if row is None:
            return None
        made = self._made(row, self._tables.life(self.table, row["name"]).name or row["name"])
        return made if name in (None, made.name) else self._further(key, name or "")[0]

    def _further(self, key: str, name: str) -> tuple[T | None, int]:
        """What has a key under a further name, and how often that was claimed."""
        thing = series_of(self._tables, self.table, name).thing
        row, claimed = further_of(self._tables, self.table, key, thing)
        return (None if row is None else self._made(row, name)), claimed

    def _further_claims(self, key: str, name: str, row: Row) -> tuple[dict[str, int], dict[str, int]] | None:
        """What a further name for the row of a key claims, and what nobody may have claimed then: that row stays.

        None where the name has the key meanwhile.
        """
        thing = series_of(self._tables, self.table, name).thing
        there, claimed = further_of(self._tables, self.table, key, thing)
        if there is not None:
            return None
        moves = self._tables.life(self.table, row["name"]).moves
        return {f"named/{thing}/{key}": claimed + 1}, {f"moves/{row['name']}": moves + 1}

    def _put(
        self, row: Row, name: str, claims: Mapping[str, int], needs: list[Need], unless: Mapping[str, int] | None = None
    ) -> Row | None:
        """Publish a row as the next version of a name; None where another was faster.

        Raises:
            InvalidName: the name was another's once, and is no name now.
        """
        series = series_of(self._tables, self.table, name)
        if series.newest and series.called != name:
            raise InvalidName(
                f"{name!r} was renamed to {series.called!r}: use that name, or one that no {self.word} has had."
            )
        version = series.newest + 1
        made: dict[str, Any] = {**row, "name": series.thing, "version": version}
        free = {} if series.newest else {f"label/{name}": 1}
        try:
            done = publish_needing(
                self._tables, self.table, [made], {f"name/{series.thing}": version, **claims}, needs,
                {**free, **(unless or {})},
            )  # fmt: skip
        except Barred:
            return None
        return made if done else None

    @abstractmethod
    def _made(self, row: Row, name: str) -> T:
        """The one that a row is of, under the name that it has now."""
