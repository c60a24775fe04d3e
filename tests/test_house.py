"""The house stays in order: how many rooms a wing has, how long a file is, and no two modules that need each other.

`python tests/test_house.py` prints the figures.
"""

import ast
import statistics
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("store", "curation", "training", "flows")
ROOMS, LINES = 16, 450  # files of a folder, lines of a file: at most


@cache
def files() -> dict[str, Path]:
    """Every module's file by its dotted name."""
    found = [path for top in TOP for path in sorted((ROOT / top).rglob("*.py"))]
    return {f"tamis.{'.'.join(p.relative_to(ROOT).with_suffix('').parts)}".removesuffix(".__init__"): p for p in found}


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def rooms() -> dict[str, int]:
    """How many modules each folder has, its `__init__` and `__main__` not counted."""
    folders = [path.parent for path in files().values() if not path.name.startswith("__")]
    return {str(folder.relative_to(ROOT)): folders.count(folder) for folder in folders}


def needs(name: str) -> set[str]:
    """The modules that a module imports when it is imported itself."""
    found = set[str]()
    for node in ast.parse(files()[name].read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (parts & files().keys()) or {node.module}
    return (found & files().keys()) - {name}


def bodies() -> list[int]:
    """Lines of every function, its signature and docstring not counted."""
    found: list[int] = []
    for path in files().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1:] if ast.get_docstring(node) else node.body
                found.append(first[-1].end_lineno - first[0].lineno + 1 if first else 0)
    return found


@pytest.mark.parametrize(("folder", "count"), rooms().items())
def test_a_folder_is_looked_over_at_a_glance(folder: str, count: int) -> None:
    assert count <= ROOMS, f"{folder}/ has {count} modules: give those of one trade a folder of their own"


@pytest.mark.parametrize("name", files())
def test_a_file_is_read_in_one_sitting(name: str) -> None:
    assert length(files()[name]) <= LINES, f"{name} has two subjects: part them"


def test_functions_are_short() -> None:
    lines = bodies()
    assert statistics.median(lines) <= 6
    assert sum(n > 40 for n in lines) / len(lines) < 0.005


def test_nothing_needs_what_needs_it() -> None:
    try:
        TopologicalSorter({name: needs(name) for name in files()}).prepare()
    except CycleError as error:
        pytest.fail(f"modules need one another: {' -> '.join(error.args[1])}")


def test_a_wheel_has_every_wing() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(said) == sorted(name for name, path in files().items() if path.name == "__init__.py")


if __name__ == "__main__":
    sizes, counts, lines = [length(p) for p in files().values()], rooms(), bodies()
    fullest = max(counts, key=counts.__getitem__)
    print(f"{len(sizes)} files, {sum(sizes):,} lines; median {statistics.median(sizes):.0f}, longest {max(sizes)}")
    print(
        f"{len(lines):,} functions; body median {statistics.median(lines):.0f}, over 40: {sum(n > 40 for n in lines)}"
    )
    print(f"fullest folder: {fullest}/ with {counts[fullest]} modules")
