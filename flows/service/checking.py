"""Reads the file of a service and checks the whole of it, before anything is scheduled; all faults are told at once."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tamis.flows.configs import Resources
from tamis.flows.errors import ServiceFileError
from tamis.flows.service.example import missing
from tamis.flows.service.file import NAME, WHEN, DeploymentTable, MetricsTable, ServerTable, ServiceTable, seconds
from tamis.flows.service.names import Promised, unknown
from tamis.flows.work import FLOWS
from tamis.store import Store
from tamis.store.advice import did_you_mean
from tamis.store.errors import TamisError

_PLAIN = {  # what pydantic says otherwise, in the words of TOML
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "string_type": "expected a text in quotes",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
}


@dataclass(frozen=True)
class Deployment:
    """A flow, its config and its schedule, checked.

    Attributes:
        name: of the deployment.
        table: what the file says.
        parameters: of the flow, as plain JSON.
    """

    name: str
    table: DeploymentTable
    parameters: Mapping[str, Any]

    @property
    def full_name(self) -> str:
        """As a server shows it."""
        return f"{self.table.flow}/{self.name}"

    @property
    def interval(self) -> int | None:
        """Seconds from one run to the next, where it is no cron schedule."""
        return None if self.table.interval is None else seconds(self.table.interval)

    @property
    def when(self) -> str:
        """The schedule, for people."""
        return self.table.cron or f"every {self.table.interval}"

    @property
    def digest(self) -> str:
        """Of everything that a server is told of it: two services of one name have the same, or are refused."""
        said = self.table.model_dump(mode="json", exclude={"config", "resources", "on_failure"})
        text = json.dumps(said | {"parameters": self.parameters}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Service:
    """A checked file.

    Attributes:
        file: its path.
        store: the store's root.
        server, metrics: as the file says.
        deployments: in its order.
    """

    file: Path
    store: str
    server: ServerTable
    metrics: MetricsTable
    deployments: tuple[Deployment, ...]


@dataclass
class _Found:
    """What a file says, and what is wrong with it."""

    faults: list[str] = field(default_factory=list)
    checked: dict[str, tuple[DeploymentTable, BaseModel, Resources]] = field(default_factory=dict)
    configs: list[tuple[str, str, BaseModel]] = field(default_factory=list)  # of deployments, right or not


def read_tables(path: Path) -> dict[str, Any]:
    """A file's tables as they stand.

    Raises:
        ServiceFileError: it is missing, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ServiceFileError(missing(str(path))) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServiceFileError(f"{path} is no TOML: {error}. Correct it, and check it with --dry-run.") from error
    except IsADirectoryError as error:
        raise ServiceFileError(f"{path} is a folder: give the file that says what runs, such as tamis.toml.") from error


def check(path: Path, where: str | None = None) -> Service:
    """Read a file and check everything that it says.

    Args:
        path: of the file.
        where: a store's root, which goes before that of the file.

    Raises:
        ServiceFileError: it is missing, or something in it is wrong: the message says everything that is.
    """
    raw, found = read_tables(path), _Found()
    head = _head(raw, found)
    for name, given in _tables(raw).items():
        _deployment(name, given, found)
    store = _store(where or _text(raw, "store"), found)
    if store is not None:
        promised = Promised.of([(flow, config) for _, flow, config in found.configs])
        for name, flow, config in found.configs:
            found.faults += [f"deployments.{name}.config.{why}" for why in unknown(store, flow, config, promised)]
    if found.faults or head is None or store is None:
        many = "a fault" if len(found.faults) == 1 else f"{len(found.faults)} faults"
        lines = "\n".join(f"  {fault}" for fault in found.faults)
        raise ServiceFileError(f"{path} has {many}; nothing was scheduled:\n{lines}")
    made = tuple(_checked(name, store.root.url, *parts) for name, parts in found.checked.items())
    return Service(path.resolve(), store.root.url, head.server, head.metrics, made)


def _checked(name: str, store: str, table: DeploymentTable, config: BaseModel, limits: Resources) -> Deployment:
    parameters: dict[str, Any] = {"store": store, "config": config.model_dump(mode="json")}
    if FLOWS[table.flow].resources:
        parameters["resources"] = limits.model_dump(mode="json")
    return Deployment(name, table, parameters)


def _head(raw: Mapping[str, Any], found: _Found) -> ServiceTable | None:
    try:
        return ServiceTable.model_validate(raw)
    except ValidationError as error:
        found.faults += _told(error, "", tuple(ServiceTable.model_fields))
        return None


def _deployment(name: str, given: Any, found: _Found) -> None:
    """Check one deployment: its own fields, its flow, and the flow's config, whatever of the others is wrong."""
    at = f"deployments.{name}"
    if not NAME.fullmatch(name):
        found.faults.append(f"{at}: a name has up to 64 letters, digits, dots, dashes and underscores; rename it")
    table = _valid(DeploymentTable, given, at, found)
    tables: Mapping[str, Any] = given if isinstance(given, dict) else {}
    if table is None and tables and ("cron" in tables) == ("interval" in tables):
        found.faults.append(f"{at}: {WHEN}")  # its own look at the whole comes after one at its fields
    named = _text(tables, "flow")
    if named is None:
        return
    flow = FLOWS.get(named)
    if flow is None:
        near = did_you_mean(named, FLOWS)
        found.faults.append(f"{at}.flow: there is no flow {named!r}, only {', '.join(FLOWS)}.{near}")
        return
    said = tables.get("config")
    config = _valid(flow.config, said, f"{at}.config", found) if isinstance(said, dict) else None
    known = config or _known(flow.config, said)
    limits = _valid(Resources, tables.get("resources", {}), f"{at}.resources", found)
    if tables.get("resources") and not flow.resources:
        takers = ", ".join(other.name for other in FLOWS.values() if other.resources)
        found.faults.append(f"{at}.resources: the flow {named} takes none: leave them out. Flows that do: {takers}")
    if known is not None:
        found.configs.append((name, named, known))
    if table is not None and config is not None and limits is not None:
        found.checked[name] = (table, config, limits)


def _valid(kind: type[Any], given: Any, at: str, found: _Found) -> Any:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        found.faults += _told(error, f"{at}.", tuple(kind.model_fields))
    except TamisError as error:  # of a validator of the flow's own
        found.faults.append(f"{at}: {error}")
    return None


def _known(kind: type[BaseModel], given: Any) -> BaseModel | None:
    """A config without the fields that it does not have: what the others name is checked all the same."""
    try:
        return kind.model_validate({key: value for key, value in given.items() if key in kind.model_fields})
    except (ValidationError, TamisError, AttributeError):  # wrong beyond that, or no table
        return None


def _told(error: ValidationError, at: str, fields: tuple[str, ...]) -> list[str]:
    """A fault a field, with what was meant where a name is close to one that there is."""
    told: list[str] = []
    for one in error.errors():
        where, why = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            near = did_you_mean(str(one["loc"][-1]), fields) if len(one["loc"]) == 1 else ""
            told.append(f"{at}{where}: there is no such field: leave it out, or correct the name.{near}")
        elif one["type"] == "missing":
            told.append(f"{at}{where}: missing")
        else:
            shown = "" if isinstance(one["input"], dict) else f" (given: {one['input']!r})"
            told.append(f"{at}{where}: {_PLAIN.get(one['type'], why)}{shown}".replace(".: ", ": "))
    return list(dict.fromkeys(told))


def _store(where: str | None, found: _Found) -> Store | None:
    if where is None:
        if not any(fault.startswith("store: ") for fault in found.faults):
            found.faults.append('store: missing: add store = "FOLDER" to the file, or give --store or TAMIS_STORE')
        return None
    try:
        return Store.open(where)
    except (TamisError, OSError) as error:
        found.faults.append(f"store: {error}")
        return None


def _tables(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = raw.get("deployments")
    return found if isinstance(found, dict) else {}


def _text(tables: Mapping[str, Any], name: str) -> str | None:
    value = tables.get(name)
    return value if isinstance(value, str) else None
