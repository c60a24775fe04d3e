"""One store: a root with a format mark, its tables, its blobs, and SQL over all of it."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tamis.store.advice import command
from tamis.store.blobs import Blobs
from tamis.store.datasets import Datasets
from tamis.store.errors import StoreExists, StoreFormatError, StoreNotFound
from tamis.store.packages import Packages
from tamis.store.priorities import Priorities
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import operation
from tamis.store.runs import Runs
from tamis.store.selections import Selections
from tamis.store.tables.tables import At, Tables

if TYPE_CHECKING:
    import duckdb

    from tamis.store.sql.query import Asked

FORMAT = 2
_READ = (1, 2)  # formats that this version opens and adds to
_MARK = "tamis.json"


class Store:
    """Everything that is kept, under one root.

    Open one with `Store.open`, make one with `Store.create`. A Store holds no connection and no lock: any number may be
    open on the same root, in any number of processes.

    Attributes:
        root: the files.
        blobs: content-addressed files.
        datasets: indexed shards.
        runs: runs, scores, loss history.
        selections: what was chosen.
        priorities: prioritisation functions.
        packages: M-Packages, with their base models, candidates and latency profiles.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self.tables = Tables(root)
        self.blobs = Blobs(root)
        self.datasets = Datasets(root, self.tables)
        self.runs = Runs(root, self.tables)
        self.selections = Selections(root, self.tables)
        self.priorities = Priorities(root, self.tables)
        self.packages = Packages(root, self.tables, self.blobs)

    @classmethod
    def create(cls, where: str | os.PathLike[str], options: dict[str, str] | None = None) -> "Store":
        """Make a store at a folder or an object-store URL. The mark goes last: a killed `create` can be repeated.

        Raises:
            StoreExists: a store is there already.
        """
        root = Root(where, options)
        if root.path is not None and root.path.exists() and not root.path.is_dir():
            raise StoreExists(f"{root.url} is a file: a store needs its own folder. Choose another location.")
        if root.get(_MARK) is not None:
            raise StoreExists(f"{root.url} is already a store: open it, or choose another folder.")
        root.prepare()
        store = cls(root)
        with operation(root.options):
            store.tables.create()
        root.put_new(_MARK, json.dumps({"format": FORMAT}).encode() + b"\n")
        return store

    @classmethod
    def open(cls, where: str | os.PathLike[str], options: dict[str, str] | None = None) -> "Store":
        """Open the store that is there.

        Raises:
            StoreNotFound: there is none.
            StoreFormatError: it was written in another format.
        """
        root = Root(where, options)
        mark = root.get(_MARK)
        if mark is None and root.path is not None and root.path.is_file():
            raise StoreNotFound(f"{root.url} is a file: a store is a folder. Give the folder.")
        if mark is None:
            raise StoreNotFound(f"No store at {root.url}. Create one with: {command(root, 'init')}")
        _check_format(mark, root.url)
        return cls(root)

    @classmethod
    def open_or_create(cls, where: str | os.PathLike[str], options: dict[str, str] | None = None) -> "Store":
        """Open the store, or make it where there is none."""
        try:
            return cls.open(where, options)
        except StoreNotFound:
            pass
        try:
            return cls.create(where, options)
        except StoreExists:
            return cls.open(where, options)  # somebody made it meanwhile; or it is a plain file, refused here

    def sql(
        self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None, *, at: At = None
    ) -> "duckdb.DuckDBPyRelation":
        """A read-only query over the store's views; see `tamis.store.sql.query`."""
        return self.ask(query, params, at=at).relation

    def query(
        self,
        query: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        at: At = None,
        memory: int | None = None,
    ) -> pa.Table:
        """As `sql`, with the whole answer as an Arrow table; columns of the same name get names of their own.

        Args:
            query: SQL.
            params: values of its parameters.
            at: a time, or `{table: version}`; None for now.
            memory: bytes that the query may take, and the answer too; None for `tamis.store.sql.files.memory_limit`.
        """
        from tamis.store.sql.query import fetch

        return fetch(self.ask(query, params, at=at, memory=memory))

    def ask(
        self,
        query: str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        at: At = None,
        memory: int | None = None,
    ) -> "Asked":
        """As `query`, with an answer that is computed as it is read (`tamis.store.sql.query.batches`)."""
        from tamis.store.sql.query import ask

        with operation(self.root.options):
            return ask(self.tables, self.root, query, params, at, memory)

    def __repr__(self) -> str:
        return f"Store({self.root.url!r})"


def _check_format(mark: bytes, url: str) -> None:
    try:
        found = json.loads(mark)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(
            f'{url}/{_MARK} is damaged: {mark[:60]!r}. It should read {{"format": {FORMAT}}}.'
        ) from error
    if found not in _READ:
        raise StoreFormatError(
            f"{url} is a store of format {found}; this tamis reads formats {_READ[0]} to {FORMAT}. "
            + (
                "Upgrade tamis."
                if isinstance(found, int) and found > FORMAT
                else "Open it with the tamis that wrote it."
            )
        )
