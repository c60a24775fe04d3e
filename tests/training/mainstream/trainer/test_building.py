"""Whole builds: what is found and what is trained, what is read, what is published, and what is refused."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from builds import asked, weights, wide
from pydantic import ValidationError

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import PackageError, TamisError
from tamis.store.packages import Candidate, Package
from tamis.store.selections import Request, RoundData
from tamis.training.errors import BaseModelError
from tamis.training.mainstream.trainer import sources
from tamis.training.mainstream.trainer.building import Build, build, chosen
from tamis.training.mainstream.trainer.config import PackageConfig

# Builds in a process of its own, and kills itself (SIGKILL) when the first candidate is finished.
DYING = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])
from builds import asked
from tamis.store import Store
from tamis.training.mainstream.trainer.building import build

build(Store.open(sys.argv[1]), asked(Path(sys.argv[2]), branchpoints="2"), device="cpu",
      progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def keys(package: Package) -> list[str]:
    return [one.key for one in package.candidates]


def test_a_killed_build_is_taken_up_where_it_was(store: Store, few: Dataset, tmp_path: Path) -> None:
    """What it had finished is kept to the byte; the package is that of a build that was never killed."""
    config = asked(tmp_path, branchpoints="2")
    command = [sys.executable, "-c", DYING, store.root.url, str(tmp_path), str(Path(__file__).parent)]
    died = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240, check=False)
    assert died.returncode == -signal.SIGKILL
    made = Build(store, config)
    (first,) = made.candidates()
    assert store.packages.all() == []
    assert made.missing() == [4]
    trained = list[int]()
    whole = build(store, config, progress=lambda done, total: trained.append(total))
    assert whole.created
    assert trained == [1]
    assert whole.package.candidates[0].content == first.content
    again = build(store, config, progress=lambda done, total: trained.append(0))
    assert not again.created
    assert again.package.ref == "threes@1"
    assert trained == [1]  # nothing was trained


def test_a_package_has_every_candidate_with_its_figures(store: Store, few: Dataset, tmp_path: Path) -> None:
    package = build(store, asked(tmp_path)).package
    made = Build(store, asked(tmp_path))
    assert [one.branch for one in package.candidates] == [0, 1, 2, 3, 4]
    assert [one.branchpoint for one in package.candidates] == [one.name for one in made.split.branchpoints]
    assert package.event_class == "3"
    assert (package.classes, package.image_size) == (tuple("0123456789"), 8)
    labels = made.data.held.labels_N
    for one in package.candidates:
        rest = made.split.specialised(one.branch, 10, safetensors.torch.load(store.packages.weights(one)))
        (batch,) = made.data.held.batches([np.arange(len(labels))])
        with torch.no_grad():
            x = batch.images if one.branch == 0 else made.split.segment(0, one.branch)(batch.images)
            said = rest.eval()(x).argmax(dim=1).numpy()
        assert one.accuracy == pytest.approx((said == labels).mean())
        assert one.tpr == pytest.approx((said == 3)[labels == 3].mean())
        assert one.fpr == pytest.approx((said == 3)[labels != 3].mean())
        assert one.correlation is None  # no video
        assert one.parameters == sum(p.numel() for p in rest.parameters())
    differs = np.asarray(package.lineage["discordance"])
    assert differs.shape == (5, 5)
    assert (differs == differs.T).all()
    assert (np.diag(differs) == 0).all()
    # The frontier of (specialised layers, accuracy), by its definition: fewer layers first, each more accurate.
    best = -1.0
    for one in reversed(package.candidates):
        assert one.pareto == (one.accuracy > best)
        best = max(best, one.accuracy)


def test_other_events_names_and_branchpoints_begin_with_the_candidates_that_are_there(
    store: Store, few: Dataset, tmp_path: Path
) -> None:
    two = build(store, asked(tmp_path, branchpoints="2")).package
    other = Build(store, asked(tmp_path, name="others", average=9.0, correlation=0.5, cache_gb=1.0))
    assert other.missing() == [1, 2, 3]
    for changed in ({"seed": 1}, {"lr": 0.02}, {"event": "4"}):
        assert len(Build(store, asked(tmp_path, **changed)).missing()) == 5, changed
    more = build(store, asked(tmp_path, name="others", average=9.0, correlation=0.5)).package
    assert set(keys(two)) < set(keys(more))
    assert more.events is not None
    assert (more.events.average, more.events.correlation, more.events.measured) == (9.0, 0.5, ())
    assert len(store.packages.bases.all()) == 1


def test_only_the_samples_of_a_selection_are_read(
    store: Store, few: Dataset, digits: dict[str, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.datasets.add("others", digits["train"][:1])
    picked = np.flatnonzero(np.isin(few.labels(), (3, 5)))[:50]
    data = RoundData(samples=picked, weights=np.arange(50) + 1.0, first_epoch=0)
    request = Request(few, "by-hand", 1, {"picked": 50})
    store.selections.publish(request, "picked", [data], seconds=0.0)
    read, load = dict[str, set[int]](), sources.load_batches

    def watched(index: Any, given: Any, images: Any) -> Any:
        def seen() -> Any:
            for one in given:
                read.setdefault(index.dataset.name, set()).update(one.samples.tolist())
                yield one

        return load(index, seen(), images)

    monkeypatch.setattr(sources, "load_batches", watched)
    config = asked(tmp_path, selection="picked", evaluate_on="others", branchpoints="1")
    package = build(store, config).package
    assert read["digits"] == set(picked.tolist())
    assert len(read["others"]) == store.datasets.get("others").samples
    assert (package.selection, package.lineage["evaluate_on"]) == ("picked@1", "others@1")
    made = Build(store, config)
    rows = made.data.train.samples_N
    assert dict(zip(rows.tolist(), made.data.train.weights_N.tolist(), strict=True)) == {
        sample: rank + 1.0 for rank, sample in enumerate(picked.tolist())
    }


def test_branchpoints_by_number_name_and_count(store: Store, few: Dataset, tmp_path: Path) -> None:
    points = Build(store, asked(tmp_path)).split.branchpoints
    assert chosen(points, "all") == (0, 1, 2, 3, 4)
    assert chosen(points, "1") == (4,)
    assert chosen(points, "2") == (0, 4)
    assert chosen(points, "3") == (0, 2, 4)
    assert chosen(points, f"{points[2].name}, 0") == (0, 2)
    for wrong in ("6", "0", "0,5", "0,layer9"):
        with pytest.raises(PackageError, match="branchpoint"):
            chosen(points, wrong)


def only(store: Store, few: Dataset, *classes: int) -> None:
    """digits-some@1: samples of these classes."""
    picked = np.flatnonzero(np.isin(few.labels(), classes))
    data = RoundData(samples=picked, weights=np.ones(len(picked)), first_epoch=0)
    store.selections.publish(Request(few, "by-hand", 1, {"of": list(classes)}), "some", [data], seconds=0.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"event": "person"}, "digits@1 has no class 'person' for the event; there are: 0, 1, 2"),
        ({"event": "10"}, "has no class '10'"),
        ({"base": "preact9"}, "depth"),
        ({"mean": None, "std": None}, "How pixels are normalised for preact8 with 1 channels is not known"),
        ({"average": None, "minimum": None}, "digits@1 has no time line to measure events on .* --average, --minimum"),
        ({"minimum": None, "average": None, "frequency": None}, "--average, --minimum, --frequency"),
        ({"evaluate_on": "digits"}, "299 of the 299 samples of digits@1 are in digits@1 too"),
        ({"evaluate_on": "nothing"}, "No dataset 'nothing'"),
        ({"weights": "missing.pth"}, "Weights missing.pth cannot be read"),
        ({"weights": f"sha256:{'0' * 64}"}, "give the file"),
        ({"selection": "some"}, "None of the .* training samples is of the event's class class 3"),
        ({"base_run": "1f0c9a", "weights": None}, "1f0c9a"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    store: Store, few: Dataset, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    only(store, few, 1, 2)
    weights(tmp_path)
    with pytest.raises((TamisError, BaseModelError), match=said) as refused:
        build(store, asked(tmp_path, **changed))
    assert "\n" not in str(refused.value)
    assert store.packages.all() == []


def test_a_base_without_a_narrow_cut_is_refused(store: Store, few: Dataset, tmp_path: Path) -> None:
    torch.save(wide(10).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(BaseModelError, match="no stem can be shared") as refused:
        build(store, asked(tmp_path, base="builds:wide", weights=str(tmp_path / "wide.pth")))
    assert "\n" not in str(refused.value)


def test_a_config_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    for changed, said in (
        ({"base_run": "1f0c9a"}, "a base is trained already"),
        ({"holdout": 1.0}, "less than 1"),
        ({"average": 1.0, "minimum": 2.0}, "longer than the mean"),
        ({"mean": (0.1, 0.2, 0.3)}, "a number for each of 1 channels"),
        ({"weights": "base.onnx"}, "expected a file ending in"),
        ({"branchpoints": "0,,3"}, "expected all"),
        ({"name": "Three"}, "invalid name"),
    ):
        with pytest.raises((ValidationError, TamisError), match=said):
            asked(tmp_path, **changed)
    assert PackageConfig.model_validate(asked(tmp_path).model_dump(mode="json")) == asked(tmp_path)


def test_the_key_says_which_question_and_not_which_machine(store: Store, few: Dataset, tmp_path: Path) -> None:
    one: Candidate = build(store, asked(tmp_path, branchpoints="1")).package.candidates[0]
    for device in ("cpu", "auto"):
        assert Build(store, asked(tmp_path, cache_gb=0.0)).train(4, device=device).key == one.key
