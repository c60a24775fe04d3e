"""A workload from the packages of a store and the latency profiles of their base models.

What: `workload_of` makes each package an application and its candidates on the Pareto frontier the options.
How: packages of one base that take pictures in different ways share no layers, so each way has a tree of its own.
Latencies are the newest stored profile of each base on one device. What lies behind the last branchpoint, the
heads, is added to every option's own layers.
Cost: a few small reads a package.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from tamis.store.packages import Package, Packages, Profile
from tamis.training.mainstream.events.model import Events
from tamis.training.mainstream.scheduling.errors import WorkloadError
from tamis.training.mainstream.scheduling.workload import Application, Option, Workload


class Packaged(NamedTuple):
    """A workload and where its latencies are from.

    Attributes:
        workload: one application a package.
        profiles: key of the profile by base.
    """

    workload: Workload
    profiles: dict[str, str]


def workload_of(
    packages: Packages,
    refs: Sequence[str],
    *,
    rates: Sequence[float],
    votes: Sequence[int] = (1,),
    device: str | None = None,
    threads: int | None = None,
    names: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
) -> Packaged:
    """The workload of some packages.

    Args:
        packages: of a store.
        refs: name@version or names; one that is named again is another application, name-2.
        rates: frames a second that may be chosen.
        votes: consecutive hits that may be chosen.
        device: of the profiles; None: the only one that a base was measured on.
        threads: of the profiles; None: the only number.
        names: of the applications of the first refs, where they have names already.
        known: keys of profiles by base, which are taken where they are still there and no device or threads are given.

    Raises:
        PackageNotFound: no such package.
        WorkloadError: a base without a profile, or with several to choose from; a package without event figures.
    """
    found = [packages.get(ref) for ref in refs]
    kept = packages.profiles.all() if found else []
    meant = known if device is None and threads is None else None
    chosen = {
        tree: _profile(kept, base, device, threads, (meant or {}).get(tree))
        for tree, base in {package.tree: package.base for package in found}.items()
    }
    applications: list[Application] = []
    for at, package in enumerate(found):
        name = names[at] if at < len(names) else _free(package.name, {*names, *(one.name for one in applications)})
        applications.append(_application(package, name, chosen[package.tree]))
    bases = {key: profile.segments for key, profile in chosen.items()}
    workload = Workload(tuple(applications), bases, tuple(sorted(set(rates))), tuple(sorted(set(votes))))
    return Packaged(workload, {key: profile.key for key, profile in chosen.items()})


def _free(name: str, taken: set[str]) -> str:
    """A name, or where it is taken name-2, name-3, ..."""
    return name if name not in taken else next(n for i in count(2) if (n := f"{name}-{i}") not in taken)


def _profile(
    kept: Sequence[Profile], base: str, device: str | None, threads: int | None, known: str | None = None
) -> Profile:
    """The one profile of a base that is meant."""
    if known is not None and (same := [p for p in kept if p.key == known]):
        return same[0]
    of = [p for p in kept if p.base == base and p.batch == 1]
    fitting = [p for p in of if device in (None, p.device) and threads in (None, p.threads)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{p.device} with {p.threads} threads" for p in of) or "none"
    if fitting:
        raise WorkloadError(
            f"Base {base[:12]} has {len(fitting)} latency profiles: {there}. Give the device and the threads."
        )
    raise WorkloadError(
        f"Base {base[:12]} has no latency profile for this device (there are: {there}); measure one with "
        "`tamis package profile`."
    )


def _application(package: Package, name: str, profile: Profile) -> Application:
    if package.events is None:
        raise WorkloadError(
            f"Package {package.ref} does not say how long and how frequent its events are; build it with event figures."
        )
    tails = np.append(np.cumsum(profile.segments[::-1])[::-1], 0.0) + (profile.rest or 0.0)
    deepest = len(profile.segments)
    if beyond := [c.branch for c in package.candidates if c.branch > deepest]:
        raise WorkloadError(
            f"Package {package.ref} branches at {max(beyond)}; the profile of its base has {deepest} segments. "
            "Measure the base again."
        )
    options = tuple(
        Option(c.branch, c.tpr, c.fpr, c.accuracy, float(tails[c.branch]), c.branchpoint)
        for c in package.candidates
        if c.pareto
    )
    events = package.events
    figures = Events(events.average, events.minimum, events.frequency, events.correlation)
    return Application(name, package.tree, figures, options, package.ref)
