"""Every released format of packages is imported for ever, and says what it always said."""

from pathlib import Path

import numpy as np
import pytest
from make_package import write
from safetensors.numpy import load

from tamis.store import Store
from tamis.store.packages import EventFigures, Package
from tamis.store.packages.manifest import FORMAT

HERE = Path(__file__).parent
KEPT = sorted(HERE.glob("package-format-*"))


@pytest.fixture(params=[*KEPT, "fresh"], ids=lambda p: getattr(p, "stem", p))
def artefact(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Store:
    """A store with the package of each format, and of one written now."""
    folder = request.param
    if folder == "fresh":
        write(Store.create(tmp_path / "made"), folder := tmp_path / "fresh")
    assert store.packages.import_(folder).created
    return store


def test_the_present_format_is_kept() -> None:
    assert HERE / f"package-format-{FORMAT}" in KEPT
    assert all(p.stat().st_size < 10_000 for kept in KEPT for p in kept.iterdir())


def test_the_package(artefact: Store) -> None:
    found: Package = artefact.packages.get("trains")
    assert (found.ref, found.dataset, found.selection, found.classes, found.event_class, found.seed) == (
        "trains@1", "street@1", "street-hard@2", ("nothing", "train ✓"), "train ✓", 7,
    )  # fmt: skip
    assert found.events == EventFigures(2.5, 1.0, 0.125, 0.25, ("average", "frequency"))
    assert (found.config, found.lineage["video"]) == ({"optimizer": "adam", "lr": 0.0001}, "crossing.avi")
    assert [(c.branch, c.branchpoint, c.accuracy, c.correlation, c.pareto) for c in found.candidates] == [
        (0, "", 0.9375, 0.25, True), (1, "stem", 0.875, None, True),
    ]  # fmt: skip


def test_keys_are_what_they_were(artefact: Store) -> None:
    """A key that changed would make every finished candidate unfindable."""
    found = artefact.packages.get("trains")
    assert (found.key, found.base) == ("cfd1a88c5b46fa0987630130fc610b25", "f8b512da99f1de3eb30d8f13295e1cb2")
    assert [c.key for c in found.candidates] == ["ad06e4c5b4e715b9a973cc1f71896497", "51aefb2b42ed9b774ab8f1e0ec6c9ba3"]


def test_the_weights(artefact: Store) -> None:
    packages = artefact.packages
    found = packages.get("trains")
    assert load(packages.bases.weights(found.base))["stem.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    first, second = (load(packages.weights(c)) for c in found.candidates)
    assert (first["stem.weight"].dtype, first["head.weight"].tolist()) == (np.float16, [[0.5, 0.5], [0.5, 0.5]])
    assert {name: value.tolist() for name, value in second.items()} == {"head.weight": [[1.5, 1.5], [1.5, 1.5]]}
