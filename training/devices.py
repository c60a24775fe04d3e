"""Devices by name, checked before torch is loaded."""

import re

from tamis.training.errors import DeviceError

_NAMES = re.compile(r"auto|cpu|cuda(?::\d{1,3})?")


def check_device(name: object) -> None:
    """Refuse what names no device. Whether this machine has it is not known before `tamis.training.loop.pick_device`.

    Raises:
        DeviceError: says which names there are.
    """
    if not isinstance(name, str) or _NAMES.fullmatch(name) is None:
        raise DeviceError(f"Unknown device {str(name)[:80]!r}: expected auto, cpu, cuda, or cuda:0, cuda:1, ...")
