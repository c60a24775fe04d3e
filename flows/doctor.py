"""What tamis finds on this machine and in a store. Looks, and changes nothing; what it cannot look at is a problem."""

import os
import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from typing import Any

from tamis.flows.failures import explained
from tamis.flows.server.settings import check_server, server_url, shown
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
    looks: list[Callable[[dict[str, Any], list[str]], None]] = [_device, _server]
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


def _server(found: dict[str, Any], _: list[str]) -> None:
    found["prefect server"] = "none: flows run in the process"
    url = server_url()
    if url is not None:
        found["prefect server"] = shown(url)
        check_server(url)


def _store(found: dict[str, Any], problems: list[str]) -> None:
    """What is in the store, and whether its shards are where they were."""
    store = Store.open(found["store"])
    found["store"] = store.root.url
    if store.root.path is not None:
        found["access"] = "read and write" if os.access(store.root.path, os.W_OK | os.X_OK) else "read only"
        found["free space"] = f"{shutil.disk_usage(store.root.path).free / 1e9:.1f} GB"
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
