"""Branchpoints: where the stem of a base model can end, so that applications share what lies before.

What: `find` gives the cuts of a traced network at which exactly one tensor crosses, from nothing frozen to everything
but the classifier.
How: of the cuts that have the same layers with weights before them (a convolution, its BatchNorm, its activation, the
pooling after it) one is taken, the one that fewest activations cross; a module's end before a place within it; never
behind dropout, which belongs to what is trained. Cuts inside of blocks go. A block is a module of a class that the
network has several of, and that narrows nowhere inside in at least one of them: where a residual block leaves out its
shortcut it does narrow, but its class is still that of a block. Cuts that end no block go where more activations cross
than at both neighbours (those of one width count as one): the thesis's "relatively small number of activations".
Always there: index 0, the images, and the last, before the layer that gives the outputs.
Source: A. H. Jiang, "Improving Deep Learning Training and Inference with Dynamic Hyperparameter Optimization", 2020,
section 5.3.1. Departure: it marks chokepoints without saying how; the rules above are those of a program.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, fx, nn

from tamis.training.errors import BaseModelError
from tamis.training.mainstream.base.tracing import Traced, plain, title

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # pyright: ignore[reportPrivateUsage]  # the one base of all of them
_DROPOUT = nn.modules.dropout._DropoutNd  # pyright: ignore[reportPrivateUsage]  # the one base of all of them


@dataclass(frozen=True)
class Branchpoint:
    """Where a stem can end.

    Attributes:
        index: 0 for nothing frozen, S for everything but the classifier.
        name: of the last frozen block; "" for index 0.
        shape: of what crosses, for one image.
        activations: numbers of that shape.
        layers: convolutions, linear and other layers with weights that are frozen (norms not counted).
        frozen: parameters before it.
        parameters: parameters of the specialised rest.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    activations: int
    layers: int
    frozen: int
    parameters: int


@dataclass(frozen=True)
class Cut:
    """A place where one tensor crosses.

    Attributes:
        node: that gives the tensor.
        at: its position in the graph.
        layers: how many layers with weights lie before.
        activations: of one image.
        ended: paths of the modules that end with it, from the outside.
        inside: paths of the modules that go on behind it.
    """

    node: fx.Node
    at: int
    layers: int
    activations: int
    ended: tuple[str, ...]
    inside: tuple[str, ...]

    @property
    def path(self) -> str:
        """The outermost module that ends with it; "" where none does."""
        return self.ended[0] if self.ended else ""


def find(traced: Traced) -> list[Cut]:
    """The cuts of a network's branchpoints 1 to S, in their order.

    Raises:
        BaseModelError: it narrows to one tensor nowhere between its layers.
    """
    total, groups = len(_weighing(traced, traced.between(None, None))), dict[int, list[Cut]]()
    for cut in _cuts(traced):
        groups.setdefault(cut.layers, []).append(cut)
    best = [_best(traced, group) for layers, group in sorted(groups.items()) if 0 < layers < total]
    if not best:
        raise BaseModelError(
            f"{title(traced.model)} narrows to a single tensor nowhere between its {total} layers with weights, so no "
            "stem can be shared: take a base model without connections around its layers from one end to the other."
        )
    blocks = _blocks(traced, best)
    kept = [one for one in best[:-1] if blocks.isdisjoint(one.inside)]
    return [*_without_bulges(traced, kept, blocks, best[-1]), best[-1]]


def describe(traced: Traced, cuts: Sequence[Cut]) -> tuple[Branchpoint, ...]:
    """What there is to say of each branchpoint, index 0 included."""
    sizes = {name: one.numel() for name, one in traced.model.named_parameters()}
    every = sum(sizes.values())
    found = [Branchpoint(0, "", traced.image_shape, math.prod(traced.image_shape), 0, 0, every)]
    for index, cut in enumerate(cuts, 1):
        rest = sum(sizes.get(name, 0) for name in traced.entries(traced.between(cut.node, None)))
        shape, name = traced.values[cut.node.name].shape or (), _name(traced, cut)
        name = f"{name}:{cut.node.name}" if any(one.name == name for one in found) else name
        found.append(Branchpoint(index, name, shape, cut.activations, cut.layers, every - rest, rest))
    return tuple(found)


def _name(traced: Traced, cut: Cut) -> str:
    """The module that ends there, or the last one that has ended by then."""
    nodes = list(traced.graph.nodes)
    ended = (_ended(nodes, at) for at in range(cut.at, -1, -1))
    return plain(next((paths[0] for paths in ended if paths), cut.node.name))


def _cuts(traced: Traced) -> list[Cut]:
    """Every place that a single tensor crosses, and whose two sides share no weights."""
    nodes = list(traced.graph.nodes)
    depends, last = _depends(nodes), _last_uses(nodes)
    found, alive = list[Cut](), set[fx.Node]()
    for at, node in enumerate(nodes):
        alive = {one for one in (alive | {node}) & depends if last[one] > at}
        value = traced.values[node.name]
        if alive != {node} or node.op == "placeholder" or not value.floating or value.written:
            continue
        before, after = traced.between(None, node), traced.between(node, None)
        if set(traced.entries(before)).isdisjoint(traced.entries(after)):
            ended = _ended(nodes, at)
            inside = tuple(path for path, _ in _stack(node) if path not in ended)
            found.append(Cut(node, at, len(_weighing(traced, before)), value.count, ended, inside))
    return found


def _depends(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The operations whose answer depends on the images."""
    found: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or any(one in found for one in node.all_input_nodes):
            found.add(node)
    return found


def _last_uses(nodes: Sequence[fx.Node]) -> dict[fx.Node, int]:
    """Where each is used for the last time; its own position where it never is."""
    places = {node: at for at, node in enumerate(nodes)}
    return {node: max((places[user] for user in node.users), default=places[node]) for node in nodes}


def _weighing(traced: Traced, nodes: Sequence[fx.Node]) -> set[str]:
    """The layers with weights among some operations. Norms are no layers of their own."""
    things = {str(one.target): traced.things[str(one.target)] for one in nodes if one.op in ("call_module", "get_attr")}
    return {name for name, one in things.items() if _weighs(one)}


def _weighs(thing: nn.Module | Tensor) -> bool:
    if isinstance(thing, nn.Module):
        return not isinstance(thing, _NORMS) and any(True for _ in thing.parameters())
    return isinstance(thing, nn.Parameter)


def _best(traced: Traced, group: Sequence[Cut]) -> Cut:
    """The cut that the fewest activations cross; the end of an outer module before others, then the later one."""
    wet = next((at for at, one in enumerate(group) if _is_dropout(traced, one.node)), len(group))
    return min(
        group[:wet] or group[:1], key=lambda cut: (cut.activations, cut.path.count(".") if cut.path else 99, -cut.at)
    )


def _is_dropout(traced: Traced, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(traced.things[str(node.target)], _DROPOUT)


def _stack(node: fx.Node) -> list[tuple[str, Any]]:
    """The modules that an operation lies in, from the outside: path and class."""
    return [one for one in (node.meta.get("nn_module_stack") or {}).values() if one[0]]


def _ended(nodes: Sequence[fx.Node], at: int) -> tuple[str, ...]:
    """The modules that an operation is the last of, from the outside."""
    after = {path for path, _ in _stack(nodes[at + 1])} if at + 1 < len(nodes) else set[str]()
    return tuple(path for path, _ in _stack(nodes[at]) if path not in after)


def _blocks(traced: Traced, cuts: Sequence[Cut]) -> set[str]:
    """The paths of modules whose class is that of a block: see the module's docstring."""
    modules = dict(traced.model.named_modules())
    every = {path: kind for node in traced.graph.nodes for path, kind in _stack(node)}
    kinds = {path: kind for path, kind in every.items() if next(modules[path].children(), None) is not None}
    whole = {path for path in kinds if not any(path in cut.inside for cut in cuts)}
    many = Counter(kinds.values())
    classes = {kinds[path] for path in whole if many[kinds[path]] > 1} - {nn.Sequential}
    rows = {kinds[path] for path in kinds if _is_row(modules[path], classes)}
    return {path for path, kind in kinds.items() if kind in classes - rows}


def _is_row(one: nn.Module, classes: set[Any]) -> bool:
    """A stage that only runs blocks one after the other, of which a small network has one."""
    return isinstance(one, nn.Sequential) and any(type(child) in classes for child in one)


def _without_bulges(traced: Traced, cuts: Sequence[Cut], blocks: set[str], last: Cut) -> list[Cut]:
    """Leave out what ends no block and is wider than what comes before and after, neighbours of one width together."""
    runs = [list(some) for _, some in groupby([*cuts, last], key=lambda one: one.activations)]
    sizes = [math.prod(traced.image_shape), *(some[0].activations for some in runs), 0]
    kept = list[Cut]()
    for at, some in enumerate(runs, 1):
        ends = any(path in blocks for one in some for path in one.ended)
        if ends or sizes[at] <= max(sizes[at - 1], sizes[at + 1]):
            kept += some
    return [one for one in kept if one is not last]
