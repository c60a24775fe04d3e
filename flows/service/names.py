"""What a config names has to be there before anything is scheduled: datasets, selections, runs, models, methods.

The config's own fields tell: by their names, wherever they stand in it. What other deployments of the same service make
counts as there.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tamis.curation.errors import CurationError
from tamis.store import Store
from tamis.store.errors import TamisError

_DATASETS = ("dataset", "evaluate_on", "select_on", "target")
_RUNS = ("run", "runs", "base_run", "init_from", "truth", "features", "scores")
_MAKERS = {"index": "name"}  # flows that make datasets: the field that names it
_CHOOSERS = ("select", "cull", "match", "renew")  # flows that make selections: all names in their configs
_TEACHER = "teacher"  # whose boxes are to come: in the truth of a culling's student


@dataclass(frozen=True)
class Promised:
    """What the deployments of a service will make.

    Attributes:
        datasets: their names.
        selections: their names, as far as configs give them.
    """

    datasets: frozenset[str] = frozenset()
    selections: frozenset[str] = frozenset()

    @classmethod
    def of(cls, configs: list[tuple[str, BaseModel]]) -> "Promised":
        """By each deployment's flow and config."""
        made = {getattr(config, _MAKERS[flow]) for flow, config in configs if flow in _MAKERS}
        fields = [field for flow, config in configs if flow in _CHOOSERS for field in _walk(config)]
        chosen = {value for path, _, value in fields if path.split(".")[-1] == "name"}
        return cls(frozenset(made), frozenset(chosen))


def unknown(store: Store, flow: str, config: BaseModel, promised: Promised) -> list[str]:
    """What a config names and is not there: `field: why`, for each."""
    looks = _looks(store, promised)
    own = _MAKERS.get(flow)
    faults: list[str] = []
    for path, owner, value in _walk(config):
        field = path.split(".")[-1]
        if path == own:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            fault = _fault(looks, owner, field, one)
            if fault is not None:
                faults.append(f"{path}: {fault}")
    return faults


def _fault(looks: Mapping[str, Callable[[str], Any]], owner: BaseModel, field: str, value: Any) -> str | None:
    look = looks.get(field)
    if not isinstance(value, str):
        return None
    if field == "model":
        look = looks["run"] if type(owner).__name__ in ("DetectConfig", "Watcher") and ":" not in value else _model
    if look is None:
        return None
    try:
        look(value)
    except (TamisError, CurationError) as error:
        return str(error)
    return None


def _looks(store: Store, promised: Promised) -> dict[str, Callable[[str], Any]]:
    def dataset(ref: str) -> Any:
        return ref in promised.datasets or store.datasets.get(ref)

    def selection(ref: str) -> Any:
        return ref in promised.selections or store.selections.get(ref)

    def run(key: str) -> Any:
        return key == _TEACHER or store.runs.get(key)

    found: dict[str, Callable[[str], Any]] = {
        "selection": selection,
        "method": _method,
        "scorer": _scorer,
        "scorers": _scorer,
    }
    for name in _DATASETS:
        found[name] = dataset
    for name in _RUNS:
        found[name] = run
    return found


def _model(name: str) -> None:
    from tamis.training.models.registry import check_model

    check_model(name)


def _method(name: str) -> None:
    from tamis.training.selecting.own import find_method

    find_method(name)


def _scorer(name: str) -> None:
    from tamis.training.signals.own import find_scorer

    find_scorer(name)


def _walk(config: BaseModel, above: str = "") -> Generator[tuple[str, BaseModel, Any]]:
    """Every field that holds text: its path, the model that it stands in, and what it holds."""
    for name in type(config).model_fields:
        value, path = getattr(config, name), f"{above}{name}"
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{path}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, one in enumerate(value):
                yield from _walk(one, f"{path}.{number}.")
        elif isinstance(value, str | tuple):
            yield path, config, value
