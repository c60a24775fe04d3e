"""Packages that see whole frames: events at the sides are learnt, keys of those that crop stay, trees are apart."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import asked
from numbered import Write
from PIL import Image
from pydantic import ValidationError
from runkit import keep_base, package, parts, plan

from tamis.store import Store
from tamis.store.packages import Package
from tamis.training.errors import RunnerError
from tamis.training.mainstream.runner.deploying import Deployer
from tamis.training.mainstream.scheduling.packaged import workload_of
from tamis.training.mainstream.scheduling.plan import Plan
from tamis.training.mainstream.trainer.building import Build, build


def street(store: Store, tmp_path: Path, write: Write) -> None:
    """120 pictures of 12 x 36; in every third something bright is at the left edge, outside of the middle square."""
    draw, samples = np.random.default_rng(0), list[tuple[str, dict[str, bytes]]]()
    for i in range(120):
        pixels = draw.integers(20, 60, (12, 36), dtype=np.uint8)
        if i % 3 == 0:
            pixels[:, :10] = 220
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        samples.append((f"{i:03d}", {"png": file.getvalue(), "cls": b"%d" % (i % 3 == 0)}))
    store.datasets.add("street", [write(tmp_path / "street.tar", samples)])


def built(store: Store, folder: Path, fit: str) -> Package:
    recipe = {"image_size": 12, "epochs": 6, "patience": 6, "branchpoints": "3", "batch_size": 20}
    return build(store, asked(folder, dataset="street", event="1", fit=fit, **recipe)).package


def test_what_happens_at_the_side_is_learnt_where_it_is_seen(store: Store, tmp_path: Path, write: Write) -> None:
    street(store, tmp_path, write)
    cropped, stretched, padded = (built(store, tmp_path, fit) for fit in ("crop", "stretch", "pad"))
    best = [max(one.accuracy for one in made.candidates) for made in (cropped, stretched, padded)]
    assert best[0] < 0.8  # two of three are without
    assert min(best[1:]) > 0.95
    assert [made.fit for made in (cropped, stretched, padded)] == ["crop", "stretch", "pad"]
    assert "fit" not in cropped.config  # as packages have it that were built before


def test_keys_of_those_that_crop_do_not_know_of_it(store: Store, tmp_path: Path, write: Write) -> None:
    street(store, tmp_path, write)
    given = {"dataset": "street", "event": "1", "image_size": 12}
    plain, pad = (Build(store, asked(tmp_path, **given, fit=fit)) for fit in ("crop", "pad"))
    assert "fit" not in plain.data.train.what
    assert "fit" not in plain.config.deciding()
    assert pad.data.train.what == plain.data.train.what | {"fit": "pad"}
    assert plain.key(3) != pad.key(3)
    assert plain._features("cpu", 8)[0].path(3) != pad._features("cpu", 8)[0].path(3)
    with pytest.raises(ValidationError, match="give image_size"):
        asked(tmp_path, fit="pad")


def test_packages_that_see_other_pictures_share_no_layers(store: Store) -> None:
    for name, fit in (("a", None), ("b", "stretch"), ("c", "stretch")):
        package(store, name, [2], fit=fit)
    base = keep_base(store).key
    store.packages.profiles.put(base, [0.02] * parts().segments, device="cpu", threads=1, rest=0.001)
    workload, profiles = workload_of(store.packages, ["a", "b", "c"], rates=(1, 2))
    assert [one.base for one in workload.applications] == [base, f"{base}+stretch", f"{base}+stretch"]
    assert set(workload.bases) == set(profiles) == {base, f"{base}+stretch"}
    told = plan(store, [(name, 2, 1, 1) for name in "abc"], packages={name: f"{name}@1" for name in "abc"})
    schedule = Deployer(store, torch.device("cpu")).deploy(of_trees(told, {"b": "stretch", "c": "stretch"}))
    assert {tree: fit.fit.how for tree, fit in schedule.trees.items()} == {base: "crop", f"{base}+stretch": "stretch"}
    with pytest.raises(RunnerError, match="plan anew"):
        Deployer(store, torch.device("cpu")).deploy(told)
    package(store, "d", [2], fit="fisheye")
    other = plan(store, [("d", 2, 1, 1)], packages={"d": "d@1"})
    with pytest.raises(RunnerError, match="'fisheye'"):
        Deployer(store, torch.device("cpu")).deploy(of_trees(other, {"d": "fisheye"}))


def of_trees(made: Plan, fits: dict[str, str]) -> Plan:
    """A plan in which some applications take pictures in another way."""
    applications = [
        one.model_copy(update={"base": f"{one.base}+{fits[one.name]}"}) if one.name in fits else one
        for one in made.applications
    ]
    return made.model_copy(update={"applications": tuple(applications)})
