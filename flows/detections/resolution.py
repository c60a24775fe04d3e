"""Input resolution: the smallest frames on which a student still agrees with its teacher.

What: `smallest_frames` has the student look at the frames at full size, then smaller and smaller, until its mean
precision loss against the teacher's stored boxes exceeds that at full size by more than a bound.
How: each scale is a pass of its own (`DetectConfig.scale`), kept like any other: a killed search resumes, and one with
more scales looks at those alone. Losses are not standardized, so they can be compared.
Cost: a pass of the student for each scale that is tried; the teacher is asked for nothing.
Source: `tamis.curation.culling.resolution`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tamis.curation.culling.resolution import smallest_scale
from tamis.flows.configs import DetectConfig
from tamis.store import Store
from tamis.training.signals.culling import CullingConfig, culling_columns

SCALES = (1.0, 0.75, 0.5, 0.35, 0.25)


class ResolutionConfig(BaseModel):
    """What is searched, and how far.

    Attributes:
        student: the detector, and the frames that it looks at; its scale is what is searched.
        teacher: key of the run with the teacher's boxes of these frames.
        scales: that are tried, the largest first; 1 is always among them.
        bound: how much more than at full size the mean precision loss may be.
        culling: which boxes count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    student: DetectConfig
    teacher: str
    scales: tuple[float, ...] = SCALES
    bound: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    culling: CullingConfig = CullingConfig()


def smallest_frames(
    store: Store, config: ResolutionConfig, look: Callable[[DetectConfig], dict[str, Any]]
) -> dict[str, Any]:
    """Search the smallest scale that will do.

    Args:
        store: the store.
        config: what is searched.
        look: runs the flow `detect`.

    Returns:
        `scale`, and of each scale that was tried, the largest first, `tried`: scale, mean loss, excess over full size,
        ms a frame and the run.

    Raises:
        CurationError: scales or boxes that do not go together, or no frame that both have looked at.
        RunNotFound: no such run with boxes.
    """
    dataset = store.datasets.get(config.student.dataset)
    teacher = store.runs.get(config.teacher)
    truth = store.runs.boxes(teacher.key, dataset)
    asked = config.culling.model_copy(update={"standardize": False})
    runs: dict[float, dict[str, Any]] = {}

    def losses_at(scale: float) -> NDArray[np.float64]:
        runs[scale] = look(config.student.model_copy(update={"scale": scale}))
        seen = store.runs.boxes(runs[scale]["run"], dataset)
        return culling_columns(seen, truth, asked)["precision_loss"]

    found = smallest_scale(_with_full(config.scales), losses_at, bound=config.bound)
    full = found.losses[max(found.losses)]
    tried = [
        {"scale": scale, "loss": loss, "excess": loss - full, "ms": run["metrics"]["ms"], "run": run["run"]}
        for (scale, loss), run in zip(found.losses.items(), runs.values(), strict=True)
    ]
    return {"scale": found.scale, "bound": config.bound, "frames": found.frames, "teacher": teacher.key, "tried": tried}


def _with_full(scales: Sequence[float]) -> tuple[float, ...]:
    return tuple(scales) if 1.0 in scales else (1.0, *scales)
