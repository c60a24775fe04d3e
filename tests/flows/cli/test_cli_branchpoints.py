"""`tamis package branchpoints`: the table, its JSON, and what is refused."""

from pathlib import Path

import pytest
import safetensors.torch

from tamis.training.models.registry import build_model


def test_the_branchpoints_of_a_base_model_are_listed(tamis) -> None:
    asked = ("package", "branchpoints", "resnet20", "--image-size", 16, "--classes", 5, "--device", "cpu")
    found = tamis(*asked, "--json").json
    points = found["branchpoints"]
    assert [one["index"] for one in points] == list(range(11))
    assert points[0] | {"seconds": 0} == {
        "index": 0, "name": "", "shape": [3, 16, 16], "activations": 768, "layers": 0, "frozen": 0,
        "parameters": sum(p.numel() for p in build_model("resnet20", num_classes=5).parameters()), "seconds": 0,
        "share": 0.0,
    }  # fmt: skip
    assert points[-1]["parameters"] == 64 * 5 + 5  # the classifier
    assert found["head"] == "fc"
    shares = [one["share"] for one in points]
    assert shares == sorted(shares)
    for one in points:  # what is shared and what is not are the whole
        assert one["share"] + one["seconds"] / points[0]["seconds"] == pytest.approx(1)
    assert found["profile"]["image_shape"] == [3, 16, 16]
    people = tamis(*asked).out
    assert "stages.3" in people
    assert "ms a frame on cpu" in people


def test_weights_are_loaded_and_models_without_branchpoints_refused(tamis, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(build_model("resnet20", num_classes=5, seed=7).state_dict(), path)
    asked = ("package", "branchpoints", "resnet20", "--image-size", 16, "--device", "cpu", "--weights", path)
    assert "left as initialised: fc" in tamis(*asked).out  # 1,000 classes and not 5
    assert tamis(*asked, "--classes", 5, "--json").json["weights"]["left"] == []
    for model, said in (("tiny_model:linear", "nowhere between its 1 layers"), ("resnet21", "No model 'resnet21'")):
        refused = tamis("package", "branchpoints", model, "--image-size", 8, "--classes", 5, "--device", "cpu")
        assert refused.code == 1
        assert said in refused.err
