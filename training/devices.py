"""Devices by name. A name is checked before torch is loaded; what this machine has, only torch knows."""

import re
from typing import TYPE_CHECKING

from tamis.training.errors import DeviceError

if TYPE_CHECKING:
    import torch

_NAMES = re.compile(r"auto|cpu|cuda(?::\d{1,3})?")


def check_device(name: object) -> None:
    """Refuse what names no device. Whether this machine has it is not known before `pick_device`.

    Raises:
        DeviceError: says which names there are.
    """
    if not isinstance(name, str) or _NAMES.fullmatch(name) is None:
        raise DeviceError(f"Unknown device {str(name)[:80]!r}: expected auto, cpu, cuda, or cuda:0, cuda:1, ...")


def pick_device(name: "str | torch.device") -> "torch.device":
    """The device of a name; "auto" is a GPU where there is one. A device is itself.

    Raises:
        DeviceError: no such device here.
    """
    import torch

    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    count = torch.cuda.device_count() if name.startswith("cuda") else 0
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        raise DeviceError(f"No device {name} on this machine ({count} GPUs): use auto or cpu.")
    return torch.device(name)


def describe(device: "torch.device") -> str:
    """A device's name as a run keeps it: "cpu", or "cuda (NVIDIA H100)"."""
    import torch

    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"
