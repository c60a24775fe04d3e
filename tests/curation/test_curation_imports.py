"""The package stands on NumPy and torch, and listing its methods does not wait for torch."""

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "prefect",
    "pyarrow",
    "duckdb",
    "deltalake",
    "obstore",
    "pydantic",
    "webdataset",
    "sklearn",
}


SELECTIVE = ("history", "priority", "drawing", "in_batch", "importance", "infobatch", "rho", "predictors")


@pytest.mark.parametrize(
    "module",
    [
        *(f"tamis.curation{name}" for name in ("", ".culling", ".methods", ".uncertainty", ".ranking", ".omp.solver")),
        *(f"tamis.curation.selective.{name}" for name in SELECTIVE),
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())
