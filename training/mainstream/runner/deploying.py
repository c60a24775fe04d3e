"""A plan, loaded: packages from the store, base models split, a tree for each base.

What: `Deployer.deploy` makes a `Schedule` of a plan: what runs, as modules that are ready, and at which rates.
How: of each package the candidate at the plan's branchpoint is loaded, with its weights held against their digest. A
plan that shares nothing has a tree for each application. Bases, and candidates that the last schedule had, are used
again, so that a changed plan loads what is new.
Cost: reading the weights; tracing a base takes a second, once.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import safetensors.torch
import torch
from torch import nn

from tamis.store import Store
from tamis.store.packages import Base, Candidate, Package
from tamis.training.decoding.pixels import is_jpeg
from tamis.training.decoding.whole import How
from tamis.training.errors import HeadError, RunnerError
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.base.tree import SharedTree, Specialised
from tamis.training.mainstream.runner.pictures import Fit
from tamis.training.mainstream.runner.rates import Member
from tamis.training.mainstream.scheduling.plan import Plan, Planned
from tamis.training.mainstream.trainer.bases import open_base


class Deployed(NamedTuple):
    """An application as it runs.

    Attributes:
        planned: by the scheduler.
        package: name@version.
        tree: its tree's name.
        event: number of the class that is the event.
        branchpoint: name of the last shared block.
    """

    planned: Planned
    package: Package
    tree: str
    event: int
    branchpoint: str


class Tree(NamedTuple):
    """Applications that share a base.

    Attributes:
        module: that runs them.
        fit: how the base takes images.
    """

    module: SharedTree
    fit: Fit


@dataclass(frozen=True)
class Schedule:
    """What runs.

    Attributes:
        plan: it was made of.
        applications: by name.
        trees: by name.
        device: that they are on.
        bases: by key, split.
        candidates: where they are to be checked: of each application, all on its package's Pareto frontier by branch.
    """

    plan: Plan
    applications: dict[str, Deployed]
    trees: dict[str, Tree]
    device: torch.device
    bases: dict[str, Split] = field(default_factory=dict[str, Split])
    candidates: dict[str, dict[int, nn.Module]] = field(default_factory=dict[str, dict[int, nn.Module]])

    def members(self, without: frozenset[str] = frozenset()) -> list[Member]:
        """The applications for `Rates`, without some."""
        return [
            Member(name, one.tree, one.planned.branch, one.planned.fps)
            for name, one in self.applications.items()
            if name not in without
        ]

    def fits(self) -> dict[str, Fit]:
        """How each application's base takes images."""
        return {name: self.trees[one.tree].fit for name, one in self.applications.items()}


class Deployer:
    """Loads plans.

    Args:
        store: with the packages.
        device: to run on.
        jpeg: whether frames of videos are encoded as those that a package was trained on were.
        checks: whether all candidates are loaded, to be checked against each other.
    """

    def __init__(self, store: Store, device: torch.device, *, jpeg: bool = True, checks: bool = False) -> None:
        self._store, self._device, self._jpeg, self._checks = store, device, jpeg, checks
        self._splits = dict[str, Split]()
        self._rests = dict[tuple[str, int], nn.Module]()

    def deploy(self, plan: Plan) -> Schedule:
        """A plan, ready: the stems have run once.

        Raises:
            RunnerError: the plan is empty, or names what the packages do not have.
            PackageNotFound, BlobCorrupt, ...: naming what is wrong with a package.
        """
        if not plan.applications:
            raise RunnerError("The plan has no applications: there is nothing to run.")
        found = [_resolved(self._store, one, plan.shared) for one in plan.applications]
        bases = {key: self._store.packages.bases.get(key) for key in {one.package.base for one, _ in found}}
        rests = {one.planned.name: self._rest(bases[one.package.base], one, candidate) for one, candidate in found}
        together = dict[str, list[Deployed]]()
        for one, _ in found:
            together.setdefault(one.tree, []).append(one)
        trees = {name: self._tree(bases[some[0].package.base], some, rests) for name, some in together.items()}
        every = {one.planned.name: self._candidates(bases[one.package.base], one) for one, _ in found}
        self._rests = {(c.content, len(one.package.classes)): rests[one.planned.name] for one, c in found} | {
            (c.content, len(one.package.classes)): every[one.planned.name][c.branch]
            for one, _ in found for c in one.package.candidates if c.pareto and every[one.planned.name]
        }  # fmt: skip
        self._splits = {key: made for key, made in self._splits.items() if key in bases}
        for tree in trees.values():
            self._warm(tree)
        applications = {one.planned.name: one for one, _ in found}
        return Schedule(plan, applications, trees, self._device, dict(self._splits), every)

    def _tree(self, base: Base, some: list[Deployed], rests: dict[str, nn.Module]) -> Tree:
        members = [Specialised(one.planned.name, one.planned.branch, rests[one.planned.name]) for one in some]
        jpeg = self._jpeg and all(self._of_jpegs(one.package) for one in some)
        return Tree(
            SharedTree(self._split(base), members), Fit(base.image_size, base.channels, jpeg, how_of(some[0].package))
        )

    def _warm(self, tree: Tree) -> None:
        fit = tree.fit
        black = torch.zeros(1, fit.channels, fit.size, fit.size, dtype=torch.uint8, device=self._device)
        tree.module.advance(black, 0, max(tree.module.branches.values()))

    def _split(self, base: Base) -> Split:
        if base.key not in self._splits:
            model = open_base(self._store, base).to(self._device)
            self._splits[base.key] = split(model, (base.channels, base.image_size, base.image_size))
        return self._splits[base.key]

    def _rest(self, base: Base, one: Deployed, candidate: Candidate) -> nn.Module:
        known = self._rests.get((candidate.content, len(one.package.classes)))
        if known is not None:
            return known
        state = safetensors.torch.load(self._store.packages.weights(candidate))
        try:
            made = self._split(base).specialised(candidate.branch, len(one.package.classes), state)
        except HeadError as error:
            raise HeadError(f"Package {one.package.ref}, branchpoint {candidate.branch}: {error}") from error
        return made.to(self._device).eval()

    def _candidates(self, base: Base, one: Deployed) -> dict[int, nn.Module]:
        """All that are to be checked, by branch."""
        some = [candidate for candidate in one.package.candidates if candidate.pareto] if self._checks else []
        return {candidate.branch: self._rest(base, one, candidate) for candidate in some}

    def _of_jpegs(self, package: Package) -> bool:
        """Whether a package was trained on JPEGs; its dataset may be elsewhere, as that of a package from afar is."""
        found = [one for one in self._store.datasets.all() if f"{one['dataset']}@{one['version']}" == package.dataset]
        return bool(found) and is_jpeg(str(found[0]["image"]))


def how_of(package: Package) -> How:
    """How a package takes pictures.

    Raises:
        RunnerError: in a way that this version does not know.
    """
    found = next((how for how in get_args(How) if how == package.fit), None)
    if found is None:
        raise RunnerError(
            f"Package {package.ref} takes pictures by {package.fit!r}; this tamis knows {', '.join(get_args(How))}: "
            "update tamis."
        )
    return found


def _short(tree: str) -> str:
    key, plus, how = tree.partition("+")
    return key[:12] + plus + how


def _resolved(store: Store, planned: Planned, shared: bool) -> tuple[Deployed, Candidate]:
    """The package of an application, and its candidate."""
    if not planned.package:
        raise RunnerError(f"Application {planned.name} has no package in the plan: plan it from packages of the store.")
    package = store.packages.get(planned.package)
    if package.tree != planned.base:
        raise RunnerError(
            f"Application {planned.name}: {package.ref} is of base {_short(package.tree)}, and the plan "
            f"says {_short(planned.base)}: plan anew."
        )
    found = [one for one in package.candidates if one.branch == planned.branch]
    if not found:
        there = ", ".join(str(one.branch) for one in package.candidates)
        raise RunnerError(
            f"Application {planned.name}: {package.ref} has no candidate at branchpoint {planned.branch}; there are "
            f"those at {there}: plan anew."
        )
    if package.event_class is None:
        raise RunnerError(f"Application {planned.name}: {package.ref} does not say which class is its event.")
    best = max(found, key=lambda one: (one.pareto, one.accuracy))
    tree = planned.base if shared else f"{planned.base}/{planned.name}"
    event = package.classes.index(package.event_class)
    return Deployed(planned, package, tree, event, best.branchpoint), best
