"""What importing and using the store brings in: nothing of torch, Prefect or DuckDB until it is asked."""

import subprocess
from pathlib import Path

import pytest
from strict import STRICT

HEAVY = ("torch", "torchvision", "prefect", "webdataset", "PIL", "sklearn")


def loaded(program: str) -> list[str]:
    code = f"{program}\nimport sys; print(' '.join(m for m in {(*HEAVY, 'duckdb')!r} if m in sys.modules))"
    done = subprocess.run([*STRICT, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_is_light() -> None:
    assert loaded("import tamis.store") == []


def test_only_sql_needs_duckdb(tmp_path: Path, digits: dict[str, list[Path]]) -> None:
    program = (
        "from tamis.store import Store; from tamis.store.selections import Request, RoundData\n"
        f"store = Store.create({str(tmp_path / 'store')!r})\n"
        f"ds = store.datasets.add('d', [{str(digits['test'][0])!r}])\n"
        "store.selections.publish(Request(ds, 'm', 1), 's', [RoundData([1])], seconds=0.0)\n"
    )
    assert loaded(program) == []
    assert loaded(f"{program.replace('create', 'open')}store.query('from selections')") == ["duckdb"]


@pytest.mark.parametrize(
    "module",
    ["datasets.packing", "selections", "runs", "sql.query", "blobs", "errors", "shards.shards", "tables.heads", "keys"],
)
def test_every_module_can_come_first(module: str) -> None:
    assert not set(loaded(f"import tamis.store.{module}")) & set(HEAVY)
