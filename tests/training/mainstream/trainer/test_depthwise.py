"""The quick backward pass of depthwise convolutions: gradients are the definition's, and the forward pass is the same.

The oracle is PyTorch's own convolution in double precision.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from tamis.training.mainstream.trainer.depthwise import quickened


@pytest.mark.parametrize(
    ("sides", "kernel"),
    [((2, 2), 5), ((4, 4), 5), ((2, 2), 3), ((1, 1), 3), ((1, 3), 5), ((4, 2), 7), ((3, 3), (5, 7))],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_convolution(
    sides: tuple[int, int], kernel: int | tuple[int, int], layout: torch.memory_format
) -> None:
    size = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, size, padding=(size[0] // 2, size[1] // 2), groups=6)
    x = torch.randn(4, 6, *sides).contiguous(memory_format=layout)
    exact = _gradients(copy.deepcopy(layer).double(), x.double())
    plain = layer(x)
    with quickened(layer):
        ours = _gradients(layer, x)
        assert "Convolved" in type(layer(x).grad_fn).__name__
        assert torch.equal(layer(x), plain)
    for found, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_quicker_or_no_such_convolution_is_left_alone() -> None:
    large, small = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 2, 2)
    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
    others = [
        nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4, bias=False), nn.Conv2d(4, 4, 1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False),
    ]  # fmt: skip
    network = nn.ModuleList([depthwise, *others])
    with quickened(network):
        assert "Convolved" in type(depthwise(small).grad_fn).__name__
        assert "Convolved" not in type(depthwise(large).grad_fn).__name__
        assert all("Convolved" not in type(one(small).grad_fn).__name__ for one in others)
    assert "Convolved" not in type(depthwise(small).grad_fn).__name__
    assert "_conv_forward" not in vars(depthwise)


def _gradients(layer: nn.Conv2d, x: Tensor) -> list[Tensor]:
    """Of inputs, weights and bias."""
    x = x.detach().requires_grad_()
    out = layer(x)
    weigh = torch.arange(out.numel(), dtype=out.dtype).sin().view_as(out)
    return list(torch.autograd.grad((out * weigh).sum(), [x, layer.weight, layer.bias]))  # type: ignore[list-item]  # the layer has a bias
