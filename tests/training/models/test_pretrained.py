"""Weights out of a file: what they fit, what they leave, and that the file is asked for no more than it must be."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.config import TrainConfig
from tamis.training.errors import CheckpointError
from tamis.training.job import find, train
from tamis.training.models.pretrained import Given, fit, read_weights
from tamis.training.models.registry import build_model
from tamis.training.models.weights import unpack_model
from tamis.training.planning import plan
from tamis.training.trainer import Fitting

QUICK: dict[str, Any] = {
    "dataset": "digits", "model": "preact8", "epochs": 2, "batch_size": 256, "channels": 1, "augment": "none",
}  # fmt: skip


def asked(**more: Any) -> TrainConfig:
    return TrainConfig(**QUICK | more)


def fitted(name: str, found: dict[str, Tensor]) -> tuple[nn.Module, Given]:
    network = build_model(name, num_classes=3, seed=1)
    given = fit(
        network, found, file="a.pth", sha256="0" * 64, model=name, other=lambda: build_model(name, num_classes=4)
    )
    return network, given


@pytest.mark.parametrize(
    ("name", "into", "left", "unused"),
    [
        ("resnet18", "", ("fc",), ("fc",)),
        ("fasterrcnn64-resnet18", "backbone.body", ("backbone.fpn", "rpn", "roi_heads"), ("fc",)),
        ("ssd64-resnet18", "backbone.trunk", ("backbone.extra", "head"), ("layer4", "fc")),
    ],
)
def test_a_resnet_that_classifies_fits_trunks(
    name: str, into: str, left: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    theirs = models.resnet18()
    before = build_model(name, num_classes=3, seed=1).state_dict()
    network, given = fitted(name, theirs.state_dict())
    assert (given.into, given.left, given.unused) == (into, left, unused)
    after, front = network.state_dict(), f"{into}." if into else ""
    for key, one in theirs.state_dict().items():
        if not key.startswith(unused):
            assert torch.equal(after[front + key], one)
    assert all(torch.equal(after[key], one) for key, one in before.items() if key.startswith(left))


def test_mobilenet_fits_ssdlite_and_computes_the_same() -> None:
    theirs = models.mobilenet_v3_large().eval()
    network, given = fitted("ssdlite64-mobilenet-full", theirs.state_dict())
    assert (given.into, given.left, given.unused) == ("backbone", ("backbone.extra", "head"), ("classifier",))
    first, second = network.eval().get_submodule("backbone.features").children()
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(second(first(pixels)), theirs.features(pixels))
    with pytest.raises(
        CheckpointError, match=r"features\.13\.block\.3\.0\.weight is \[160, .*fits ssdlite-mobilenet-f"
    ):
        fitted("ssdlite64-mobilenet", theirs.state_dict())


def test_a_detector_of_other_classes_keeps_all_but_its_class_heads() -> None:
    theirs = build_model("ssdlite64-mobilenet", num_classes=7)
    network, given = fitted("ssdlite64-mobilenet", {f"module.{k}": v for k, v in theirs.state_dict().items()})
    assert {name.rpartition(".module_list")[0] for name in given.left} == {"head.classification_head"}
    name = "backbone.extra.0.0.0.weight"
    assert torch.equal(network.state_dict()[name], theirs.state_dict()[name])
    assert given.line.startswith("a.pth (sha256 000000000000): 394 of the model's 406 tensors loaded; left as init")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18-cifar", r"conv1.weight is \[64, 3, 7, 7\] in the file, and conv1.weight \[64, 3, 3, 3\] in the mod"),
        ("preact8", "2 of its 102 tensors have names of the model's 39"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        fitted(name, models.resnet18().state_dict())


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("it ran",)


def test_only_tensors_are_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": torch.ones(2)}, "epoch": 3}, path)
    assert read_weights(path.read_bytes(), path)["a"].tolist() == [1, 1]
    torch.save({"a": torch.tensor([1.0, torch.nan])}, path)
    with pytest.raises(CheckpointError, match="not finite, in a:"):
        read_weights(path.read_bytes(), path)
    torch.save({"a": Runs()}, path)
    for data in (path.read_bytes(), pickle.dumps(Runs()), b"", b"PK\x03\x04"):
        with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read as weights"):
            read_weights(data, path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list: expected a state dict"):
        read_weights(path.read_bytes(), path)
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_weights(b"none", path.with_suffix(".safetensors"))
    assert "it ran" not in capfd.readouterr().out


def test_a_run_begins_with_a_file_and_is_known_by_its_content(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    theirs = build_model("preact8", num_classes=10, in_channels=1, seed=9).state_dict()
    save_file(theirs, file := tmp_path / "weights.safetensors")
    torch.save(theirs, again := tmp_path / "weights.pt")
    plain = asked(epochs=1, lr=1e-30, weight_decay=0.0)
    begun = plain.model_copy(update={"weights": str(file)})
    spoken: list[str] = []
    run = train(store, begun, device="cpu", notify=spoken.append).run
    assert spoken == [
        f"weights.safetensors (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}): 39 of the model's 39 "
        "tensors loaded; left as initialised: nothing; not used of the file: nothing."
    ]
    assert run.blob is not None
    ours = unpack_model(store.blobs.get(run.blob))[0]  # a rate of next to nothing leaves them
    assert all(torch.equal(one, ours[name]) for name, one in theirs.items() if name.endswith("weight"))
    assert (run.metrics["weights"]["loaded"], run.metrics["weights"]["left"]) == (39, [])
    keys = [plan(store, one).key for one in (plain, begun, plain.model_copy(update={"weights": str(again)}))]
    assert len(set(keys)) == 3
    file.rename(moved := tmp_path / "moved.safetensors")
    assert plan(store, plain.model_copy(update={"weights": str(moved)})).key == run.key
    # What the run recorded finds it, without the file.
    moved.unlink()
    assert find(store, TrainConfig(**run.config)) == run
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read \(No such file"):
        find(store, begun)


def test_a_run_that_was_begun_goes_on_without_the_file(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(build_model("preact8", num_classes=10, in_channels=1, seed=9).state_dict(), file)
    made = plan(store, asked(weights=str(file)))
    whole = Fitting(store, made, device="cpu", resumable=False).fit()

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done > total / 2:
            raise Killed

    with pytest.raises(Killed):
        Fitting(store, made, device="cpu").fit(kill)
    file.unlink()
    bare = plan(store, TrainConfig(**made.config.model_dump()))
    assert (bare.key, bare.weights) == (made.key, None)
    with pytest.raises(CheckpointError, match="is needed to begin: give it as weights"):
        Fitting(store, bare, device="cpu", resumable=False).fit()
    gone_on = Fitting(store, bare, device="cpu").fit()
    assert gone_on.model == whole.model
    assert gone_on.metrics["weights"] == whole.metrics["weights"]


def test_configurations_that_do_not_agree() -> None:
    with pytest.raises(ValidationError, match="both say what to begin with"):
        asked(weights="a.pth", init_from="abc")
    with pytest.raises(
        ValidationError, match=r"weights is a\.bin: expected a file ending in \.safetensors, \.pth, \.pt"
    ):
        asked(weights="a.bin")
