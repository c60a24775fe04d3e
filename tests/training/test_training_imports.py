"""`import tamis.training` is light, and what it offers is there."""

import subprocess

import pytest
from strict import STRICT

import tamis.training


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, tamis.training, tamis.training.job;"
        "heavy = {'torch', 'torchvision', 'webdataset', 'PIL', 'prefect', 'safetensors'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([*STRICT, "-c", code], check=True)


@pytest.mark.parametrize("name", tamis.training.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(tamis.training, name).__name__ == name
    assert name in dir(tamis.training)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no 'nonsense'; it has: LossRecorder, Scorer, SelectionStream"):
        tamis.training.nonsense  # noqa: B018
    assert set(tamis.training._WHERE) == set(tamis.training.__all__)
