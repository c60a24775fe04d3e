"""What catalogues of things that can be removed, restored and renamed have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

from tamis.store.lifecycle.going import Removal
from tamis.store.lifecycle.removing import plan, remove
from tamis.store.lifecycle.renaming import rename
from tamis.store.lifecycle.restoring import restore
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.tables import Tables


class Removable(ABC):
    """Things of one table that can be removed, and restored until their files are freed.

    Attributes:
        table: where they are.
    """

    table: ClassVar[str]
    _root: Root
    _tables: Tables

    @one_patience
    def removal(self, ref: str) -> Removal:
        """What `remove` would take, and what needs it. Changes nothing.

        Args:
            ref: as of `remove`.

        Raises:
            NotFound: there is no such thing.
        """
        while (found := plan(self._tables, self.table, self._told(ref))) is None:
            self._lost(ref)
        return found

    @one_patience
    def remove(self, ref: str) -> Removal:
        """Remove something: nothing finds it any more, `--at` still does, and `restore` takes it back.

        Its number is never given again. Files are freed by `tamis gc`, once the removal is older than the history
        that is kept.

        Args:
            ref: name@version, a name for all its versions, or a key.

        Raises:
            NotFound: there is no such thing.
            StillNeeded: naming everything that needs it; nothing was removed.
        """
        while (found := remove(self._tables, self.table, self._told(ref))) is None:
            self._lost(ref)
        return found

    @one_patience
    def restore(self, ref: str) -> list[str]:
        """Take a removal back; returns what is there again.

        Args:
            ref: name@version, a name for all versions of it that can be restored, or a run's key.

        Raises:
            NotFound: nothing of this name was removed.
            RestoreRefused: its files were freed, or its answer was computed anew meanwhile.
        """
        return restore(self._tables, self.table, ref)

    @abstractmethod
    def get(self, ref: str, /) -> object:
        """The thing of a reference, or the error that says why there is none."""

    def _lost(self, ref: str) -> None:
        """Say why a reference names nothing; nothing, where it was published a moment ago."""
        self.get(ref)

    def _told(self, ref: str) -> str:
        """A reference as it is written in full. By default it is one."""
        return ref


class Renamable(Removable):
    """Things that can also get another name."""

    @one_patience
    def rename(self, old: str, new: str) -> list[str]:
        """Give all versions of a name another name; returns what they are called now.

        References with a version ("old@2") lead to the same version for ever. The bare old name is refused, and says
        what it was renamed to; nothing else may have it.

        Args:
            old: the name that they have.
            new: one that nothing in this table ever had, or that these versions had before.

        Raises:
            NotFound: there is no such name.
            InvalidName: the new name is none, or another's.
        """
        found = rename(self._tables, self.table, old, new)
        return [f"{found.called}@{n}" for n in range(1, found.newest + 1) if found.life.alive(n)]
