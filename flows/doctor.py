"""What tamis finds on this machine and in a store. Looks, and changes nothing."""

import os
import platform
import shutil
from importlib import metadata
from typing import Any

from tamis.flows.settings import has_server
from tamis.store import Store
from tamis.store.errors import TamisError

_PACKAGES = ("tamis", "torch", "torchvision", "pyarrow", "duckdb", "deltalake", "obstore", "webdataset", "prefect")


def examine(where: str | None) -> dict[str, Any]:
    """Versions, devices, Prefect, the store; `problems` lists what needs mending.

    Args:
        where: a store's root, or None.
    """
    found: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
    found |= {name: _version(name) for name in _PACKAGES}
    found["device"] = _device()
    found["prefect server"] = os.environ.get("PREFECT_API_URL", "configured" if has_server() else "temporary")
    problems = [f"{name} is not installed" for name in _PACKAGES if found[name] is None]
    if where is not None:
        store, trouble = _store(where)
        found |= store
        problems += trouble
    return found | {"problems": problems}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({torch.get_num_threads()} threads)"


def _store(where: str) -> tuple[dict[str, Any], list[str]]:
    try:
        store = Store.open(where)
        versions = store.tables.versions()
        counts = store.query(
            """select (select count(*) from datasets) as datasets, (select count(*) from runs) as runs,
                      (select count(*) from selections) as selections"""
        ).to_pylist()[0]
        found: dict[str, Any] = {"store": store.root.url, **counts, "table versions": versions}
        if store.root.path is not None:
            found["free space"] = f"{shutil.disk_usage(store.root.path).free / 1e9:.1f} GB"
        missing = [
            f"{row['dataset']}@{row['version']}: shard {shard.uri} is missing"
            for row in store.datasets.all()
            for shard in store.datasets.get(f"{row['dataset']}@{row['version']}").shards
            if not shard.is_there()
        ]
    except TamisError as error:
        return {"store": where}, [str(error)]
    return found, sorted(set(missing))
