"""Applications over one base model as a tree: what they share runs once for all of them.

What: `SharedTree` runs the segments of a base model up to the deepest branchpoint that is wanted, and at each
branchpoint on the way the specialised layers of the applications that branch off there.
How: applications are called in the order of their branchpoints, so only one activation of the base model is kept at a
time. Everything is in eval() and stays there; nothing is recorded for gradients.
Cost: the segments below the deepest wanted branchpoint once, the rest of each wanted application once; a few
microseconds a segment besides.
Source: A. H. Jiang, "Improving Deep Learning Training and Inference with Dynamic Hyperparameter Optimization", 2020,
figure 5.3d.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tamis.training.errors import TreeError
from tamis.training.mainstream.base.splitting import Split


class Specialised(NamedTuple):
    """What one application runs of its own.

    Attributes:
        name: of the application.
        branch: index of the branchpoint where it leaves the base model.
        rest: maps what crosses there to outputs, such as `Split.specialised`.
    """

    name: str
    branch: int
    rest: nn.Module


class SharedTree(nn.Module):
    """Applications that share one base model.

    Args:
        split: the base model.
        applications: in any order; the order in which applications of one branchpoint run.

    Raises:
        TreeError: two of a name, or one that leaves at no branchpoint of the base model.
    """

    def __init__(self, split: Split, applications: Iterable[Specialised]) -> None:
        super().__init__()
        some = [Specialised(*one) for one in applications]
        _check(split, some)
        self.branches = {one.name: one.branch for one in some}
        deepest = max(self.branches.values(), default=0)
        self.segments = nn.ModuleList(split.segment(at, at + 1) for at in range(deepest))
        self.rests = nn.ModuleList(one.rest for one in some)
        self._rest = {one.name: one.rest for one in some}
        self.eval()

    def train(self, mode: bool = True) -> "SharedTree":
        """A tree stays in eval(): statistics of BatchNorm are frozen with the stem."""
        del mode
        return super().train(False)

    def due(self, wanted: Collection[str] | None = None) -> list[tuple[int, list[str]]]:
        """Which applications leave where, from the images to the classifier.

        Args:
            wanted: names; None for all of them.

        Raises:
            TreeError: no application of a name.
        """
        names = self.branches.keys() if wanted is None else set(wanted)
        if unknown := sorted(names - self.branches.keys()):
            raise TreeError(
                f"No application {unknown[0]!r} in this tree; there are: {', '.join(self.branches) or 'none'}."
            )
        found: dict[int, list[str]] = {}
        for name, branch in self.branches.items():
            if name in names:
                found.setdefault(branch, []).append(name)
        return sorted(found.items())

    @torch.inference_mode()
    def advance(self, values: Tensor, a: int, b: int) -> Tensor:
        """Run the base model from branchpoint a to branchpoint b.

        Args:
            values: what crosses at a; images at 0.
            a, b: indices; nothing runs where they are one.
        """
        for at in range(a, b):
            values = self.segments[at](values)
        return values

    @torch.inference_mode()
    def finish(self, name: str, values: Tensor) -> Tensor:
        """Outputs of one application [B, classes] from what crosses at its branchpoint."""
        return self._rest[name](values)

    def forward(self, images: Tensor, wanted: Collection[str] | None = None) -> dict[str, Tensor]:
        """Outputs of applications on a batch of images; what they share runs once.

        Args:
            images: [B, C, H, W], as the base model takes them.
            wanted: names; None for all of them. What none of them needs does not run.

        Returns:
            Outputs [B, classes] by name.

        Raises:
            TreeError: no application of a name.
        """
        found, at, values = dict[str, Tensor](), 0, images
        for branch, names in self.due(wanted):
            values, at = self.advance(values, at, branch), branch
            for name in names:
                found[name] = self.finish(name, values)
        return found


def _check(split: Split, applications: list[Specialised]) -> None:
    names = set[str]()
    for name, branch, _ in applications:
        if name in names:
            raise TreeError(f"Two applications are called {name!r}: names within one tree differ.")
        if not 0 <= branch <= split.segments:
            raise TreeError(
                f"{name!r} leaves at branchpoint {branch}, and this base model has those from 0 to {split.segments}: "
                "take a candidate that was made from this base model."
            )
        names.add(name)
