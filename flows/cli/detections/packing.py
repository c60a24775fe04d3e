"""`tamis dataset pack` of a folder of COCO or VOC."""

from pathlib import Path

from tamis.flows.cli.common import App
from tamis.flows.cli.dataset import show_dataset


def pack_boxes(app: App, name: str, source: str, target: Path, per_shard: int) -> None:
    """Pack a folder's images, and keep its boxes as a run."""
    from tamis.store.detections.folders import find_annotated, pack_annotated

    found = find_annotated(source)
    dataset, run = pack_annotated(app.open(), name, found, target, per_shard=per_shard)
    left = {what: run.metrics[what] for what in ("nonfinite", "outside", "unknown") if run.metrics[what]}
    show_dataset(app, dataset, found.skipped, boxes=run.metrics["boxes"], annotations=run.key, left_out=left)
