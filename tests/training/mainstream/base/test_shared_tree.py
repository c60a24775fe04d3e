"""A tree of applications gives what each gives alone, and runs what they share once."""

import copy
import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tamis.training.errors import HeadError, TreeError
from tamis.training.mainstream.base.profiling import measure
from tamis.training.mainstream.base.splitting import Split, split
from tamis.training.mainstream.base.tree import SharedTree, Specialised
from tamis.training.models.registry import ImageClassifier, build_model

MODELS = {"resnet18": 32, "mobilenet_v2": 32, "preact8": 16, "efficientnet-lite0": 32, "basenets:make": 16}
LARGE = ("resnet18", "mobilenet_v2", "efficientnet-lite0")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.nightly] * (name in LARGE)) for name in MODELS]
)
def base(request: pytest.FixtureRequest) -> Split:
    """A base model with statistics of BatchNorm that are not those of an untrained one."""
    pixels = MODELS[request.param]
    model = ImageClassifier(build_model(request.param, num_classes=7), (0.4,) * 3, (0.3,) * 3)
    draw = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=draw) / 9
            module.running_var = torch.rand(module.num_features, generator=draw) + 0.5
    return split(model, (3, pixels, pixels))


def frames(base: Split, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, *base.image_shape), generator=torch.Generator().manual_seed(2)).byte()


def tuned(base: Split, branch: int, classes: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """A rest whose weights have moved away from the base model's, and those weights."""
    rest, draw = base.specialised(branch, classes, seed=classes), torch.Generator().manual_seed(branch)
    with torch.no_grad():
        for one in rest.parameters():
            one.mul_(1 + 0.1 * torch.rand(one.shape, generator=draw))
    return rest, rest.state_dict()


def alone(base: Split, whole: nn.Module, branch: int, state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Outputs of an application's own whole model: the base model's class, the stem's weights, its own rest."""
    stem = {name: base.model.state_dict()[name] for name in base.stem_names(branch)}
    whole.load_state_dict(stem | state)
    with torch.inference_mode():
        return whole.eval()(images)


def with_classes(base: Split, classes: int) -> nn.Module:
    """A copy of the base model with another head."""
    made = copy.deepcopy(base.model)
    old = made.get_submodule(base.head)
    assert isinstance(old, nn.Linear)
    made.set_submodule(base.head, nn.Linear(old.in_features, classes))
    return made


def test_every_application_gets_the_outputs_of_its_own_model_alone(base: Split) -> None:
    images = frames(base)
    some, expected = list[Specialised](), dict[str, Tensor]()
    whole = {classes: with_classes(base, classes) for classes in (2, 3, 4)}
    for branch in range(base.segments + 1):
        rest, state = tuned(base, branch, 2 + branch % 3)
        some.append(Specialised(f"app.{branch}", branch, rest))
        expected[f"app.{branch}"] = alone(base, whole[2 + branch % 3], branch, state, images)
    found = SharedTree(base, reversed(some))(images)
    assert found.keys() == expected.keys()
    for name, outputs in expected.items():
        assert outputs.abs().max() > 0
        torch.testing.assert_close(found[name], outputs, rtol=1e-5, atol=1e-5)


def test_each_segment_runs_once_and_only_where_it_is_wanted(base: Split) -> None:
    branches = {"a": 1, "b": 2, "c": 2, "d": base.segments}
    tree = SharedTree(base, [Specialised(n, b, base.specialised(b, 3)) for n, b in branches.items()])
    ran: Counter[Any] = Counter()
    hooks = [
        module.register_forward_hook(lambda *_, at=at: ran.update([at]))
        for at, module in [*enumerate(tree.segments), *zip(branches, tree.rests, strict=True)]
    ]
    images = frames(base)
    whole = tree(images)
    assert ran == dict.fromkeys([*range(base.segments), *branches], 1)
    ran.clear()
    some = tree(images, {"c", "a"})
    assert ran == dict.fromkeys([0, 1, "a", "c"], 1)
    assert some.keys() == {"a", "c"}
    assert all(torch.equal(whole[name], some[name]) for name in some)
    ran.clear()
    assert tree(images, set()) == {}
    assert not ran
    for hook in hooks:
        hook.remove()


def test_names_of_the_state_dict_are_parted(base: Split) -> None:
    whole, before = list(base.model.state_dict()), set[str]()
    for point in base.branchpoints:
        stem, rest = base.stem_names(point.index), base.rest_names(point.index)
        assert sorted([*stem, *rest]) == sorted(whole)
        assert set(stem) >= before
        assert point.index == 0 or set(stem) > before
        assert set(base.segment(point.index, None).state_dict()) == set(rest)
        sizes = [p.numel() for name, p in base.model.named_parameters() if name in rest]
        assert sum(sizes) == point.parameters
        before = set(stem)
    assert base.rest_names(base.segments) == (f"{base.head}.weight", f"{base.head}.bias")


def test_segments_have_the_layers_of_the_model_and_candidates_their_own(base: Split) -> None:
    own = {id(one) for one in base.model.parameters()}
    middle = base.segments // 2
    assert {id(one) for one in base.segment(middle, None).parameters()} <= own
    assert {id(one) for one in base.specialised(middle, 3).parameters()}.isdisjoint(own)
    images = frames(base)
    with torch.inference_mode():
        at, values = 0, base.model.eval()(images)
        for b in (1, middle, None):
            images, at = base.segment(at, b)(images), b or 0
    torch.testing.assert_close(images, values, rtol=1e-5, atol=1e-5)


def test_a_candidate_begins_with_the_base_models_layers_and_a_drawn_head(base: Split) -> None:
    one, again, other = (base.specialised(1, 3, seed=seed).state_dict() for seed in (4, 4, 5))
    for name, values in one.items():
        assert torch.equal(values, again[name])
        if not name.startswith(base.head):
            assert torch.equal(values, base.model.state_dict()[name])
    assert not torch.equal(one[f"{base.head}.weight"], other[f"{base.head}.weight"])


def test_statistics_of_batchnorm_stay() -> None:
    base = split(build_model("preact20", num_classes=4), (3, 16, 16))
    tree = SharedTree(base, [Specialised("a", 5, base.specialised(5, 3))])
    tree.train()
    assert not any(module.training for module in tree.modules())
    before = {name: one.clone() for name, one in tree.state_dict().items()}
    images = torch.rand(4, 3, 16, 16)
    assert not tree(images)["a"].requires_grad
    assert all(torch.equal(one, before[name]) for name, one in tree.state_dict().items())


def test_a_candidate_in_training_leaves_the_stem_and_what_crosses_alone() -> None:
    """MobileNetV3's classifier has dropout that writes into its input."""
    base = split(build_model("mobilenet_v3_small", num_classes=4), (3, 32, 32))
    stem, rest = base.segment(0, base.segments).eval(), base.specialised(base.segments, 3).train()
    with torch.no_grad():
        features = stem(torch.rand(8, 3, 32, 32))
    before = features.clone()
    rest(features).sum().backward()
    assert torch.equal(features, before)
    assert all(one.grad is not None for one in rest.parameters())
    assert all(one.grad is None for one in base.model.parameters())


def test_dropout_called_as_a_function_is_on_in_training() -> None:
    base = split(build_model("basenets:make", num_classes=4), (3, 16, 16))
    rest, values = base.specialised(base.segments - 1, 3), torch.rand(1, *base.branchpoints[-2].shape)
    assert len({tuple(rest.train()(values)[0].tolist()) for _ in range(20)}) > 1
    assert len({tuple(rest.eval()(values)[0].tolist()) for _ in range(20)}) == 1


def test_what_crossed_is_given_up_on_the_way() -> None:
    base = split(build_model("resnet18", num_classes=4), (3, 32, 32))
    kept: dict[int, Any] = {}
    alive: dict[int, int] = {}

    class Watching(nn.Module):
        def __init__(self, branch: int) -> None:
            super().__init__()
            self.branch = branch

        def forward(self, values: Tensor) -> Tensor:
            alive[self.branch] = sum(one() is not None for one in kept.values())
            kept[self.branch] = weakref.ref(values)
            return values.flatten(1)[:, :2].clone()

    tree = SharedTree(base, [Specialised(str(b), b, Watching(b)) for b in (2, 4, 6)])
    tree(torch.rand(1, 3, 32, 32))
    assert alive == {2: 0, 4: 0, 6: 0}
    assert all(one() is None for one in kept.values())


def test_what_does_not_belong_to_the_base_model_is_refused() -> None:
    base = split(build_model("resnet18", num_classes=4), (3, 32, 32))
    rest = base.specialised(9, 3)
    with pytest.raises(TreeError, match="Two applications are called 'a'"):
        SharedTree(base, [Specialised("a", 9, rest), Specialised("a", 8, rest)])
    with pytest.raises(TreeError, match="leaves at branchpoint 10, and this base model has those from 0 to 9"):
        SharedTree(base, [Specialised("a", 10, rest)])
    with pytest.raises(TreeError, match="No application 'b' in this tree; there are: a"):
        SharedTree(base, [Specialised("a", 9, rest)])(torch.rand(1, 3, 32, 32), {"b"})
    with pytest.raises(HeadError, match=r"fc.weight is \[3, 512\] among the weights and \[2, 512\]"):
        base.specialised(9, 2, rest.state_dict())
    with pytest.raises(HeadError, match=r"do not belong behind branchpoint 8 \(layer4.0\)"):
        base.specialised(8, 3, rest.state_dict())
    with pytest.raises(ValueError, match="No segment from 3 to 3: branchpoints go from 0 to 9"):
        base.segment(3, 3)


def test_a_profile_has_every_segment_and_adds_up() -> None:
    base = split(build_model("resnet18", num_classes=4), (3, 64, 64))
    base.model.train()
    found = measure(base, "cpu", repeats=3, warmups=1, threads=1)
    assert len(found.segments) == base.segments
    assert min(*found.segments, found.head, found.whole) > 0
    assert found.stem(4) + found.rest(4) == pytest.approx(sum(found.segments) + found.head)
    assert (found.device, found.threads, found.batch, found.image_shape) == ("cpu", 1, 1, (3, 64, 64))
    assert base.model.training
    with pytest.raises(ValueError, match="at least 1"):
        measure(base, "cpu", batch=0)
