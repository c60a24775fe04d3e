"""What is published under names: found by key, or by name and version, newest first.

How: a row of the table is claimed by its key (`key/KEY`), by a further name for the same key (`named/NAME/KEY`) and by
the version of its name (`name/NAME`), as `tamis.store.tables.heads` keeps claims.
Cost: a few small reads, however many there are.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from tamis.store.advice import did_you_mean
from tamis.store.keys import KEY, NAME, split_ref
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
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

        Raises:
            absent: lists what there is.
        """
        if KEY.fullmatch(ref) and (found := self._of_key(ref)) is not None:
            return found
        name, version = split_ref(ref)
        newest = self._tables.claimed(self.table, f"name/{name}") if NAME.fullmatch(name) else 0
        if not newest:
            names = sorted(set(self._tables.read(self.table, None, ["name"])["name"].to_pylist()))
            raise self.absent(
                f"No {self.word} {ref[:200]!r} in {self._root.url}; there are: {', '.join(names) or 'none'}."
                f"{did_you_mean(name, names)}"
            )
        found = self._found(f"name/{name}", newest if version is None else version)
        if found is None:
            raise self.absent(f"{self.word.capitalize()} {name!r} has versions 1 to {newest}, not {version}.")
        return found

    def _of_key(self, key: str, name: str | None = None) -> T | None:
        """The one of a key (under this name), or None."""
        first = self._found(f"key/{key}", 1)
        if first is None or name in (None, first.name):
            return first
        return self._found(f"named/{name}/{key}", 1)

    @abstractmethod
    def _found(self, what: str, version: int) -> T | None:
        """The one that a claim was made for, or None."""
