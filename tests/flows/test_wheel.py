"""A built wheel holds `tamis` and nothing else at top level, and works away from the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("store", "curation", "training", "flows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source]
    built = subprocess.run(build, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("tamis-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        packed.extractall(tmp_path / "site")
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tamis"}
    assert "tamis/store/py.typed" in names
    page = ROOT / "flows" / "web"
    files = [path for folder in ("templates", "static") for path in (page / folder).iterdir()]
    assert len(files) > 20
    assert {f"tamis/flows/web/{path.relative_to(page)}" for path in files} <= set(names)

    # Without -S an editable install's hook would be found first.
    site = [str(tmp_path / "site"), sysconfig.get_paths()["purelib"]]
    code = f"""
import sys; sys.path[:0] = {site!r}
import tamis.store, tamis.curation, tamis.training, tamis.flows.cli.app
for module in (tamis.store, tamis.training, tamis.flows.cli.app):
    assert module.__file__.startswith({str(tmp_path)!r}), module
tamis.flows.cli.app.main(["--store", "there", "init"])
"""
    ran = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "there" / "tamis.json").is_file()
