"""Detections: which runs have boxes, and the frames of one with its boxes, and another run's, on them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tamis.flows.web.asked import Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.errors import BadQuestion
from tamis.flows.web.site import Site
from tamis.flows.web.views.images import cells
from tamis.store.boxes import ANNOTATIONS, DETECT
from tamis.store.datasets import Dataset
from tamis.store.run import Run

Row = dict[str, Any]
LISTED, FRAMES, BOXES = 50, 12, 300  # runs a page, frames a page, boxes drawn on a frame

_LIST = paged(
    f"""select run, kind, dataset, model, status, updated, (metrics->>'frames')::bigint as frames,
               (metrics->>'boxes')::bigint as boxes, (metrics->>'failed')::bigint as failed,
               (metrics->>'ms')::double as ms
        from runs where kind in ('{DETECT}', '{ANNOTATIONS}')
          and contains(lower(concat_ws(' ', run, dataset, model)), lower($q))""",
    "updated desc, run",
)
_ORDERS = {"sample": "sample", "most boxes": "boxes desc, sample", "failed first": "status = 'ok', sample"}
_FRAMES = "select sample, status, boxes, width, height, error from detections where run = $run"
_BOXES = """
    select sample, class, score, x1, y1, x2, y2 from boxes where run = $run and sample in ({}) and score >= $least
    qualify row_number() over (partition by sample order by score desc) <= {}
    order by sample, score desc"""
_RIVALS = f"""
    select run, model from runs where kind in ('{DETECT}', '{ANNOTATIONS}') and status = 'finished'
      and dataset = $dataset and run != $run order by updated desc limit 12"""


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Runs that have boxes, the newest first."""
    q = query.text("q")
    page, rows = page_of(answer(site.store, _LIST, {"q": q} | span(query, LISTED)), query, LISTED)
    return {"q": q, "page": page.row(), "runs": rows}


def one(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """A page of a run's frames, with boxes of at least a score; those of a second run beside them."""
    run = site.store.runs.get(path["key"])
    if run.kind not in (DETECT, ANNOTATIONS):
        raise BadQuestion(f"Run {run.key[:12]} is a {run.kind} run: boxes are those of tamis score boxes.")
    least, order = query.share("least", 0.5), query.choice("order", [*_ORDERS])
    dataset = site.dataset(run.dataset)
    rows = answer(site.store, paged(_FRAMES, _ORDERS[order]), {"run": run.key} | span(query, FRAMES))
    page, shown = page_of(rows, query, FRAMES)
    rivals = answer(site.store, _RIVALS, {"dataset": run.dataset, "run": run.key})
    other = query.choice("other", ["", *(row["run"] for row in rivals)])
    return _facts(run) | {
        "least": least, "order": order, "orders": [*_ORDERS], "page": page.row(), "rivals": rivals, "other": other,
        "frames": _frames(site, dataset, shown, run.key, other, least),
    }  # fmt: skip


def _facts(run: Run) -> Row:
    metrics = {n: v for n, v in run.metrics.items() if not isinstance(v, list | dict)}
    return {"key": run.key, "kind": run.kind, "dataset": run.dataset, "model": run.model, "metrics": metrics}


def _frames(
    site: Site, dataset: Dataset, shown: Sequence[Row], run: str, other: str, least: float
) -> list[Row]:  # fmt: skip
    samples = [row["sample"] for row in shown]
    found = [boxes(site, key, samples, least) if key else {} for key in (run, other)]
    frames: list[Row] = []
    for row, cell in zip(shown, cells(site, dataset, samples), strict=True):
        mine, theirs = (each.get(row["sample"], []) for each in found)
        width, height = row["width"], row["height"]
        if not width or not height:
            place = site.thumbnails.places(dataset, [row["sample"]])[0]
            picture = site.thumbnails.image(dataset, place, 384)
            width, height = picture.width, picture.height
        frames.append(cell | row | {"width": width, "height": height, "mine": mine, "theirs": theirs})
    return frames


def boxes(site: Site, run: str, samples: Sequence[int], least: float) -> dict[int, list[Row]]:
    """The boxes of some samples: class, score, x1, y1, x2, y2, the surest first."""
    if not samples:
        return {}
    numbers = ", ".join(map(str, map(int, samples)))
    rows = answer(site.store, _BOXES.format(numbers, BOXES), {"run": run, "least": least}, rows=BOXES * len(samples))
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.pop("sample"), []).append(row)
    return found
