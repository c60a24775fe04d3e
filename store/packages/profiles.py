"""Latency profiles: how long each segment of a base model takes on a device, measured once and read by the scheduler.

A profile is found by (base, device, threads, batch). One that is measured again is its next version; the newest counts.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.store.keys import canonical, key_of
from tamis.store.packages.checking import PROFILE, check_fields
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.tables import Tables, moment_of, now, until_claimed


@dataclass(frozen=True)
class Profile:
    """What running a base model costs.

    Attributes:
        base: key of the base.
        device: name of the device, as its maker calls it.
        threads: that worked on it.
        batch: images at once.
        segments: [S] s for one image of each segment between branchpoints, the stem's first.
        rest: s for one image of what is behind the last branchpoint; None where that is in the segments.
        stats: how it was measured, plain JSON.
        version: 1, 2, ... of (base, device, threads, batch).
        created: when it was kept.
    """

    base: str
    device: str
    threads: int
    batch: int
    segments: tuple[float, ...]
    rest: float | None
    stats: dict[str, Any]
    version: int
    created: dt.datetime | None = field(compare=False)

    @property
    def key(self) -> str:
        """32 hex characters, of what was measured where."""
        return _key(self.base, self.device, self.threads, self.batch)


class Profiles:
    """The latency profiles of one store."""

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @one_patience
    def put(
        self,
        base: str,
        segments: Sequence[float],
        *,
        device: str,
        threads: int,
        batch: int = 1,
        rest: float | None = None,
        stats: Mapping[str, Any] | None = None,
    ) -> Profile:
        """Keep a profile as the newest of its (base, device, threads, batch).

        Args:
            base: key of the base.
            segments: [S] s for one image.
            device: name of the device.
            threads: that worked on it.
            batch: images at once.
            rest: s for one image of what is behind the last branchpoint.
            stats: how it was measured, plain JSON.

        Raises:
            PackageError: a field is out of range.
        """
        given = {
            "base": base, "device": device, "threads": threads, "batch": batch,
            "segments": list(map(float, segments)), "rest": rest, "stats": dict(stats or {}),
        }  # fmt: skip
        check_fields(given, PROFILE, "Latency profile")
        key = _key(base, device, threads, batch)

        def publish() -> Profile | None:
            version = self._tables.claimed("profiles", f"profile/{key}") + 1
            row = given | {"profile": key, "version": version, "stats": canonical(given["stats"]), "created": now()}
            return _of(row) if self._tables.publish("profiles", [row], {f"profile/{key}": version}) else None

        return until_claimed(publish, "Keeping a latency profile")

    @one_patience
    def get(self, base: str, *, device: str, threads: int, batch: int = 1) -> Profile | None:
        """The newest profile of a base on a device, or None."""
        what = f"profile/{_key(base, device, threads, batch)}"
        version = self._tables.claimed("profiles", what)
        said = self._tables.found("profiles", what, version) if version else None
        return None if said is None else _of(said.rows[0])

    @one_patience
    def all(self) -> list[Profile]:
        """The newest of each, in the order in which they were kept."""
        newest: dict[str, Mapping[str, Any]] = {}
        for row in self._tables.rows_in_order("profiles"):
            newest[row["profile"]] = row
        return [_of(row) for row in newest.values()]


def _key(base: str, device: str, threads: int, batch: int) -> str:
    return key_of("profile", {"base": base, "device": device, "threads": threads, "batch": batch})


def _of(row: Mapping[str, Any]) -> Profile:
    return Profile(
        row["base"], row["device"], row["threads"], row["batch"], tuple(row["segments"]), row["rest"],
        json.loads(row["stats"]), row["version"], moment_of(row["created"]),
    )  # fmt: skip
