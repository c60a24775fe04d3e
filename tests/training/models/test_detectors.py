"""Detectors: torchvision's networks, torchvision's losses, but of each image."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from tamis.training.errors import TaskError, UnknownModelError
from tamis.training.models.detectors.rcnn import rcnn_terms
from tamis.training.models.detectors.running import as_boxes, detect, run
from tamis.training.models.detectors.ssd import LOGITS, encoded, matches, ssd_detections, ssd_losses, ssd_terms
from tamis.training.models.pretrained import fit
from tamis.training.models.registry import build_model, check_model

SMALL = {"ssdlite64-mobilenet": 1, "ssd64-resnet18": 1, "fasterrcnn64-resnet18": 4}


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def some() -> tuple[Tensor, Tensor]:
    """Three images of 48 x 64 with two boxes, one, and none."""
    pixels = torch.randn(3, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    targets = torch.full((3, 4, 5), -1.0)
    targets[0, :2] = torch.tensor([[0.0, 4, 4, 30, 30], [2.0, 32, 10, 60, 44]])
    targets[1, 0] = torch.tensor([1.0, 10, 5, 25, 40])
    return pixels, targets


def test_networks_are_torchvisions() -> None:
    ours, theirs = build_model("ssdlite-mobilenet", num_classes=7), detection.ssdlite320_mobilenet_v3_large
    assert shapes(ours) == shapes(theirs(weights=None, weights_backbone=None, num_classes=7))
    ours, theirs = build_model("fasterrcnn-resnet50", num_classes=7), detection.fasterrcnn_resnet50_fpn
    assert shapes(ours) == shapes(theirs(weights=None, weights_backbone=None, num_classes=7))


def test_ssd300_has_the_priors_of_the_paper_and_widening_leaves_them() -> None:
    pixels, targets = torch.zeros(1, 3, 300, 300), some()[1][:1]
    with torch.no_grad():
        narrow, wide = (
            run(build_model(name, num_classes=3).eval(), pixels, targets)
            for name in ("ssd300-resnet18", "ssd300-resnet18@1.5")
        )
    assert narrow.shape == (1, 8_732, LOGITS + 3)
    assert torch.equal(narrow[:, :, :4], wide[:, :, :4])


@pytest.mark.parametrize("name", ["ssdlite64-mobilenet", "ssd64-resnet18"])
def test_the_mean_weighted_by_matched_priors_is_torchvisions_loss(name: str) -> None:
    pixels, targets = some()
    model = build_model(name, num_classes=4).train()
    with torch.no_grad():
        terms = ssd_terms(run(model, pixels, targets), targets)
        theirs = model([*pixels], as_boxes(targets))
    matched_B = terms.matched_BP.sum(1)
    assert (matched_B > 0).tolist() == [True, True, False]
    for mine_B, name in zip(terms.means(), ("classification", "bbox_regression"), strict=True):
        assert float((mine_B * matched_B).sum() / matched_B.sum()) == pytest.approx(float(theirs[name]), rel=1e-5)
        assert mine_B[2] == 0  # the paper: without matched priors the loss is 0


def test_three_of_the_hardest_are_mined_for_each_matched_prior() -> None:
    pixels, targets = some()
    terms = ssd_terms(run(build_model("ssdlite64-mobilenet", num_classes=4), pixels, targets), targets)
    mined_BP = terms.mined_BP & ~terms.matched_BP
    assert mined_BP.sum(1).tolist() == (3 * terms.matched_BP.sum(1)).tolist()
    left_BP = ~terms.mined_BP
    assert terms.conf_BP[0][mined_BP[0]].min() >= terms.conf_BP[0][left_BP[0]].max()


def test_matching_by_hand() -> None:
    """The first prior is the box, the second overlaps it by less than half; a far box takes the nearest prior."""
    priors = torch.tensor([[0.0, 0, 10, 10], [6, 0, 16, 10], [50, 50, 60, 60]])
    assert matches(priors, torch.tensor([[0.0, 0, 10, 10]])).tolist() == [0, -1, -1]
    assert matches(priors, torch.tensor([[0.0, 0, 10, 10], [58, 58, 70, 70]])).tolist() == [0, -1, 1]
    same = encoded(priors[:1], priors[:1])
    assert same.tolist() == [[0, 0, 0, 0]]
    assert encoded(torch.tensor([[1.0, 0, 11, 10]]), priors[:1]).tolist() == [[1, 0, 0, 0]]  # a tenth, times 10


def test_perfect_outputs_have_no_loss_and_are_found() -> None:
    pixels, targets = some()
    model = build_model("ssdlite64-mobilenet", num_classes=4).eval()
    with torch.no_grad():
        outputs = run(model, pixels, targets)
    for image, of in zip(outputs, targets, strict=True):
        of = of[of[:, 0] >= 0]
        which_P = matches(image[:, :4], of[:, 1:]) if len(of) else torch.full((len(image),), -1)
        near = which_P >= 0
        image[near, 4:LOGITS] = encoded(of[which_P[near], 1:], image[near, :4])
        labels_P = torch.where(near, of[which_P.clamp(min=0), 0].long() + 1 if len(of) else 0, 0)
        image[:, LOGITS:] = 40.0 * nn.functional.one_hot(labels_P, 4)
    assert ssd_losses(outputs, targets).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    first, second, third = ssd_detections(model, outputs, 48, 64)
    torch.testing.assert_close(first["boxes"][first["labels"].argsort()], targets[0, :2, 1:], atol=1e-3, rtol=0)
    assert (sorted(first["labels"].tolist()), second["labels"].tolist(), len(third["boxes"])) == ([1, 3], [2], 0)


def test_losses_of_faster_rcnn_are_torchvisions_weighted_by_what_was_sampled() -> None:
    pixels, targets = some()
    model = build_model("fasterrcnn64-resnet18", num_classes=4).train()
    with torch.no_grad():
        torch.manual_seed(5)
        theirs = model([*pixels], as_boxes(targets))
        torch.manual_seed(5)
        terms = rcnn_terms(model, pixels, as_boxes(targets))
    names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    for part, name in enumerate(names):
        weight_B = terms.anchors_B if part < 2 else terms.regions_B
        mine = float((terms.losses_B4[:, part] * weight_B).sum() / weight_B.sum())
        assert mine == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)
    assert terms.losses_B4[2, 0] > 0  # an image without boxes teaches what is background
    assert terms.losses_B4[2, [1, 3]].tolist() == [0, 0]


@pytest.mark.parametrize("name", SMALL)
def test_looking_in_evaluation_mode_leaves_batchnorm_and_gives_a_loss_an_image(name: str) -> None:
    pixels, targets = some()
    model = build_model(name, num_classes=4).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        assert len(run(model, pixels, targets)) == 3
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


class Own(nn.Module):
    """Keeps to torchvision's contract and to nothing else: the loss is how many boxes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.factor = nn.BatchNorm2d(3), nn.Parameter(torch.ones(()))

    def forward(self, images: list[Tensor], boxes: list[dict[str, Tensor]] | None = None) -> object:
        self.norm(torch.stack(images))
        if self.training:
            assert boxes is not None
            return {"count": self.factor * sum(len(one["labels"]) for one in boxes), "mean": images[0].mean()}
        return [{"boxes": one.new_zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)} for one in images]


def test_any_model_under_the_contract_has_a_loss_for_each_image() -> None:
    pixels, targets = some()
    model = Own()
    expected = torch.tensor([2.0, 1.0, 0.0]) + pixels.mean(dim=(1, 2, 3))
    torch.testing.assert_close(run(model, pixels, targets)[:, 0], expected)
    seen = model.norm.num_batches_tracked.item()
    model.eval()
    torch.testing.assert_close(run(model, pixels, targets)[:, 0], expected)
    assert (model.norm.num_batches_tracked.item(), model.training) == (seen, False)
    assert len(detect(model, pixels)) == 3


def test_a_classifier_is_no_detector() -> None:
    pixels, targets = some()
    with pytest.raises(TaskError, match="expected a list of a dict for each image with boxes, labels, scores"):
        detect(nn.Identity(), pixels)
    with pytest.raises(TaskError, match="expected a dict of losses"):
        run(type("Odd", (nn.Module,), {"forward": lambda self, images, boxes: images})(), pixels, targets)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ssdlite-resnet18", "ssdlite goes with one of mobilenet"),
        ("ssd300-resnet20", "ssd goes with one of resnet18, resnet34, resnet50, resnet101"),
        ("ssd8-resnet18", "its side is 8 pixels; expected 32 to 4096"),
        ("ssdlite-mobilenet@0", "its width is 0; expected a factor above 0"),
    ],
)
def test_names_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        check_model(name)


def test_ssd_on_efficientnet_lite_takes_a_classifiers_weights_into_its_trunk() -> None:
    classifier = build_model("efficientnet-lite0", num_classes=5, seed=3).state_dict()
    model = build_model("ssd64-efficientnet-lite0", num_classes=3)

    def other() -> nn.Module:
        return build_model("ssd64-efficientnet-lite0", num_classes=4)

    given = fit(model, classifier, file="lite.pth", sha256="", model="ssd64-efficientnet-lite0", other=other)
    assert given.into == "backbone.trunk"
    own = model.state_dict()
    assert all(torch.equal(own[name], classifier[name.split("trunk.")[1]]) for name in own if "trunk" in name)
    assert {one.partition(".")[0] for one in given.unused} == {"_conv_head", "_bn1", "_fc"}


def test_maps_of_efficientnet_lite_have_strides_8_16_and_32_and_three_more() -> None:
    model = build_model("ssd192-efficientnet-lite0", num_classes=3).eval()
    maps = model.backbone(torch.zeros(1, 3, 192, 192))  # type: ignore[operator]  # a module, for torch
    assert [tuple(one.shape[1:]) for one in maps.values()] == [
        (40, 24, 24), (112, 12, 12), (320, 6, 6), (256, 3, 3), (256, 2, 2), (256, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssdlite-efficientnet-lite0", "ssdlite goes with one of mobilenet"),
        ("fasterrcnn-efficientnet-lite0", "fasterrcnn goes with one of resnet18, resnet34, resnet50, resnet101"),
        ("ssd-resnet19", "ssd goes with one of resnet18, .*efficientnet-lite0"),
        ("ssd300-efficientnet-lite0@2", "is not widened"),
    ],
)
def test_trunks_that_do_not_go_together_are_refused(name: str, said: str) -> None:
    with pytest.raises(UnknownModelError, match=said):
        check_model(name)
