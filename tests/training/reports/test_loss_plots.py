"""Drawings of loss history: what they show is what the store says, and the same numbers give the same file."""

from pathlib import Path

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.errors import RunNotFound
from tamis.training.errors import ReportError
from tamis.training.reports.losses import KINDS, draw_losses

pytest.importorskip("matplotlib")


@pytest.fixture
def lost(store: Store) -> Store:
    """Three epochs of ten samples, of which half are chosen in the last two."""
    store.runs.begin(kind="train", key="mine", dataset="made@1", model="linear")
    everyone = np.arange(10)
    for epoch in range(3):
        more = {"probability": everyone / 10, "selected": everyone >= 5} if epoch else {}
        store.runs.put_losses("mine", epoch, everyone, everyone / (epoch + 1), epoch, correct=everyone < 6, **more)
    store.runs.begin(kind="train", key="plain", dataset="made@1")
    store.runs.put_losses("plain", 0, [0], [np.nan], 0)
    return store


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_twice_the_same(lost: Store, tmp_path: Path, kind: str) -> None:
    first, second = (draw_losses(lost, "mine", kind, str(tmp_path / name)) for name in ("a.svg", "b.svg"))
    assert first.read_bytes() == second.read_bytes()
    drawn = first.read_text()
    assert "linear on made@1" in drawn
    words = {"bands": "90% of the samples", "probability": "probability of the chosen", "datamap": "mean confidence"}
    assert words[kind] in drawn
    assert draw_losses(lost, "mine", kind, str(tmp_path / "a.png")).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_draw(lost: Store, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ReportError, match="Run plain "):
        draw_losses(lost, "plain", kind, str(tmp_path / "a.svg"))
    assert list(tmp_path.glob("*.svg")) == []


def test_what_is_refused(lost: Store, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"ends in \.png or \.svg"):
        draw_losses(lost, "mine", "bands", str(tmp_path / "a.pdf"))
    with pytest.raises(ReportError, match="'pie' is no kind of drawing: expected bands, probability, datamap"):
        draw_losses(lost, "mine", "pie", str(tmp_path / "a.svg"))
    with pytest.raises(RunNotFound):
        draw_losses(lost, "none", "bands", str(tmp_path / "a.svg"))
