"""The Makefile's environment: known versions where they can be had, the bounds where not, and links without a loop.

The recipe is the project's own and so is pip; what it installs here is made up and small, and comes from a folder.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOLDERS = {"store", "curation", "training", "flows"}


def write_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A wheel `name` that holds one module with its version."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@dataclass(frozen=True)
class Machine:
    """A folder with an environment in `venv`, and `wheels`, which are all that pip finds."""

    folder: Path

    def make(self, constraints: str) -> subprocess.CompletedProcess[str]:
        """`make environment` for `application`, which needs `library` 1 or newer."""
        (self.folder / "constraints.txt").write_text(constraints)
        (self.folder / "venv" / ".ready").unlink(missing_ok=True)
        variables = {
            "VENV": self.folder / "venv",
            "CONSTRAINTS": self.folder / "constraints.txt",
            "REQUIREMENTS": "application",
            "PYTHON": sys.executable,
        }
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder / "wheels"), "PIP_CONFIG_FILE": os.devnull}
        command = ["make", "environment", *(f"{name}={value}" for name, value in variables.items())]
        return subprocess.run(
            command, cwd=ROOT, env=keep | offline, capture_output=True, text=True, timeout=240, check=False
        )

    def run(self, code: str) -> str:
        python = self.folder / "venv" / "bin" / "python"
        command = [python, "-c", code]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def library(self) -> str:
        """The version of `library` in the environment."""
        return self.run("import library; print(library.version)")

    @property
    def link(self) -> Path:
        return Path(self.run("import sysconfig; print(sysconfig.get_paths()['purelib'])")) / "tamis"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A fresh machine whose first `make environment` has passed: `library` 1.0 is known good, 2.0 is there too."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    made = Machine(tmp_path_factory.mktemp("machine"))
    wheels = made.folder / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "library", "1.0")
    write_wheel(wheels, "library", "2.0")
    write_wheel(wheels, "application", "1.0", "library>=1")
    done = made.make("library==1.0\nunused==7.0\n")
    assert done.returncode == 0, done.stderr
    assert "cannot be met" not in done.stdout
    return made


def test_known_versions_are_installed_before_newer_ones(machine: Machine) -> None:
    assert machine.library == "1.0"


@pytest.mark.parametrize(
    "constraints",
    [
        "library==9.9\n",  # nowhere to be had
        "library==1.0\nlibrary<1.0\n",  # as where pip has constraints of its own
    ],
)
def test_a_version_that_cannot_be_had_is_one_line_and_the_bounds(machine: Machine, constraints: str) -> None:
    machine.run("from pip._internal.cli.main import main; main(['uninstall', '--yes', 'library', 'application'])")
    done = machine.make(constraints)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if "cannot be met" in line]
    assert re.search(r"cannot be met here \(library.*\), installing by the bounds of pyproject.toml$", line)
    assert machine.library == "2.0"


def test_links_of_the_folders_take_the_place_of_an_older_link_to_the_checkout(machine: Machine) -> None:
    shutil.rmtree(machine.link)
    machine.link.symlink_to(ROOT)
    assert machine.make("library==2.0\n").returncode == 0
    assert {path.name: path.resolve() for path in machine.link.iterdir()} == {name: ROOT / name for name in FOLDERS}
    # What walks the package ends: it never comes from a folder back to one that it is in.
    for folder, subfolders, _ in os.walk(machine.link, followlinks=True):
        for each in subfolders:
            assert not Path(folder).resolve().is_relative_to((Path(folder) / each).resolve())


def known() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "names and versions, nothing else"
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_known_versions_are_within_the_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    wanted = [one for one in map(Requirement, listed) if canonicalize_name(one.name) != "tamis"]
    versions = known()
    assert [str(one) for one in wanted if canonicalize_name(one.name) not in versions] == [], "run `make constraints`"
    assert [str(one) for one in wanted if versions[canonicalize_name(one.name)] not in one.specifier] == []


def test_a_deprecation_fails_the_tests_where_it_is_ours(tmp_path: Path) -> None:
    for name in ("tamis", "somebody"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text("import warnings\ndef warn(kind): warnings.warn('old', kind)\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest, tamis.part, somebody.part\n"
        "KINDS = DeprecationWarning, PendingDeprecationWarning, FutureWarning, UserWarning\n"
        "@pytest.mark.parametrize('kind', KINDS)\n"
        "@pytest.mark.parametrize('module', [tamis.part, somebody.part])\n"
        "def test_it(module, kind): module.warn(kind)\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-rA", tmp_path]
    path = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, timeout=120, check=False)
    passed = set(re.findall(r"^PASSED .*\[(.*)\]", done.stdout, re.MULTILINE))
    assert passed == {f"somebody.part-{kind}Warning" for kind in ("Deprecation", "PendingDeprecation", "Future")}
    assert "5 failed, 3 passed" in done.stdout
