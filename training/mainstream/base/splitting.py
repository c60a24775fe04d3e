"""A base model in parts: stems that are shared and rests that are specialised, under the names of the whole.

What: `split` traces a network once. `Split.segment` is the part between two branchpoints; it holds the network's own
modules and tensors, so nothing is copied and what is trained in one is trained in the other. `Split.specialised` is a
rest with its own layers and its own head; the stem is not copied.
How: entries of the state dict keep their names in every part, so a part's weights are loaded and stored by the names of
the whole. What the network never runs belongs to the stem.
Move the network to its device before it is split: a part has tensors of its own once it is moved on its own.
Cost: one pass over two images; making a segment takes milliseconds, once.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from tamis.training.errors import BaseModelError, HeadError
from tamis.training.mainstream.base.branchpoints import Branchpoint, Cut, describe, find
from tamis.training.mainstream.base.tracing import Traced, module, title, trace
from tamis.training.models.registry import ImageClassifier
from tamis.training.seeds import derive_seed


class Split:
    """A base model and its branchpoints.

    Args:
        traced: the network's graph.
        cuts: where its stem can end, from the images to the classifier.

    Attributes:
        model: the network.
        branchpoints: of index 0 (nothing frozen) to S (everything but the classifier).
        head: name of the layer that gives the outputs.
    """

    def __init__(self, traced: Traced, cuts: Sequence[Cut]) -> None:
        self.model = traced.model
        self.branchpoints: tuple[Branchpoint, ...] = describe(traced, cuts)
        self.head = _head(traced)
        self._traced = traced
        self._nodes: list[fx.Node | None] = [None, *(one.node for one in cuts)]
        self._made: dict[tuple[int, int | None], fx.GraphModule] = {}

    @property
    def segments(self) -> int:
        """S: how many segments lie between the branchpoints; the last branchpoint's index."""
        return len(self.branchpoints) - 1

    @property
    def image_shape(self) -> tuple[int, ...]:
        """[C, H, W] of the images."""
        return self._traced.image_shape

    @property
    def takes_bytes(self) -> bool:
        """Whether images are uint8, not float32."""
        return isinstance(self.model, ImageClassifier)

    def segment(self, a: int, b: int | None) -> nn.Module:
        """The part from branchpoint a to branchpoint b, with the network's own modules.

        Args:
            a: index; 0 takes images.
            b: index, above a; None for the outputs.
        """
        if not 0 <= a <= self.segments or not (b is None or a < b <= self.segments):
            raise ValueError(f"No segment from {a} to {b}: branchpoints go from 0 to {self.segments}, in rising order.")
        if (a, b) not in self._made:
            self._made[a, b] = module(self._traced.things, self._graph(a, b), self._traced.owners)
        return self._made[a, b]

    def stem_names(self, b: int) -> tuple[str, ...]:
        """Names of the entries of the model's state dict that lie before branchpoint b, in its order."""
        rest = set(self.rest_names(b))
        return tuple(name for name in self._traced.owners if name not in rest)

    def rest_names(self, b: int) -> tuple[str, ...]:
        """Names of the entries of the model's state dict that lie behind branchpoint b: the specialised layers."""
        if not 0 <= b <= self.segments:
            raise ValueError(f"No branchpoint {b}: they go from 0 to {self.segments}.")
        return self._traced.entries(self._traced.between(self._nodes[b], None))

    def specialised(
        self, b: int, num_classes: int, state: Mapping[str, Tensor] | None = None, *, seed: int = 0
    ) -> nn.Module:
        """A rest with its own copies of the layers behind branchpoint b, and its own head.

        Args:
            b: index of the branchpoint.
            num_classes: outputs of the head.
            state: the specialised layers' weights, by `rest_names`; None for those of the base model, with a new head.
            seed: a new head's weights are drawn from (seed, "head").

        Returns:
            A module that maps what crosses at branchpoint b to logits [B, num_classes]; in the mode of the base model.

        Raises:
            HeadError: the state has other names or shapes than these layers.
        """
        if not 0 <= b <= self.segments:
            raise ValueError(f"No branchpoint {b}: they go from 0 to {self.segments}.")
        graph = self._graph(b, None)
        own = {str(one.target) for one in graph.nodes if one.op in ("call_module", "get_attr")}
        things = copy.deepcopy({name: one for name, one in self._traced.things.items() if name in own})
        rest = module(things, graph, self._traced.owners)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "head"))
            rest.set_submodule(self.head, _new_head(rest.get_submodule(self.head), num_classes))
        for one in rest.modules():
            if isinstance(getattr(one, "p", None), float) and hasattr(one, "inplace"):
                one.inplace = False  # type: ignore[assignment]  # dropout would write into what others share
        if state is not None:
            _load(rest, state, self.rest_names(b), self.branchpoints[b])
        return rest

    def _graph(self, a: int, b: int | None) -> fx.Graph:
        """The operations between two branchpoints as a graph of their own."""
        start, end = self._nodes[a], None if b is None else self._nodes[b]
        made, known = fx.Graph(), dict[fx.Node, fx.Node]()
        entry = made.placeholder("images" if start is None else "activations")
        for node in self._traced.graph.nodes:
            if node.op == "placeholder" or node is start:
                known[node] = entry
        for node in self._traced.between(start, end):
            known[node] = made.node_copy(node, known.__getitem__)
        if end is not None:
            made.output(known[end])
        return made


def split(model: nn.Module, image_shape: Sequence[int]) -> Split:
    """Trace a network and find its branchpoints. The network is left as it was.

    Args:
        model: an `ImageClassifier`, which takes uint8 [B, C, H, W], or any network of float32 images.
        image_shape: [C, H, W] of the images it will get.

    Raises:
        BaseModelError: it cannot be traced, or has no narrow cut.
    """
    traced = trace(model, image_shape)
    return Split(traced, find(traced))


def _head(traced: Traced) -> str:
    """The last layer with weights, which gives the outputs."""
    modules = [str(one.target) for one in traced.graph.nodes if one.op == "call_module"]
    heads = [name for name in modules if any(True for _ in traced.things[name].parameters())]
    kind = type(traced.things[heads[-1]]) if heads else None
    if kind not in (nn.Linear, nn.Conv2d) or heads.count(heads[-1]) > 1:
        raise BaseModelError(
            f"{title(traced.model)} ends with {'no layer' if kind is None else kind.__name__} in place of a linear "
            "layer or a convolution that runs once: an application's own head has no place to go."
        )
    outputs = traced.values[traced.graph.output_node().name].count
    width = traced.things[heads[-1]].weight.shape[0]
    if width != outputs:
        raise BaseModelError(
            f"{title(traced.model)} gives {outputs} outputs, and its last layer {width}: an application's own head of "
            "another number of outputs has no place to go."
        )
    return heads[-1]


def _new_head(old: nn.Module, outputs: int) -> nn.Module:
    """An untrained layer like the last one, with another number of outputs."""
    first = next(old.parameters())
    bias = len(list(old.parameters())) > 1
    if isinstance(old, nn.Linear):
        made: nn.Module = nn.Linear(old.in_features, outputs, bias=bias)
    else:
        assert isinstance(old, nn.Conv2d)
        made = nn.Conv2d(
            old.in_channels,
            outputs,
            old.kernel_size,  # type: ignore[arg-type]  # torch types these as tuples of any length
            old.stride,  # type: ignore[arg-type]  # typed as tuples of any length too
            old.padding,  # type: ignore[arg-type]  # typed as tuples of any length too
            bias=bias,
        )
    return made.to(first.device, first.dtype).train(old.training)


def _load(rest: nn.Module, state: Mapping[str, Tensor], names: Sequence[str], at: Branchpoint) -> None:
    own = rest.state_dict()
    if absent := sorted(set(names) ^ set(state)):
        raise HeadError(
            f"Weights of specialised layers that do not belong behind branchpoint {at.index} ({at.name or 'images'}): "
            f"{absent[0]} and {len(absent) - 1} more are on one side only; expected the {len(names)} entries behind it."
        )
    for name in names:
        if own[name].shape != state[name].shape:
            raise HeadError(
                f"{name} is {list(state[name].shape)} among the weights and {list(own[name].shape)} behind branchpoint "
                f"{at.index}: expected weights of this base model and of this number of outputs."
            )
    with torch.no_grad():
        for name in names:
            own[name].copy_(state[name])
