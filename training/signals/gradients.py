"""Gradients of the loss of single samples, by one forward pass: what Grad-Match matches.

What: `last_layer` gathers what the last layer's gradients follow from in closed form
(`tamis.curation.gradmatch.gradients`); `per_sample_gradients` computes those of any other head by automatic
differentiation.
When: to choose samples by `tamis.curation.gradmatch.method`, between two epochs of a training run.
How: the model runs in evaluation mode, so batch statistics and dropout have no part in it, and is left in the mode in
which it was. What the head is given is caught by a hook. The loss is the task's; legend and closed form are those of
classification, by cross-entropy.
Cost: one forward pass; beside it 4 (C + E) bytes a sample for `last_layer`, and for `per_sample_gradients` a backward
pass through the head and 4 D bytes a sample, with D the number of the head's parameters. What is gathered lies in the
main memory.
Source: Killamsetty et al., "GRAD-MATCH", ICML 2021, section 4.
Legend: N samples, B of a batch, C classes, E features.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tamis.curation.gradmatch.gradients import LastLayer, Matrix
from tamis.training.devices import pick_device
from tamis.training.errors import HeadError, LabelError
from tamis.training.streaming.batches import Batch
from tamis.training.tasks import CLASSIFICATION
from tamis.training.tasks.contract import Task

_NAMED = 10


@dataclass(frozen=True, eq=False)
class SampleGradients:
    """Gradients of N samples, in the order of the batches.

    Attributes:
        gradients: `LastLayer` or `Matrix`, for `tamis.curation.gradmatch.matching.match`, which leaves out what
        is not finite.
        labels: int64 [N].
        samples: int64 [N], the samples' numbers.
        nonfinite: int64, the numbers of the samples whose gradient is NaN or infinite, in the order of the batches.
        head: name of the layer whose gradients they are.
    """

    gradients: LastLayer | Matrix
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]
    nonfinite: NDArray[np.int64]
    head: str


def last_layer(
    model: nn.Module, batches: Iterable[Batch], device: str | torch.device = "auto", task: Task = CLASSIFICATION
) -> SampleGradients:
    """The gradients of the last layer, in closed form.

    Args:
        model: takes uint8 images (`ImageClassifier`, or whatever fits the batches), and returns what a linear layer of
            it returned: that layer is found while the first batch goes through. Moved to the device.
        batches: what to look at.
        device: "auto", "cpu", "cuda", ... or a device.
        task: whose loss it is.

    Raises:
        HeadError: the model's last layer is not linear, or something comes after it.
        LabelError: a sample without a label, or with one that the model has no class for.
        ValueError: no batches.
    """
    place = pick_device(device)
    model.to(place)
    head: tuple[str, nn.Linear] | None = None
    parts: list[tuple[Tensor, Tensor]] = []

    def gather(batch: Batch) -> None:
        nonlocal head
        with torch.inference_mode():
            images = batch.images.to(place, non_blocking=True)
            if head is None:
                head, logits, features = _find_head(model, images)
            else:
                logits, ((features,),) = _watched(model, head[1], images)
            residuals = task.residuals(logits.float(), _targets(task, batch, logits))
            parts.append((_fetch(residuals), _fetch(features.float())))

    labels, samples = _run(model, batches, gather, place)
    assert head is not None
    residuals_NC, features_NE = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return _named(LastLayer(residuals_NC, features_NE, head[1].bias is not None), labels, samples, head[0])


def per_sample_gradients(
    model: nn.Module,
    batches: Iterable[Batch],
    head: str,
    device: str | torch.device = "auto",
    task: Task = CLASSIFICATION,
) -> SampleGradients:
    """The gradients of a head of any kind, written out.

    Args:
        model: as for `last_layer`; what it returns are the head's logits.
        batches: what to look at.
        head: name of the module whose parameters the gradients are of, as in `model.named_modules()`: what it returns
            must be what the model returns, but for the shape.
        device: "auto", "cpu", "cuda", ... or a device.
        task: whose loss it is.

    Returns:
        A `Matrix` [N, D]; the parameters are in the order of the module's `named_parameters()`.

    Raises:
        HeadError: no such module, one without parameters, or one whose output is not the model's.
        LabelError: a sample without a label, or with one that the model has no class for.
        ValueError: no batches.
    """
    place = pick_device(device)
    module = _module(model.to(place), head)
    one = _one_gradient(module, task)
    parts: list[Tensor] = []

    def gather(batch: Batch) -> None:
        with torch.no_grad():
            logits, calls = _watched(model, module, batch.images.to(place, non_blocking=True), same=head)
            labels = _targets(task, batch, logits)
            gradients = vmap(one, in_dims=(None, 0, 0))(
                {name: value.detach() for name, value in module.named_parameters()}, calls[0], labels
            )
            parts.append(_fetch(torch.cat([each.flatten(1) for each in gradients.values()], dim=1).float()))

    labels, samples = _run(model, batches, gather, place)
    return _named(Matrix(torch.cat(parts).numpy()), labels, samples, head)


def _one_gradient(module: nn.Module, task: Task) -> Callable[..., dict[str, Tensor]]:
    """The gradient of one sample's loss with respect to the parameters of a module."""
    buffers = dict(module.named_buffers())

    def loss(parameters: dict[str, Tensor], inputs: tuple[Tensor, ...], label: Tensor) -> Tensor:
        logits = functional_call(module, {**parameters, **buffers}, tuple(x[None] for x in inputs))
        return task.losses(logits.reshape(1, -1).float(), label[None])[0]

    return grad(loss)


def _run(
    model: nn.Module, batches: Iterable[Batch], gather: Callable[[Batch], None], place: torch.device
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Have every batch gathered in evaluation mode; labels and sample numbers of all."""
    labels, samples = list[Tensor](), list[Tensor]()
    for batch in batches:  # the caller's own code runs here: the model is in its own mode meanwhile
        with _evaluating(model):
            gather(batch)
        labels.append(batch.labels)
        samples.append(batch.samples)
    if not labels:
        raise ValueError("There are no batches: expected at least one sample to take the gradient of.")
    if place.type == "cuda":
        torch.cuda.synchronize(place)  # what was fetched is there
    return torch.cat(labels).numpy(), torch.cat(samples).numpy()


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _find_head(model: nn.Module, images: Tensor) -> tuple[tuple[str, nn.Linear], Tensor, Tensor]:
    """The linear layer whose output is the model's, its name, the logits, and what it was given."""
    linear: list[tuple[str, nn.Linear, Tensor, Tensor, Tensor]] = []
    last = ["", type(model).__name__]

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            last[:] = name, type(module).__name__
            if isinstance(module, nn.Linear) and inputs and isinstance(output, Tensor) and output.ndim == 2:
                linear.append((name, module, inputs[0], output, output.clone()))  # it may be changed in place

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    hooks = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        logits = model(images)
    finally:
        for each in hooks:
            each.remove()
    found = [one for one in linear if isinstance(logits, Tensor) and _is(one[3], one[4], logits)]
    if len(found) != 1 or sum(one[1] is found[0][1] for one in linear) != 1:
        raise HeadError(_no_linear_head(last[0], last[1], any(one[0] == last[0] for one in linear)))
    name, module, features, _, _ = found[0]
    return (name, module), logits, features


def _no_linear_head(name: str, kind: str, linear: bool) -> str:
    what = f"{name} ({kind})" if name else kind
    why = (
        "and what it returns is changed afterwards, or it is used more than once" if linear else "not a torch.nn.Linear"
    )
    return (
        f"The model's last layer is {what}, {why}: only the gradients of a linear layer whose output is the model's "
        "have a closed form. Have the model return that layer's logits, or name the part of the model that makes them: "
        "per_sample_gradients(model, batches, head=...), which takes any module and the kinds class and batch."
    )


def _watched(
    model: nn.Module, module: nn.Module, images: Tensor, same: str | None = None
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """The model's logits [B, C], and what one module of it was given, call by call.

    With `same`, the module's name, its output has to be the model's.
    """
    calls, outputs = list[tuple[Tensor, ...]](), list[Any]()

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls.append(tuple(x.clone() for x in inputs) if same is not None else inputs)  # it may be changed in place

    def after(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        outputs.append(output.clone() if same is not None and isinstance(output, Tensor) else None)

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        logits = model(images)
    finally:
        for each in handles:
            each.remove()
    if same is not None:
        fits = len(outputs) == 1 and isinstance(outputs[0], Tensor) and isinstance(logits, Tensor) and logits.ndim == 2
        if not fits or outputs[0].numel() != logits.numel() or not _equal(outputs[0].reshape(logits.shape), logits):
            raise HeadError(
                f"What {same!r} returns, in {len(outputs)} calls, is not what the model returns: expected a module "
                "that is called once and whose output is the model's logits [B, C]. Name the one that ends the model."
            )
    return logits, calls


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if name not in modules:
        near = ", ".join(list(modules)[-5:])
        raise HeadError(f"The model has no module {name!r}: expected a name of named_modules(), the last ones: {near}.")
    if not any(True for _ in modules[name].parameters()):
        raise HeadError(f"Module {name!r} has no parameters, so no gradient: name one that holds the last parameters.")
    return modules[name]


def _targets(task: Task, batch: Batch, logits: Tensor) -> Tensor:
    bad = ~task.known(logits, batch.labels)
    if bad.any():
        named = ", ".join(map(str, batch.samples[bad][:_NAMED].tolist()))
        raise LabelError(
            f"{int(bad.sum())} samples of a batch have no label that a model of {logits.shape[1]} outputs knows "
            f"(samples {named}): a gradient of {task.name} needs the label. Leave them out, or label them."
        )
    return batch.labels.to(logits.device, non_blocking=True)


def _named(gradients: LastLayer | Matrix, labels: Any, samples: Any, head: str) -> SampleGradients:
    return SampleGradients(gradients, labels, samples, samples[~gradients.finite()], head)


def _is(output: Tensor, then: Tensor, logits: Tensor) -> bool:
    """Whether the logits are a layer's output, as it was then: both are still in memory, so addresses tell."""
    return output.shape == logits.shape and output.data_ptr() == logits.data_ptr() and _equal(then, logits)


def _equal(a: Tensor, b: Tensor) -> bool:
    """The same numbers, NaN included."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _fetch(values: Tensor) -> Tensor:
    """To the main memory; from a GPU without waiting for it."""
    return values.contiguous().to("cpu", non_blocking=True)  # a view would keep alive what it is a view of
