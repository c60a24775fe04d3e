"""What a training configuration means: its names resolved to contents, and the key of the answer.

The key covers the configuration with all its defaults, those of its strategy too, the contents that its names stand
for, a file of weights by its digest, and the source file of a user's own model; never device or paths. What that source
file imports in turn is not covered.
A run that a clock may stop (`stop_after`) is keyed by its seconds, and its answer is the first one that was given, on
whatever machine.
Cost: reads the heads of the named datasets and of the selection; torch is not loaded.
"""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound, SelectionError
from tamis.store.keys import key_of, split_ref
from tamis.training import border
from tamis.training.config import Plan, TrainConfig
from tamis.training.decoding.pixels import decoder_key
from tamis.training.errors import CheckpointError, StrategyError
from tamis.training.models.own import source
from tamis.training.strategies import strategy_of
from tamis.training.tasks import CLASSIFICATION, get_task

VERSION = 1  # of what training computes: raise it when the same configuration comes to give other weights
# Fields that were not there when the first keys were made: they enter the key where they differ from their default.
_LATER = frozenset(
    {
        "task", "strategy", "rate_by", "milestones", "cutout", "stop_after", "keep_model", "select_on", "init_from",
        "span", "truth", "truth_score", "box_weight", "distill", "weights",
    }
)  # fmt: skip
# What measures, names and looks does not decide what is chosen, and has no part in the key of a selection.
_APART = frozenset(
    {
        "dataset", "selection", "reselect", "strategy", "evaluate_on", "evaluate_every", "record_losses",
        "evaluate_decoder", "keep_model", "select_on", "select_decoder", "judged_by",
    }
)  # fmt: skip


def plan(store: Store, config: TrainConfig) -> Plan:
    """Resolve names to contents, and compute the key.

    Raises:
        DatasetNotFound, SelectionNotFound: naming what there is.
        SelectionError: the selection is of another dataset.
        StrategyError: the strategy is unknown, or has no such parameter.
    """
    border.check_kind("store", store, Store)
    border.check_kind("config", config, TrainConfig)
    selection = None if config.selection is None else store.selections.get(config.selection)
    dataset = store.datasets.get(config.dataset if selection is None else selection.dataset)
    if split_ref(config.dataset)[0] != dataset.name:
        raise SelectionError(
            f"Selection {config.selection} is of {dataset.ref}, not of {config.dataset}: train on the dataset that it "
            "was made from, or select from the other one."
        )
    config, file = _from_file(_resolved(store, config, dataset))
    judged = None if config.evaluate_on is None else store.datasets.get(config.evaluate_on)
    chooser = None if config.select_on is None else store.datasets.get(config.select_on)
    matched = None if config.reselect is None else config.reselect.target
    target = None if matched is None else store.datasets.get(matched)
    payload: dict[str, Any] = {k: v for k, v in config.model_dump(mode="json").items() if not _is_later(k, v)}
    if config.task != CLASSIFICATION.name:
        payload["task_version"] = get_task(config.task).version
    if config.distill is not None:
        payload["distill"] |= {"run": _weights(store, config.distill.run)}
        if not config.distill.cached:
            del payload["distill"]["cached"]  # it came later
    if config.truth is not None:
        payload |= _truths(store, config.truth, dataset)
    init = None if config.init_from is None else _weights(store, config.init_from)
    if init is not None:
        payload["init_from"] = init
    payload |= {
        "version": VERSION,
        "dataset": dataset.key,
        "selection": None if selection is None else selection.key,
        "evaluate_on": None if judged is None else judged.key,
        "code": model_code(config.model),
        **decoder_key(*((one.image, config.image_size) for one in (dataset, target) if one is not None)),
    }
    if chooser is not None:
        payload["select_on"] = chooser.key
    for use, one in (("evaluate", judged), ("select", chooser)):
        if one is not None:
            payload |= {f"{use}_{k}": v for k, v in decoder_key((one.image, config.image_size)).items()}
    strategy = strategy_of(dict(config))
    if config.strategy is not None:
        payload["strategy_version"] = strategy.version
    training = {name: value for name, value in payload.items() if name not in _APART}
    drafted = strategy.drafted(store, config, dataset, training)
    return Plan(config, dataset, selection, judged, key_of("train", payload), drafted, chooser, init, file)


def _resolved(store: Store, config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """The parameters of a strategy in full, and what they name as contents."""
    if config.strategy is None:
        return config
    strategy = strategy_of(dict(config))
    assert strategy.Parameters is not None
    try:
        asked = strategy.Parameters.model_validate(config.strategy.model_dump())
    except ValidationError as error:
        known = ", ".join(name for name in strategy.Parameters.model_fields if name != "name")
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors())
        raise StrategyError(f"Strategy {strategy.name}: {faults}. Its parameters are: {known}.") from error
    return config.model_copy(update={"strategy": strategy.resolved(store, dataset, asked)})


def _from_file(config: TrainConfig) -> tuple[TrainConfig, Path | None]:
    """The file of weights by its digest, which is what keys and runs know of it, and where it is."""
    if config.weights is None or config.weights.startswith("sha256:"):
        return config, None
    path = Path(config.weights).expanduser()
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"The weights {path} cannot be read ({error.strerror}): give a file that is here. A run that began with it "
            'goes on without it when asked for with "sha256:" and the digest that it names as weights.'
        ) from error
    return config.model_copy(update={"weights": f"sha256:{digest}"}), path


def _truths(store: Store, refs: tuple[str, ...], dataset: Dataset) -> dict[str, list[str]]:
    """The keys of the runs whose boxes are learnt, and of those that are judged by."""
    runs = [store.runs.get(ref) for ref in refs]
    learnt = [run.key for run in runs if run.dataset == dataset.ref]
    return {"truth": learnt, "judged_by": sorted(run.key for run in runs if run.dataset != dataset.ref)}


def _weights(store: Store, ref: str) -> str:
    """The digest of the model of a finished training run."""
    run = store.runs.get(ref)
    if run.kind != "train" or run.blob is None:
        raise RunNotFound(
            f"Run {run.key[:12]} is no finished training run, so it has no weights to begin with: give the key of one "
            "(tamis run ls --kind train)."
        )
    return run.blob


def _is_later(name: str, value: Any) -> bool:
    """Whether a field was not there when the first keys were made, and says what was computed then."""
    return name in _LATER and value == TrainConfig.model_fields[name].default


def model_code(name: str) -> str | None:
    """sha256 of the source file of a user's own model ("module:function"); None for models that come with tamis.

    The file is found without running it. A module that cannot be found is refused later, by `build_model`.
    """
    found = source(name) if ":" in name else None
    return None if found is None else hashlib.sha256(found.read_bytes()).hexdigest()
