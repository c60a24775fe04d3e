"""The datasets of a store: adding, appending, relocating, and finding them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from tamis.store.advice import did_you_mean
from tamis.store.datasets.changes import CLASSES, MOVED, Changes, moved
from tamis.store.datasets.classes import check_classes
from tamis.store.datasets.dataset import Added, Dataset
from tamis.store.datasets.flipping import FLIP, Flips, flip, flips_of, origin_of
from tamis.store.datasets.frames import Footage, Frames
from tamis.store.datasets.publishing import Publisher
from tamis.store.datasets.relabelling import Labels, relabelled, relabelled_rows, relabelled_shards
from tamis.store.datasets.splitting import deal, deal_by_time, part_of, part_rows
from tamis.store.datasets.versions import Versions
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardError
from tamis.store.keys import check_name, split_ref
from tamis.store.lifecycle import Removable
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.shards.indexing import (
    AUTO,
    Found,
    Progress,
    alike,
    check_count,
    check_keys,
    distinct,
    in_threads,
    index_all,
    not_in,
    sample_rows,
)
from tamis.store.shards.naming import number_names
from tamis.store.shards.shards import Shard, look, shard_digest, shard_uri
from tamis.store.shards.skipped import summed
from tamis.store.tables.specs import LOG
from tamis.store.tables.tables import Tables, now, until_claimed


class Datasets(Removable):
    """The datasets of one store."""

    table = "datasets"

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables
        self._versions = Versions(root, tables)
        self._publisher = Publisher(root, tables, self._versions)

    def add(
        self,
        name: str,
        shards: Sequence[str | os.PathLike[str]],
        *,
        image: str = AUTO,
        label: str | None = AUTO,
        classes: Sequence[str] = (),
        digests: bool = True,
        append: bool = False,
        progress: Progress | None = None,
    ) -> Dataset:
        """Index shards in place and publish them as a dataset, or as the next version of one.

        Args:
            name: the dataset's name.
            shards: uncompressed tar files, paths or URLs of objects, in the order that numbers the samples.
            image: the member that holds the input ("png", ...); "auto" takes the first of IMAGES that is there.
            label: where labels are: a member ("cls"), a value inside of one ("json:label.id"), or a number to learn
                ("number:txt"); see `tamis.store.shards.labels`. None for data without labels; "auto" takes "cls".
            classes: names of the classes, by number; may be empty. Where labels are names, they are numbered by it, or
                in alphabetical order.
            digests: hash every shard, so that a later change of its bytes is noticed.
            append: add to the newest version of the name; shards that it has already are passed over.
            progress: called with (shards done, shards).

        Returns:
            The dataset. Adding the same shards again returns what is there; what they lie under and what the classes
            are called is taken from what is said last.

        Raises:
            DatasetExists: the name has other content.
            ShardError, ShardChanged: a shard cannot be indexed.
        """
        return self.index(
            name, shards, image=image, label=label, classes=classes, digests=digests, append=append, progress=progress
        ).dataset

    def index(
        self,
        name: str,
        shards: Sequence[str | os.PathLike[str]],
        *,
        image: str = AUTO,
        label: str | None = AUTO,
        classes: Sequence[str] = (),
        digests: bool = True,
        append: bool = False,
        progress: Progress | None = None,
        footage: Footage | None = None,
    ) -> Added:
        """As `add`, and what else there is to say; `footage` says of which videos the samples are frames."""
        check_name(name, "dataset")
        check_classes(classes)
        started = now()
        uris = distinct([shard_uri(s) for s in shards])
        base = self._versions.newest(name)
        if base is None and append:
            there = ", ".join(self._names()) or "none"
            raise DatasetNotFound(f"No dataset {name!r} to append to; there are: {there}. Add it first.")
        if base is not None:
            image, label = base.image, base.label
        found = index_all(uris, image, label, digests, self._root.options, progress)
        image, label = found[0].image, found[0].label

        def publish() -> tuple[Dataset, dict[int, Shard]] | None:
            newest = base
            if not self._versions.is_newest(name, 0 if base is None else base.version):
                newest = self._versions.newest(name)  # others were here meanwhile
            if newest is not None and not append:
                return self._same(newest, found), {i: one.shard for i, one in enumerate(found)}
            fresh, again = not_in(() if newest is None else newest.shards, found)
            if newest is not None and not fresh:
                return newest, again
            known = tuple(classes) or (() if newest is None else newest.classes)
            plain = newest is not None and newest.label is not None and not newest.classes
            former = () if newest is None else self._versions.published_classes(newest)
            fresh, names = number_names(fresh, known, fixed=bool(classes), more=not plain, former=former)
            check_count(fresh, names)
            made = self._publish(name, newest, fresh, image, label, names, (now() - started).total_seconds(), footage)
            return None if made is None else (made, again)

        made, again = until_claimed(publish, f"Publishing dataset {name}")
        elsewhere = self._move(name, again)
        renamed = bool(classes) and made.classes != tuple(classes)
        if renamed:
            self.rename_classes(name, classes)
        if again or renamed:
            made = self.get(made.ref)
        return Added(made, summed(s for one in found for s in one.index.skipped), elsewhere, renamed)

    def relocate(
        self, name: str, shards: Sequence[str | os.PathLike[str]], progress: Progress | None = None
    ) -> tuple[Dataset, int]:
        """Say where shards of a dataset lie now. Its key stays, and with it scores, selections and runs.

        Args:
            name: the dataset's name.
            shards: where some or all of its shards are, in any order; they are told by their digests.
            progress: called with (shards done, shards).

        Returns:
            The dataset, and how many shards moved.

        Raises:
            ShardError: one of them is no shard of the dataset, or none has a digest.
        """
        dataset = self.get(name)
        uris = distinct([shard_uri(s) for s in shards])
        numbers = {s.digest: i for i, s in enumerate(dataset.shards) if s.digest is not None}
        if not numbers:
            raise ShardError(
                f"{dataset.ref} was indexed without digests, so its shards cannot be recognized elsewhere. "
                "Add them under another name, with digests."
            )
        options = self._root.options
        digests = list(in_threads(lambda uri: (shard_digest(uri, options), look(uri, options)), uris, progress))
        strange = [uri for uri, (digest, _) in zip(uris, digests, strict=True) if digest not in numbers]
        if strange:
            raise ShardError(
                f"{len(strange)} of {len(uris)} files do not match the digest of any shard of {dataset.ref} "
                f"(first: {', '.join(strange[:3])}). Nothing was changed: give the dataset's unmodified shards."
            )
        places = {
            numbers[digest]: replace(dataset.shards[numbers[digest]], uri=uri, stamp=seen.stamp)
            for uri, (digest, seen) in zip(uris, digests, strict=True)
        }
        elsewhere = self._move(name, places)
        return self.get(name), elsewhere

    def rename_classes(self, name: str, classes: Sequence[str]) -> Dataset:
        """Say what the classes of all versions of a dataset are called. What was computed from it stays.

        Args:
            name: the dataset's name.
            classes: names by class number, one for each label that there is.

        Raises:
            ShardError: there are labels without a name, or a name is none.
        """
        check_classes(classes)
        dataset = self.get(name)
        top = int(dataset.labels().max(initial=-1))
        if top >= len(classes):
            raise ShardError(
                f"There are {len(classes)} class names and a label {top} in {dataset.ref}: expected one name for "
                f"each of the labels 0 to {top}."
            )

        def changed(dataset: Dataset) -> list[dict[str, Any]]:
            same = dataset.classes == tuple(classes)
            return [] if same else [{"kind": CLASSES, "version": dataset.version, "classes": list(classes)}]

        self._change(name, changed)
        return self.get(name)

    def split(
        self, ref: str, into: Mapping[str, float], *, seed: int = 0, stratify: bool = False, by_time: bool = False
    ) -> list[Dataset]:
        """Split a dataset into datasets of their own, without copying a shard; see `tamis.store.datasets.splitting`.

        Args:
            ref: the dataset.
            into: {part: its share}; a part is called NAME-PART.
            seed: of the order in which samples are dealt out.
            stratify: deal out each class by itself.
            by_time: cut each camera's time line, the first part first; nothing is drawn.

        Returns:
            The parts, in order. The same question finds them again.

        Raises:
            DatasetExists: one of the names has other content.
            ShardError: a share is none, a part would be empty, or there are no labels to stratify by, or no times.
        """
        started, base = now(), self.get(ref)
        names = [check_name(f"{base.name}-{part}", "dataset") for part in into]
        if stratify and not base.has_classes:
            raise ShardError(f"{base.ref} has no classes to stratify by: split it without.")
        if by_time:
            dealt = deal_by_time(self._frames_of(base, stratify, seed), into)
        else:
            dealt = deal(base.samples, into, seed=seed, labels=base.labels() if stratify else None)
        parts = [part_of(base, samples) for samples in dealt.values()]
        for name, (shards, _) in zip(names, parts, strict=True):  # before anything is written
            self._publisher.same(name, shards)
        rows = base.rows()
        return [
            self._publisher.derive(
                name, base, shards, partial(part_rows, rows, name, numbers, samples), started, samples=samples
            )
            for name, (shards, numbers), samples in zip(names, parts, dealt.values(), strict=True)
        ]

    def flip(self, ref: str, share: float, *, seed: int = 0, name: str | None = None) -> Dataset:
        """Derive a dataset of which a share of the labels is wrong; see `tamis.store.datasets.flipping`.

        Args:
            ref: the dataset.
            share: of its samples, above 0 and below 1; rounded to whole samples.
            seed: of which samples get which other class.
            name: of the derived dataset; by default NAME-flipped.

        Returns:
            The dataset. The same question finds it again.

        Raises:
            DatasetExists: the name has other content.
            ShardError: there are no two classes, or the share is none.
        """
        started, base = now(), self.get(ref)
        name = check_name(f"{base.name}-flipped" if name is None else name, "dataset")
        if not base.has_classes:
            raise ShardError(
                f"{base.ref} has no classes to flip (its label is {base.label or 'none'}): give a dataset with classes."
            )
        before = base.labels()
        after = flip(before, share, seed=seed)
        origin = origin_of(base, share, seed, int((before != after).sum()))
        shards, rows = relabelled_shards(base.shards, before, after), base.rows()
        return self._publisher.derive(name, base, shards, partial(relabelled_rows, rows, after, name), started, origin)

    def relabel(self, ref: str, labels: Labels, *, name: str | None = None, drop_missing: bool = False) -> Dataset:
        """Derive a dataset with other labels; see `tamis.store.datasets.relabelling`.

        Args:
            ref: the dataset.
            labels: of its samples.
            name: of the derived dataset; by default NAME-relabelled.
            drop_missing: leave samples without a label out.

        Returns:
            The dataset. The same labels find it again.

        Raises:
            DatasetExists: the name has other content, or other names of classes.
            ShardError: samples lack a label.
        """
        started, base = now(), self.get(ref)
        name = check_name(f"{base.name}-relabelled" if name is None else name, "dataset")
        new = relabelled(base, labels, drop_missing=drop_missing)
        rows = partial(new.rows, name)
        made = self._publisher.derive(name, new.like, new.shards, rows, started, new.origin, new.samples)
        if made.classes != labels.classes:
            raise DatasetExists(
                f"Dataset {name!r} already exists with the classes {', '.join(made.classes)[:200] or '(no names)'}: "
                "choose another name, or give the same classes."
            )
        return made

    def flipped(self, ref: str) -> Flips:
        """Which samples of a dataset that `flip` made have another label than before, and which label that was.

        Raises:
            ShardError: it was not made by `flip`.
        """
        dataset = self.get(ref)
        origin = dataset.origin()
        if origin is None or origin["kind"] != FLIP:
            raise ShardError(f"{dataset.ref} was not made by flipping labels: give a dataset that was (dataset flip).")
        return flips_of(dataset, origin, self.get(origin["source"]))

    def frames(self, ref: str) -> Frames | None:
        """Which camera took which sample of a dataset, and when; None where no sample is a frame of a video."""
        return self.get(ref).frames()

    def changes(self, name: str) -> list[dict[str, object]]:
        """What was put right since a dataset was published, in order: change, kind, shard, uri, classes, created."""
        return [{k: v for k, v in row.items() if k != LOG} for row in self._versions.changes(name)]

    @one_patience
    def get(self, ref: str) -> Dataset:
        """A dataset by "name" (newest version) or "name@version".

        Raises:
            DatasetNotFound: lists what there is.
        """
        name, version = split_ref(ref)
        heads = self._versions.heads(name)
        if not heads:
            self._versions.check_there(name, version)
            names = self._names()
            meant = did_you_mean(name, names)
            raise DatasetNotFound(
                f"No dataset {name!r} in {self._root.url}; there are: {', '.join(names) or 'none'}.{meant}"
            )
        return self._versions.load(heads, version)

    @one_patience
    def head(self, name: str, version: int) -> Mapping[str, Any]:
        """What a version is, by key, samples, shards (numbers, not looked at), and more."""
        return self._versions.head(name, version)

    @one_patience
    def all(self) -> list[dict[str, object]]:
        """One row a version: dataset, version, samples, shards, bytes, image, label, classes, created."""
        rows = self._tables.alive(self._tables.state("datasets")).drop_columns(["attempt", LOG])
        ordered = rows.sort_by([("dataset", "ascending"), ("version", "ascending")]).to_pylist()
        changed: dict[str, list[dict[str, Any]]] = {}
        for row in self._tables.rows_in_order("dataset_changes"):
            changed.setdefault(row["dataset"], []).append(row)
        for row in ordered if changed else ():
            changes = Changes.of(changed.get(row["dataset"], ()))
            row["classes"] = list(changes.classes(row["version"], tuple(row["classes"] or ())))
        return ordered

    def _frames_of(self, base: Dataset, stratify: bool, seed: int) -> Frames:
        """The frames of a dataset that is to be split by time."""
        if stratify or seed:
            raise ShardError("A split by time draws nothing: leave out the seed and stratification.")
        frames = base.frames()
        if frames is None:
            raise ShardError(f"{base.ref} has no times to split by: its samples are not frames of videos.")
        return frames

    def _names(self) -> list[str]:
        heads = self._tables.state("datasets")
        return sorted(set(self._tables.alive(heads, ["dataset"])["dataset"].to_pylist()))

    def _same(self, there: Dataset, found: list[Found]) -> Dataset:
        """The version that consists of exactly these shards, else DatasetExists."""
        same = all(alike(s, f.shard) for s, f in zip(there.shards, found, strict=False))
        for head in self._versions.heads(there.name) if same else ():  # each version has the shards of those before it
            if head["shards"] == len(found):
                return self.get(f"{there.name}@{head['version']}")
        raise DatasetExists(
            f"Dataset {there.name!r} already exists (version {there.version}, {there.samples} samples) and has other "
            "shards. Datasets never change: append the new shards (--append) or choose another name."
        )

    def _publish(
        self,
        name: str,
        base: Dataset | None,
        found: list[Found],
        image: str,
        label: str | None,
        classes: tuple[str, ...],
        seconds: float,
        footage: Footage | None,
    ) -> Dataset | None:
        """Payload first, the head last; None when somebody else published this version meanwhile."""
        first = 0 if base is None else base.samples
        before = () if base is None else base.shards
        there = pa.chunked_array([], pa.string()) if base is None else self._versions.keys(base)
        keys = pa.chunked_array([*there.chunks, *(one.index.keys for one in found)], pa.string())
        check_keys(keys, found)
        shards: list[Shard] = []
        for one in found:
            shards.append(replace(one.shard, first_sample=first))
            first += one.shard.count

        def rows(attempt: str) -> pa.RecordBatchReader:
            return sample_rows(name, attempt, len(before), shards, [f.index for f in found])

        shot = None if footage is None else partial(footage.rows, name, shards)
        origin = None if footage is None else footage.origin
        made = self._publisher.keep(name, base, shards, rows, image, label, classes, seconds, origin, shot)
        if made is not None:
            self._versions.follow(base, made, keys)
        return made

    def _move(self, name: str, places: Mapping[int, Shard]) -> int:
        """Keep where shards lie that were found again; how many lie elsewhere than before."""
        elsewhere = 0

        def changed(dataset: Dataset) -> list[dict[str, Any]]:
            nonlocal elsewhere
            pairs = [(number, dataset.shards[number], found) for number, found in places.items()]
            elsewhere = sum(a.uri != b.uri for _, a, b in pairs)
            place = self._publisher.relative
            return [
                {"kind": MOVED, "version": dataset.version, "shard": i, "uri": place(b.uri), "stamp": b.stamp}
                for i, a, b in pairs
                if moved(a, b)
            ]

        if places:
            self._change(name, changed)
        return elsewhere

    def _change(self, name: str, changed: Callable[[Dataset], list[dict[str, Any]]]) -> None:
        """Publish what is to be changed in the dataset as it is now."""

        def publish() -> bool | None:
            number = self._tables.claimed("dataset_changes", f"name/{name}") + 1
            rows = changed(self.get(name))
            if not rows:
                return False
            shared = {"dataset": name, "change": number, "created": now()}
            return self._tables.publish("dataset_changes", [shared | r for r in rows], {f"name/{name}": number}) or None

        until_claimed(publish, f"Changing dataset {name}")
