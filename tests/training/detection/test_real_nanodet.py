"""The example's NanoDet on frames of a real video: it finds persons, whatever the batch."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.datasets.packing import pack_samples
from tamis.training.detection.detecting import Cost, Question, compute, finish
from tamis.training.detection.detector import find_detector

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.real
def test_nanodet_finds_persons(
    store: Store, tmp_path: Path, real: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    av = pytest.importorskip("av")
    video, model = next(real("vtest").rglob("*.avi")), next(real("nanodet").rglob("nanodet.pt"))
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "nanodet", raising=False)
    names = model.with_name("classes.txt").read_text().split("\n")
    members: list[tuple[str, dict[str, bytes]]] = []
    with av.open(str(video)) as opened:
        for number, frame in enumerate(opened.decode(video=0)):
            if number % 40 == 0:
                file = io.BytesIO()
                frame.to_image().save(file, "JPEG", quality=95)
                members.append((f"{number:05d}", {"jpg": file.getvalue()}))
            if len(members) == 8:
                break
    dataset = store.datasets.add("vtest", pack_samples(members, tmp_path / "vtest"), label=None)
    classes = tuple(name for name in names if name)
    scores: list[np.ndarray] = []
    for size in (1, 3, 8):
        for name, _ in store.root.list("parts"):
            store.root.delete(name)
        detector = find_detector(store, "nanodet:detector", weights=str(model), classes=(*classes, f"none of {size}"))
        asked = Question(store, dataset, detector)
        compute(asked, [0], device="cpu", batch_size=size)
        run = finish(asked, detector.classes, Cost(8, 0), device="cpu")
        found = store.runs.boxes(run.key, dataset)
        persons = found.labels_B == classes.index("person")
        assert all(persons[found.frame(i)].sum() >= 3 for i in range(8))
        assert (run.metrics["failed"], run.metrics["frames"]) == (0, 8)
        scores.append(found.scores_B)
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)
    assert scores[2] == pytest.approx(scores[0], abs=1e-4)
    assert max(scores[0]) > 0.6
