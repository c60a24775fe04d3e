"""Batch sizes that networks carry along: asked anew of the tensor at hand, so that no number crosses a branchpoint.

What: `x.size(0)` or `x.shape[0]` of the images, used for `y.view(size, -1)` at the end, would cross every cut beside
the tensor. Each of y's rows is one image too, so y knows the size itself.
How: where an operation takes a batch size and a tensor with a row for each image, the size becomes that tensor's own.
"""

import operator
from collections.abc import Container
from typing import Any

from torch import fx


def localise(graph: fx.Graph, rows: Container[str]) -> None:
    """Ask batch sizes of the tensors that they are used with.

    Args:
        graph: it is changed; what an operation computes stays the same.
        rows: names of the operations that give a tensor with a row for each image.
    """
    for node in list(graph.nodes):
        if not _is_batch_size(node, rows):
            continue
        for user in list(node.users):
            beside = next((one for one in user.all_input_nodes if one.name in rows), None)
            if beside is not None:
                with graph.inserting_before(user):
                    user.replace_input_with(node, graph.call_method("size", (beside, 0)))


def _is_batch_size(node: fx.Node, rows: Container[str]) -> bool:
    """x.size(0), x.size()[0], x.shape[0] or len of a tensor with a row for each image."""
    if node.op == "call_method" and node.target == "size":
        return _one_of(node.args[0], rows) and (*node.args[1:], node.kwargs.get("dim")) in ((0, None), (0,))
    if node.op != "call_function" or node.target is not operator.getitem or node.args[1] != 0:
        return False
    whole = node.args[0]
    return isinstance(whole, fx.Node) and _is_shape(whole) and _one_of(whole.args[0], rows)


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target == "size" and len(node.args) == 1 and not node.kwargs
    return node.op == "call_function" and node.target is getattr and str(node.args[1]) == "shape"


def _one_of(given: Any, rows: Container[str]) -> bool:
    return isinstance(given, fx.Node) and given.name in rows
