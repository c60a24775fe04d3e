"""tamis.training: models, the loop that trains them from chosen samples, and the signals they give.

Names are loaded when they are first used, so `import tamis.training` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tamis.training.job import TrainConfig as TrainConfig
    from tamis.training.job import TrainResult as TrainResult
    from tamis.training.job import train as train
    from tamis.training.models.registry import build_model as build_model
    from tamis.training.recorder import LossRecorder as LossRecorder
    from tamis.training.signals.gradients import last_layer as last_layer
    from tamis.training.signals.gradients import per_sample_gradients as per_sample_gradients
    from tamis.training.signals.outputs import load_model as load_model
    from tamis.training.signals.outputs import predict as predict
    from tamis.training.signals.outputs import score_shard as score_shard
    from tamis.training.signals.scorers import Scorer as Scorer
    from tamis.training.streaming.stream import SelectionStream as SelectionStream
    from tamis.training.tasks.evaluation import evaluate as evaluate

_WHERE = {
    "LossRecorder": "recorder",
    "Scorer": "signals.scorers",
    "SelectionStream": "streaming.stream",
    "TrainConfig": "job",
    "TrainResult": "job",
    "build_model": "models.registry",
    "evaluate": "tasks.evaluation",
    "last_layer": "signals.gradients",
    "load_model": "signals.outputs",
    "per_sample_gradients": "signals.gradients",
    "predict": "signals.outputs",
    "score_shard": "signals.outputs",
    "train": "job",
}

__all__ = [  # the keys of _WHERE; type checkers want them written out
    "LossRecorder",
    "Scorer",
    "SelectionStream",
    "TrainConfig",
    "TrainResult",
    "build_model",
    "evaluate",
    "last_layer",
    "load_model",
    "per_sample_gradients",
    "predict",
    "score_shard",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"tamis.training has no {name!r}; it has: {', '.join(__all__)}.")
    return getattr(import_module(f"tamis.training.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
