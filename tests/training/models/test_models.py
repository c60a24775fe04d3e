"""Models: the sizes that were published, the same weights for the same seed, and clear words for unknown names."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tamis.training.devices import pick_device
from tamis.training.errors import DeviceError, ModelFailed, UnknownModelError
from tamis.training.models.registry import (
    ImageClassifier,
    PreActResNet,
    build_model,
    check_model,
    model_names,
)
from tamis.training.planning import model_code
from tamis.training.seeds import derive_seed


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def residual_parameters(depth: int, block: str) -> int:
    """Counted by hand: convolutions without biases, two numbers a channel of each BatchNorm, and the last layer."""
    blocks, total, width = (depth - 2) // (6 if block == "basic" else 9), 3 * 9 * 16, 16
    for inner in (16, 32, 64):
        for number in range(blocks):
            out = inner if block == "basic" else 4 * inner
            layers = (
                [(width, inner, 9), (inner, inner, 9)]
                if block == "basic"
                else [(width, inner, 1), (inner, inner, 9), (inner, out, 1)]
            )
            total += sum(a * b * k + 2 * a for a, b, k in layers)
            total += width * out if number == 0 and (width != out or inner > 16) else 0
            width = out
    return total + 2 * width + 10 * width + 10


@pytest.mark.parametrize(
    ("name", "depth", "block", "published"),
    [
        ("preact20", 20, "basic", 0.27e6),  # He et al., "Deep Residual Learning", table 6
        ("preact56", 56, "basic", 0.85e6),
        ("preact110", 110, "basic", 1.7e6),  # "Identity Mappings", table 4
        ("preact164", 164, "bottleneck", 1.7e6),
        ("preact164-basic", 164, "basic", 2.6e6),
        ("preact20-bottleneck", 20, "bottleneck", 0.22e6),
        ("preact29", 29, "bottleneck", 0.31e6),
        ("preact32", 32, "basic", 0.46e6),
    ],
)
def test_sizes_are_those_of_the_paper(name: str, depth: int, block: str, published: float) -> None:
    model = build_model(name, num_classes=10)
    assert parameters(model) == residual_parameters(depth, block)
    assert parameters(model) == pytest.approx(published, rel=0.03)
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for n, m in model.named_modules() if "shortcut" not in n)
    assert layers == depth


@pytest.mark.parametrize("name", ["preact20", "preact20-bottleneck", "preact1001"])
def test_stages_halve_the_image(name: str) -> None:
    model = build_model(name, num_classes=7, in_channels=1)
    assert isinstance(model, PreActResNet)
    with torch.inference_mode():
        assert model.eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
        stem = model.stem(torch.zeros(1, 1, 32, 32))
        assert model.stages(stem).shape[2:] == (8, 8)
        assert model.embed(torch.zeros(2, 1, 32, 32)).shape == (2, model.fc.in_features)


def test_a_block_adds_to_what_comes_in() -> None:
    model = build_model("preact20", num_classes=10).eval()
    assert isinstance(model, PreActResNet)
    second = model.stages[1]
    for conv in second.convs:
        nn.init.zeros_(conv.weight)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(second(x), x)  # no activation on the way: that is the identity mapping


@pytest.mark.parametrize("name", ["preact20", "resnet18", "mobilenet_v3_small"])
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    before = torch.get_rng_state()
    one, same, other = (build_model(name, num_classes=4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v3_small", "googlenet", "densenet121"])
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_classifiers(name: str, channels: int) -> None:
    model = build_model(name, num_classes=5, in_channels=channels)
    found = model.train()(torch.rand(2, channels, 64, 64))
    assert isinstance(found, torch.Tensor)
    assert found.shape == (2, 5)


def test_names_are_listed() -> None:
    names = model_names()
    assert {"preact20", "preact164", "resnet50", "vit_b_16"} <= set(names)
    assert not {"fasterrcnn_resnet50_fpn", "fcn_resnet50", "r3d_18", "raft_large"} & set(names)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet51", "resnet50"),
        ("preact", "preact20"),
        ("", "preact20"),
        ("preact21", "near it: preact20"),
        ("preact2", "near it: preact8, preact11"),
        ("preact30-basic", r"6n\+2 with basic blocks; near it: preact32"),
        ("preact20-wide", "preact20"),
        ("fasterrcnn_resnet50_fpn", "No model"),
        ("no_such_module:make", "in the current folder or installed"),
        ("json:no_such_function", "no_such_function"),
        ("json:__doc__", "is a str: expected a function"),
        (":make", "cannot be imported"),
        ("json:", "cannot be imported"),
    ],
)
def test_unknown_names_say_what_there_is(name: str, words: str) -> None:
    with pytest.raises(UnknownModelError, match=words) as caught:
        build_model(name, num_classes=10)
    assert isinstance(caught.value, KeyError)


OWN = """
from torch import nn
def takes_both(num_classes, in_channels, width=3):
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(in_channels, width, 3), pool, nn.Flatten(), nn.Linear(width, num_classes))
def takes_one(num_classes): return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
def takes_none(): return nn.Flatten()
def takes_all(**options): return takes_both(**options)
def gives_text(): return "model"
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_models_for_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_models_for_a_test"


def test_a_function_of_ones_own(own: str) -> None:
    for function in ("takes_both", "takes_all"):
        model = build_model(f"{own}:{function}", num_classes=6, in_channels=2, seed=3)
        assert model(torch.zeros(1, 2, 5, 5)).shape == (1, 6)
        again = build_model(f"{own}:{function}", num_classes=6, in_channels=2, seed=3)
        assert torch.equal(model[0].weight, again[0].weight)
    assert build_model(f"{own}:takes_one", num_classes=6)(torch.zeros(1, 2, 5, 5)).shape == (1, 6)
    assert isinstance(build_model(f"{own}:takes_none", num_classes=6), nn.Flatten)
    with pytest.raises(UnknownModelError, match="returned a str"):
        build_model(f"{own}:gives_text", num_classes=6)


FAILING = """
import json
from torch import nn
def raises(num_classes): return deeper(num_classes)
def deeper(count): raise RuntimeError(f"no model of {count} classes\\nand a second line")
def in_a_library(num_classes): return json.loads("{")
def needs_more(num_classes, width): return nn.Flatten()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is not looked through for modules, as for a console script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder not in ("", str(Path.cwd()))])
    return tmp_path


@pytest.mark.parametrize(
    ("function", "first", "own"),
    [
        ("raises", "RuntimeError: no model of 6 classes", ["in raises", "return deeper", "in deeper", "raise Runtime"]),
        ("in_a_library", "JSONDecodeError: Expecting", ["in in_a_library", "json.loads"]),
    ],
)
def test_what_ones_own_function_raises_is_told_in_a_few_lines(
    here: Path, function: str, first: str, own: list[str]
) -> None:
    (here / "failing_models_for_a_test.py").write_text(FAILING)
    name = f"failing_models_for_a_test:{function}"
    with pytest.raises(ModelFailed) as caught:
        build_model(name, num_classes=6)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"Model {name} failed: {first}")
    assert len(lines) == 1 + len(own)
    assert all(word in line for word, line in zip(own, lines[1:], strict=True))
    assert all("failing_models_for_a_test.py:" in line for line in lines[1::2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError: invalid syntax"),
        ("import torch\nraise SystemError('no')", "SystemError: no"),
    ],
)
def test_a_module_that_cannot_run_is_told_in_a_few_lines(here: Path, text: str, words: str) -> None:
    name = f"broken_{abs(hash(text))}"
    (here / f"{name}.py").write_text(text)
    assert model_code(f"{name}:make") == hashlib.sha256(text.encode()).hexdigest()
    for refuse in (check_model, lambda which: build_model(which, num_classes=2)):
        with pytest.raises(ModelFailed, match=words) as caught:
            refuse(f"{name}:make")
        assert f"{name}.py:" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3


def test_a_function_that_needs_more_is_refused(here: Path) -> None:
    (here / "needing_models_for_a_test.py").write_text(FAILING)
    with pytest.raises(UnknownModelError, match="missing a required argument: 'width'"):
        build_model("needing_models_for_a_test:needs_more", num_classes=2)


def test_a_package_in_the_current_folder_keeps_its_neighbours(here: Path) -> None:
    """What it imports when it is called is found, too."""
    (here / "mine_for_a_test").mkdir()
    (here / "mine_for_a_test" / "__init__.py").write_text("")
    later = "def make():\n    import late_for_a_test as late\n    return late.made()\n"
    (here / "mine_for_a_test" / "nets.py").write_text(later)
    (here / "late_for_a_test.py").write_text("from torch import nn\ndef made(): return nn.Flatten()\n")
    assert isinstance(build_model("mine_for_a_test.nets:make", num_classes=2), nn.Flatten)
    assert model_code("mine_for_a_test.nets:make") is not None
    assert str(here) not in sys.path[:1]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "", "cpu:0", "cuda:1000", "mps", 3, None])
def test_what_is_no_device_is_refused(name: Any) -> None:
    with pytest.raises(DeviceError, match="Unknown device"):
        pick_device(name)


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"No device cuda:999 on this machine \(\d+ GPUs\): use auto or cpu"):
        pick_device("cuda:999")


@pytest.mark.parametrize("options", [{"num_classes": 0}, {"num_classes": 3, "in_channels": 0}])
def test_counts_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        build_model("preact20", **options)


def test_a_classifier_normalises_bytes() -> None:
    model = ImageClassifier(nn.Flatten(), mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0])
    found = model(torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1))
    assert found.tolist() == [[-1.0, 3.0, pytest.approx(0.2)]]
    assert list(model.state_dict()) == []  # mean and std travel in the description


def test_seeds_of_different_purposes_differ() -> None:
    purposes = (("init",), ("step", 0, 1), ("step", 1, 0), ("step", 0, 11), ("step", 1, 1))
    seeds = [derive_seed(seed, *purpose) for seed in (0, 1, 11) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)
