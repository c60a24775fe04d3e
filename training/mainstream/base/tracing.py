"""A network as a graph: which operation takes what from which, found by tracing it once.

What: `trace` follows a network with symbols in place of numbers (torch.fx), then runs it on two images and notes what
each operation gave: its shape, and whether something later writes into it.
How: modules without children are one operation each, so what happens inside of them (control flow too) is never looked
at. Calls of dropout as a function become modules, so that they follow train() and eval(). Everything else that the
network asks of `self.training` is answered as in eval().
Refused: networks whose operations depend on the numbers in an image, or that give anything but one tensor.
Cost: one pass over two images.
Source: J. Reed et al., "torch.fx: Practical Program Capture and Transformation for Deep Learning in Python", 2021.
"""

import itertools
import math
import re
import traceback
from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn import functional

from tamis.training.errors import BaseModelError
from tamis.training.mainstream.base.rows import localise
from tamis.training.models.registry import ImageClassifier

_DROPOUTS: dict[Any, type[nn.Module]] = {
    functional.dropout: nn.Dropout, functional.dropout1d: nn.Dropout1d, functional.dropout2d: nn.Dropout2d,
    functional.dropout3d: nn.Dropout3d, functional.alpha_dropout: nn.AlphaDropout,
}  # fmt: skip
_KINDS = (  # what torch.fx says, and what it means for the network
    (r"control flow", "an `if` or `while` that depends on the image"),
    (r"iterated|iterate", "a loop over what it computes from the image"),
    (r"len", "a `len()` of what it computes from the image"),
    (r"int\(|float\(|__int__|__index__|integer|interpreted|real number", "a number taken out of a tensor"),
)
_CLASSIFIER = "network."
_RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)  # by networks
_IMAGES = 2  # that are run: a tensor with a row for each is what a cut may be
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Value:
    """What one operation gives.

    Attributes:
        shape: of one image; None where it is no tensor with a row for each image.
        floating: whether it holds floating-point numbers.
        written: whether a later operation writes into it.
    """

    shape: tuple[int, ...] | None
    floating: bool
    written: bool

    @property
    def count(self) -> int:
        """Numbers for one image."""
        return math.prod(self.shape or ())


@dataclass(frozen=True)
class Traced:
    """A network and its graph.

    Attributes:
        model: as it was given.
        graph: of its operations, in the order in which they run.
        things: the modules and tensors that the operations use, by what the graph calls them.
        values: what each operation gives, by its name.
        image_shape: [C, H, W] of the images.
        owners: names of the entries of the model's state dict, in their order, and which of the things each is part of.
    """

    model: nn.Module
    graph: fx.Graph
    things: dict[str, Any]
    values: dict[str, Value]
    image_shape: tuple[int, ...]
    owners: dict[str, str]

    def between(self, start: fx.Node | None, end: fx.Node | None) -> list[fx.Node]:
        """The operations that lead from one tensor to another, in their order, the last one included.

        Args:
            start: whose answer is there already; None for the images.
            end: whose answer is wanted; None for the network's.
        """
        goal = next(one for one in self.graph.nodes if one.op == "output") if end is None else end
        found, open_ = set[fx.Node](), [goal]
        while open_:
            node = open_.pop()
            if node is not start and node not in found and node.op != "placeholder":
                found.add(node)
                open_ += node.all_input_nodes
        return [one for one in self.graph.nodes if one in found]

    def entries(self, nodes: Iterable[fx.Node]) -> tuple[str, ...]:
        """Names of the entries of the state dict that some operations use, in its order."""
        used = {str(one.target) for one in nodes if one.op in ("call_module", "get_attr")}
        return tuple(name for name, owner in self.owners.items() if owner in used)


def trace(model: nn.Module, image_shape: Sequence[int]) -> Traced:
    """A network's graph. The network is left as it was.

    Args:
        model: an `ImageClassifier`, which takes uint8 [B, C, H, W], or any network of float32 images.
        image_shape: [C, H, W].

    Raises:
        BaseModelError: it cannot be traced, or does not give one tensor [B, outputs].
    """
    with evaluating(model), torch.no_grad():
        graph, things = _follow(model)
        values = _values(model, graph, things, tuple(image_shape))
        localise(graph, {name for name, one in values.items() if one.shape is not None})
    given = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(given, fx.Node) or len(values[given.name].shape or ()) != 1:
        raise BaseModelError(
            f"{title(model)} does not give one tensor of [images, outputs]: expected a classifier as the base model."
        )
    values |= {node.name: Value(None, False, False) for node in graph.nodes if node.name not in values}
    owners = {name: _owner(name, things) for name in model.state_dict()}
    return Traced(model, graph, things, values, tuple(image_shape), owners)


def blank(model: nn.Module, image_shape: Sequence[int], images: int) -> Tensor:
    """Grey images as a network takes them, on its device: [B, C, H, W]."""
    at = next(itertools.chain(model.parameters(), model.buffers()), torch.empty(0)).device
    if isinstance(model, ImageClassifier):
        return torch.full((images, *image_shape), 127, dtype=torch.uint8, device=at)
    return torch.zeros((images, *image_shape), device=at)


def title(model: nn.Module) -> str:
    """What messages call a network: its class."""
    return type(model.network if isinstance(model, ImageClassifier) else model).__name__


def plain(name: str) -> str:
    """A module's name within the network, without the part that `ImageClassifier` puts before it."""
    return name.removeprefix(_CLASSIFIER)


def module(things: Mapping[str, Any], graph: fx.Graph, names: Container[str]) -> fx.GraphModule:
    """A graph as a module that has the very modules and tensors that it is given, under their own names."""
    made = fx.GraphModule(dict(things), graph)
    for name, one in list(made.named_buffers()):
        if name in things and name not in names:  # constants, mean and std: no part of the state
            owner, _, field = name.rpartition(".")
            made.get_submodule(owner).register_buffer(field, one, persistent=False)
    return made


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """In eval() for a while; afterwards each module is as it was."""
    was = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for one, training in was:
            one.training = training


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless = next(m.children(), None) is None
        return childless or super().is_leaf_module(m, module_qualified_name)


def _follow(model: nn.Module) -> tuple[fx.Graph, dict[str, Any]]:
    """The graph, and what it uses by name."""
    before = set(vars(model))
    try:
        graph = _Tracer().trace(model)
    except (TraceError, *_RAISED) as error:
        raise BaseModelError(_refusal(model, error)) from error
    things = {n.target: _resolve(model, n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}
    for name in set(vars(model)) - before:  # tensors made on the way were noted in the network
        delattr(model, name)
    return graph, things | _dropouts(graph)


def _owner(entry: str, things: Container[str]) -> str:
    """The module or tensor that an entry of the state dict belongs to; "" where nothing uses it."""
    while entry and entry not in things:
        entry = entry.rpartition(".")[0]
    return entry


def _resolve(model: nn.Module, target: Any) -> Any:
    one: Any = model
    for part in str(target).split("."):
        one = getattr(one, part)
    return one


def _dropouts(graph: fx.Graph) -> dict[str, nn.Module]:
    """Dropout called as a function would stay off for good, as it was traced in eval(): it becomes modules."""
    made: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        kind = _DROPOUTS.get(node.target) if node.op == "call_function" else None
        if kind is None:
            continue
        share = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        made[f"_{node.name}"] = kind(share).eval()
        with graph.inserting_after(node):
            new = graph.create_node(
                "call_module", f"_{node.name}", (node.args[0] if node.args else node.kwargs["input"],)
            )
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    return made


def _refusal(model: nn.Module, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    kind = next((what for sign, what in _KINDS if re.search(sign, first)), f"{type(error).__name__}: {first[:200]}")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if _TORCH not in one.filename]
    last = frames[-1] if len(frames) > 1 else None
    at = f", `{last.line}` in {last.name}, line {last.lineno}" if last is not None else ""
    return (
        f"{title(model)} cannot be a base model: its forward has {kind}{at}; expected the same operations for every "
        "image. Move what depends on the image into a module without children, or take another network."
    )


class _Watched(fx.Interpreter):
    """Keeps what each operation gave, and how often it had been written to by then."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.seen: dict[str, tuple[Any, int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        given = super().run_node(n)
        self.seen[n.name] = (given, given._version if isinstance(given, Tensor) else 0)
        return given


def _values(model: nn.Module, graph: fx.Graph, things: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Value]:
    watched = _Watched(module(things, graph, ()))
    try:
        watched.run(blank(model, shape, _IMAGES))
    except _RAISED as error:
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise BaseModelError(
            f"{title(model)} does not take images of {list(shape)} ({why}): give the size it was made for."
        ) from error
    return {name: _value(given, version) for name, (given, version) in watched.seen.items()}


def _value(given: Any, version: int) -> Value:
    if not isinstance(given, Tensor) or given.ndim == 0 or len(given) != _IMAGES:
        return Value(None, False, False)
    return Value(tuple(given.shape[1:]), given.is_floating_point(), given._version != version)
