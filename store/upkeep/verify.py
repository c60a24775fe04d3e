"""Checking everything that a store holds against what was kept with it when it was written.

What: the log of every table, every data file, the samples and weights of selections, packages, the index, blobs,
shards. Each problem is one sentence that names the file. Files of earlier versions have no digest in their names: they
are parsed, and counted as unverifiable, never as damaged.

Cost: reading everything once, shards included (left out with `shards=False`); memory that of the largest file.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tamis.store.errors import TamisError
from tamis.store.packages.integrity import checked
from tamis.store.tables.datafiles import named
from tamis.store.tables.heads import unpacked
from tamis.store.tables.log import Log, Row
from tamis.store.tables.specs import TABLES

if TYPE_CHECKING:
    from tamis.store.store import Store

Progress = Callable[[int, int], None]


@dataclass
class Report:
    """What a check found.

    Attributes:
        checked: how many of each kind were looked at.
        unverifiable: how many of each kind have nothing to be held against, being of an earlier version.
        problems: a sentence each.
    """

    checked: dict[str, int] = field(default_factory=dict[str, int])
    unverifiable: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[str] = field(default_factory=list[str])

    def count(self, kind: str, *, known: bool = True) -> None:
        self.checked[kind] = self.checked.get(kind, 0) + 1
        if not known:
            self.unverifiable[kind] = self.unverifiable.get(kind, 0) + 1


def verify(store: "Store", *, shards: bool = True, progress: Progress | None = None) -> Report:
    """Check a store.

    Args:
        store: an open store.
        shards: hash the shards of all datasets too.
        progress: called with (steps done, steps).
    """
    report = Report()
    store.tables.forget()
    steps: list[Callable[[], None]] = [lambda name=name: _table(store, name, report) for name in TABLES]
    steps += [lambda: _selections(store, report), lambda: _packages(store, report)]
    steps += [lambda: _index(store, report), lambda: _blobs(store, report)]
    if shards:
        steps.append(lambda: _shards(store, report))
    for done, step in enumerate(steps, 1):
        try:
            step()
        except (TamisError, OSError) as error:
            report.problems.append(str(error))
        if progress is not None:
            progress(done, len(steps))
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _table(store: "Store", name: str, report: Report) -> None:
    """A table's log, commit by commit, and the files of its present state."""
    log = Log(store.root, name)
    for version in range(log.first(), log.latest() + 1):
        try:
            commit = log.read(version)
            if commit is None:
                report.problems.append(f"{store.root.url}/tables/{name}: commit {version} is missing.")
                continue
            report.count("commits", known="clock" in commit.info)
            _ = commit.published
        except TamisError as error:
            report.problems.append(str(error))
    state = store.tables.state(name)
    for file in state.files.to_pylist():
        report.count("data files", known=named(file["path"]).digest is not None)
        try:
            store.tables.check_file(state, file)
        except (TamisError, OSError) as error:
            report.problems.append(str(error))


def _selections(store: "Store", report: Report) -> None:
    for selection in store.selections.all():
        report.count("selections", known=selection.digest is not None)
        try:
            selection.read_rounds()
        except (TamisError, OSError) as error:
            report.problems.append(str(error))


def _packages(store: "Store", report: Report) -> None:
    """That packages are what was published, and that the weights which anything names are there."""
    for kind, problem in checked(store.packages):
        report.count(kind)
        if problem is not None:
            report.problems.append(problem)


def _index(store: "Store", report: Report) -> None:
    """That entries are whole, and say what the tables say."""
    for name, spec in TABLES.items():
        if not spec.is_head:
            continue
        published = {c: said for said in store.tables.derived(name) for c in said.claims.items()}
        for file, claim in _entries(store, name):
            report.count("index entries")
            try:
                said = unpacked(f"{store.root.url}/{file}", store.root.get(file) or b"")
            except TamisError as error:
                report.problems.append(str(error))
                continue
            there = published.get(claim)
            if there is not None and _told(said["rows"]) != _told(there.rows):
                report.problems.append(
                    f"{store.root.url}/{file} says something else than table {name}. Remove the folder index/{name}: "
                    "it is made again from the table."
                )


def _told(rows: Iterable[Row]) -> list[Row]:
    """What rows say, without what they leave open."""
    return [{c: v for c, v in row.items() if v is not None} for row in rows]


def _entries(store: "Store", name: str) -> Iterator[tuple[str, tuple[str, int]]]:
    folder = store.tables.index_of(name)
    for file, _ in store.root.list(folder) if folder is not None else ():
        what, _, number = file.removeprefix(f"{folder}/").removesuffix(".json").rpartition("/")
        if what and number.isdigit():
            yield file, (what, int(number))


def _blobs(store: "Store", report: Report) -> None:
    for name, _ in store.root.list("blobs"):
        digest = name.rpartition("/")[2]
        report.count("blobs")
        data = store.root.get(name)
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            report.problems.append(
                f"{store.root.url}/{name} is damaged: its bytes are not those that it was written with. Restore it "
                "from a copy, or remove it and compute it again."
            )


def _shards(store: "Store", report: Report) -> None:
    for name in sorted({str(row["dataset"]) for row in store.datasets.all()}):
        dataset = store.datasets.get(name)
        for shard in dataset.shards:
            report.count("shards", known=shard.digest is not None)
        report.problems += dataset.verify()
