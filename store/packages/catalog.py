"""The packages of a store: keeping what a build finishes, publishing, and finding.

How: a candidate is a row of its own as soon as it is finished, claimed by the key of what was asked, so a killed build
finds it. A package is one row that names its candidates, claimed by its key and by the next version of its name, in one
commit (`tamis.store.tables.heads`); candidates show in SQL with the packages that name them.
Cost: finding a package is a few small reads for it and for each candidate; weights are read when they are asked for.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tamis.store.blobs import Blobs
from tamis.store.errors import PackageError, PackageNotFound
from tamis.store.keys import KEY, canonical, check_name, split_ref
from tamis.store.lifecycle import Renamable
from tamis.store.naming.named import Named
from tamis.store.naming.series import row_of_key, series_of
from tamis.store.packages.bases import Bases
from tamis.store.packages.checking import MOST_CANDIDATES, check_candidate, check_package
from tamis.store.packages.profiles import Profiles
from tamis.store.packages.records import Candidate, EventFigures, NewPackage, Package, package_key, pareto_of
from tamis.store.packages.weights import shapes_of
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.lives import Need
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables, moment_of, now, until_claimed

_FIGURES = ("average", "minimum", "frequency", "correlation")
_PLAIN = ("name", "base", "dataset", "selection", "event_class", "image_size", "seed")  # of a package, kept as they are
_OF = ("base", "branch", "branchpoint", "frozen", "parameters", "accuracy", "tpr", "fpr", "correlation", "seconds",
       "blob", "bytes")  # fmt: skip


@dataclass(frozen=True)
class Published:
    """The answer to a publication.

    Attributes:
        package: what is in the store.
        created: whether this call made it, or a name for it.
    """

    package: Package
    created: bool


class Catalog(Named[Package], Renamable):
    """The packages of one store; `tamis.store.packages.exchange.Packages` also exports and imports them.

    Attributes:
        bases: their base models.
        profiles: latency profiles of those.
        blobs: of the store, where weights are.
    """

    table, word, absent = "packages", "package", PackageNotFound

    def __init__(self, root: Root, tables: Tables, blobs: Blobs) -> None:
        super().__init__(root, tables)
        self.blobs = blobs
        self.bases = Bases(root, tables, blobs)
        self.profiles = Profiles(root, tables)

    @one_patience
    def finish_candidate(self, candidate: Candidate, weights: bytes) -> Candidate:
        """Keep a finished candidate. What is there of its key already is the answer.

        Args:
            candidate: `blob` and `bytes` are told from the weights.
            weights: of the specialised layers, the new head included (safetensors).

        Raises:
            PackageError: a figure is out of range, or the weights are no safetensors.
            BaseNotFound: its base is not in the store.
        """
        there = self.candidate(candidate.key)
        if there is not None:
            return there
        shapes_of(weights, f"Candidate {candidate.key[:12]}")
        self.bases.get(candidate.base)
        return self.keep_candidate(replace(candidate, blob=self.blobs.put(weights), bytes=len(weights)))

    def keep_candidate(self, candidate: Candidate, *, foreign: bool = False) -> Candidate:
        """The row of a candidate whose weights are there already.

        Args:
            candidate: as it is kept.
            foreign: keep it beside what is there of its key, where that differs.
        """
        check_candidate(candidate)
        row = {name: getattr(candidate, name) for name in _OF}
        row |= {
            "candidate": candidate.key, "content": candidate.content, "metrics": canonical(candidate.metrics),
            "created": now(),
        }  # fmt: skip

        def publish() -> Candidate | None:
            first = self.candidate(candidate.key)
            same = self._candidate(f"content/{candidate.content}")
            there = same or (None if foreign else first)
            if there is not None:
                return there
            claims = {f"content/{candidate.content}": 1} | ({f"key/{candidate.key}": 1} if first is None else {})
            return replace(candidate, pareto=False) if self._tables.publish("candidates", [row], claims) else None

        return until_claimed(publish, f"Keeping candidate {candidate.key[:12]}")

    @one_patience
    def candidate(self, key: str) -> Candidate | None:
        """The finished candidate of a key, or None."""
        return self._candidate(f"key/{key}") if KEY.fullmatch(key) else None

    def weights(self, candidate: Candidate) -> bytes:
        """The specialised layers of a candidate (safetensors), held against their digest.

        Raises:
            BlobNotFound: they are gone.
            BlobCorrupt: the bytes on the medium changed.
        """
        return self.blobs.get(candidate.blob)

    @one_patience
    def publish(self, package: NewPackage, candidates: Sequence[Candidate | str]) -> Published:
        """Make finished candidates a package: the next version of its name, unless the name has this very package.

        Args:
            package: all but the candidates.
            candidates: finished ones, or their keys.

        Raises:
            PackageError: a figure is out of range, or the candidates are none, repeated or of another base.
            PackageNotFound: a candidate was not finished.
            BaseNotFound: the base is not in the store.
        """
        check_name(package.name, "package")
        check_package(package)
        self.bases.get(package.base)
        found = pareto_of(self._finished(one) for one in candidates)
        _check_family(package, found)
        key = package_key(package, found)
        row = _row(package, key, found)
        needs = self._needs(package)

        def publish() -> Published | None:
            there, claimed = row_of_key(self._tables, "packages", key)
            if there is None:
                return self._show(row, package.name, {f"key/{key}": claimed + 1}, needs=needs)
            named = self.find(key, package.name)
            if named is not None:
                return Published(named, False)
            claims = self._further_claims(key, package.name, there)
            return None if claims is None else self._show(row, package.name, *claims, needs=needs)

        return until_claimed(publish, f"Publishing package {package.name}")

    @one_patience
    def find(self, key: str, name: str | None = None) -> Package | None:
        """The package of a key (under this name), or None."""
        return self._of_key(key, name) if KEY.fullmatch(key) else None

    @one_patience
    def all(self) -> list[Package]:
        """Every name@version, by name and version."""
        rows, renamed = self._rows()
        there = {one.content: one for one in self.candidates()} if rows else {}
        found = (_package({**row, "name": renamed.get(row["name"], row["name"])}, there) for row in rows)
        return sorted(found, key=lambda one: (one.name, one.version))

    def refs(self) -> list[str]:
        """name@version of every package, by name and version."""
        rows, renamed = self._rows()
        return [f"{name}@{v}" for name, v in sorted((renamed.get(r["name"], r["name"]), r["version"]) for r in rows)]

    def candidates(self) -> list[Candidate]:
        """Every finished candidate, whether a package has it or none, in the order in which they were finished."""
        return [_candidate_of(row) for row in self._tables.rows_in_order("candidates")]

    def _show(
        self,
        row: dict[str, Any],
        name: str,
        claims: Mapping[str, int],
        unless: Mapping[str, int] | None = None,
        *,
        needs: list[Need],
    ) -> Published | None:
        """Publish a package's row under the next version of its name; None where another was faster."""
        made = self._put(row | {"created": now()}, name, claims, needs, unless)
        return None if made is None else Published(self._made(made, name), True)

    def _needs(self, package: NewPackage) -> list[Need]:
        """What the package cannot do without, of what is in this store: an imported one names what never was here."""
        needs: list[Need] = []
        if package.dataset:
            name, version = split_ref(package.dataset)
            needs.append(Need("datasets", name, version or 0))
        if package.selection:
            name, version = split_ref(package.selection)
            thing = series_of(self._tables, "selections", name).thing
            said = self._tables.found("selections", f"name/{thing}", version or 0)
            needs += [] if said is None else [Need("selections", said.rows[0]["selection"])]
        return needs

    def _finished(self, one: Candidate | str) -> Candidate:
        key = one if isinstance(one, str) else one.key
        found = self.candidate(one) if isinstance(one, str) else self._candidate(f"content/{one.content}")
        if found is None:
            raise PackageNotFound(f"Candidate {key[:32]!r} is not finished: build it before the package is published.")
        return found

    def _candidate(self, claim: str) -> Candidate | None:
        said = self._tables.found("candidates", claim, 1)
        return None if said is None else _candidate_of(said.rows[0])

    def _made(self, row: Row, name: str) -> Package:
        found = (self._candidate(f"content/{one['content']}") for one in row["candidates"])
        return _package({**row, "name": name}, {one.content: one for one in found if one is not None})


def _check_family(package: NewPackage, candidates: Sequence[Candidate]) -> None:
    if not 0 < len(candidates) <= MOST_CANDIDATES:
        raise PackageError(
            f"Package {package.name} has {len(candidates)} candidates: expected 1 to {MOST_CANDIDATES:,}."
        )
    if len({one.content for one in candidates}) < len(candidates):
        raise PackageError(f"Package {package.name} names a candidate twice: expected each once.")
    for one in candidates:
        if one.base != package.base:
            raise PackageError(
                f"Candidate {one.key[:12]} is of base model {one.base[:12]}, package {package.name} of "
                f"{package.base[:12]}: expected candidates of one base."
            )


def _row(package: NewPackage, key: str, candidates: Iterable[Candidate]) -> dict[str, Any]:
    events = package.events
    figures: dict[str, Any] = {} if events is None else {name: getattr(events, name) for name in _FIGURES}
    return {
        **{name: getattr(package, name) for name in _PLAIN},
        **figures,
        "measured": None if events is None else list(events.measured),
        "package": key,
        "classes": list(package.classes),
        "config": canonical(package.config),
        "lineage": canonical(package.lineage),
        "candidates": [{"candidate": one.key, "content": one.content, "pareto": one.pareto} for one in candidates],
    }


def _package(row: Mapping[str, Any], there: Mapping[str, Candidate]) -> Package:
    lost = [one["candidate"] for one in row["candidates"] if one["content"] not in there]
    if lost:
        raise PackageError(
            f"Package {row['name']}@{row['version']} names candidate {lost[0][:12]}, which table candidates lacks: "
            "restore tables/candidates from a copy."
        )
    figures = {name: row[name] for name in _FIGURES if row.get(name) is not None}
    events = EventFigures(**figures, measured=tuple(row.get("measured") or ())) if figures else None
    plain: dict[str, Any] = {name: row.get(name) for name in _PLAIN}
    return Package(
        **plain,
        classes=tuple(row.get("classes") or ()),
        events=events,
        config=json.loads(row["config"]),
        lineage=json.loads(row["lineage"]),
        key=row["package"],
        version=row["version"],
        created=moment_of(row["created"]),
        candidates=tuple(replace(there[one["content"]], pareto=one["pareto"]) for one in row["candidates"]),
    )


def _candidate_of(row: Mapping[str, Any]) -> Candidate:
    return Candidate(row["candidate"], metrics=json.loads(row["metrics"]), **{name: row[name] for name in _OF})
