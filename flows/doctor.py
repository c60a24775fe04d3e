"""What tamis finds on this machine and in a store; what it cannot look at is a problem.

Looks, and changes nothing, but for a file of no bytes that it writes to the store and removes again: whether a store
can be written is known by no other means (`tamis.flows.service.machine`).
"""

import os
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

from tamis.flows.failures import explained
from tamis.flows.server.settings import check_server, server_url, shown
from tamis.flows.service import machine
from tamis.store import Store

_PACKAGES = ("tamis", "torch", "torchvision", "pyarrow", "duckdb", "deltalake", "obstore", "webdataset", "prefect")


def examine(where: str | None) -> dict[str, Any]:
    """Versions, devices, Prefect, the store; `problems` lists what needs mending.

    Args:
        where: a store's root, or None.
    """
    found: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    found |= {name: _version(name) for name in _PACKAGES}
    problems = [f"{name} is not installed" for name in _PACKAGES if found[name] is None]
    looks: list[Callable[[dict[str, Any], list[str]], None]] = [
        machine.versions, _device, machine.limits, _server, machine.service,
    ]  # fmt: skip
    if where is not None:
        found["store"] = where
        looks.append(_store)
    for look in looks:
        _try(look, found, problems)
    return found | {"problems": list(dict.fromkeys(problems))}


def _try(look: Callable[[dict[str, Any], list[str]], None], found: dict[str, Any], problems: list[str]) -> None:
    try:
        look(found, problems)
    except Exception as error:  # noqa: BLE001 - whatever cannot be looked at is what was asked for
        problems.append(explained(error))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(found: dict[str, Any], _: list[str]) -> None:
    found["device"] = None
    import torch

    cuda = torch.cuda.is_available()
    found["device"] = torch.cuda.get_device_name() if cuda else f"cpu ({torch.get_num_threads()} threads)"


def _server(found: dict[str, Any], problems: list[str]) -> None:
    found["prefect server"] = "none: flows run in the process"
    url = server_url()
    if url is not None:
        found["prefect server"] = shown(url)
        check_server(url)
        _same_version(url, found, problems)


def _same_version(url: str, found: dict[str, Any], problems: list[str]) -> None:
    """Whether the server is of the Prefect that is installed here: an older one may not take what this one sends."""
    import httpx

    answer = httpx.get(f"{url.rstrip('/')}/admin/version", timeout=5, follow_redirects=True)
    if answer.status_code != 200:
        return  # Prefect Cloud has its own
    theirs, ours = str(answer.json()), found["prefect"]
    found["prefect server"] = f"{shown(url)} ({theirs})"
    if ours is not None and theirs.split(".")[:2] != ours.split(".")[:2]:
        problems.append(f"the Prefect server is {theirs}, and {ours} is installed here: upgrade the older one")


def _store(found: dict[str, Any], problems: list[str]) -> None:
    """What is in the store, and whether its shards are where they were."""
    store = Store.open(found["store"])
    found["store"] = store.root.url
    if store.root.path is not None:
        machine.room(found, problems, "store", str(store.root.path))
    machine.writable(store, found, problems)
    _try(lambda found, _: found.update({"table versions": store.tables.versions()}), found, problems)
    for name in ("datasets", "runs", "selections"):
        _try(lambda found, _, name=name: found.update({name: _count(store, name)}), found, problems)
    missing: set[str] = set()
    for row in store.datasets.all():
        ref = f"{row['dataset']}@{row['version']}"
        _try(lambda _, __, ref=ref: missing.update(_missing(store, ref)), found, problems)
    problems += sorted(missing)


def _count(store: Store, table: str) -> int:
    return store.query(f"select count(*) as n from {table}").to_pylist()[0]["n"]


def _missing(store: Store, ref: str) -> list[str]:
    return [f"{ref}: shard {shard.uri} is missing" for shard in store.datasets.get(ref).shards if not shard.is_there()]
