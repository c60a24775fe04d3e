"""Weights as they are kept: safetensors, checked to be that and nothing else before they are stored or handed on."""

from typing import Any

from tamis.store.errors import PackageError

Shapes = dict[str, tuple[str, tuple[int, ...]]]


def shapes_of(data: bytes, shown: str) -> Shapes:
    """{tensor: (dtype, shape)} of a whole safetensors file.

    Args:
        data: the file.
        shown: what to call it in messages.

    Raises:
        PackageError: it is none, or is truncated, or has no tensor.
    """
    import safetensors  # loaded where weights are handled, not with every store

    try:
        found: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise PackageError(
            f"{shown} holds no whole safetensors file ({error}): weights are stored as safetensors only."
        ) from error
    if not found:
        raise PackageError(f"{shown} holds no tensor: expected the weights of some layers.")
    return {name: (str(one["dtype"]), tuple(map(int, one["shape"]))) for name, one in found}
