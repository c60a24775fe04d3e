"""Dataset Culling: the frames of a camera that a small detector learns from, found by its own boxes and a teacher's.

Stage one looks at the student alone (`confidence`, `entropy`), stage two compares it with a teacher (`matching`,
`precision`); for classification `probabilities` has both. `duplicates` thins out frames that repeat each other,
`resolution` finds the smallest images that will do. `method`, `intermittent` and `semdedup` are methods of choosing.
"""

from tamis.curation.culling.confidence import confidence_losses
from tamis.curation.culling.detections import Detections
from tamis.curation.culling.entropy import box_entropies
from tamis.curation.culling.floors import PRESETS, Floors
from tamis.curation.culling.precision import Agreement, agreement

__all__ = ["PRESETS", "Agreement", "Detections", "Floors", "agreement", "box_entropies", "confidence_losses"]
