"""Latency profiles of base models: measured on this device, and kept in the store for plans.

What: `profile_base` measures the segments of a stored base model (`tamis.training.mainstream.base.profiling`) and keeps
them as the newest profile of that base, device and number of threads.
When: once for each base and device, and again where the device or torch has changed.
Cost: some twenty passes over one image.
"""

from tamis.store import Store
from tamis.store.packages import Base
from tamis.store.packages.profiles import Profile
from tamis.training.devices import pick_device
from tamis.training.mainstream.base.profiling import measure
from tamis.training.mainstream.base.splitting import split
from tamis.training.mainstream.trainer.bases import open_base


def profile_base(
    store: Store, base: Base, *, device: str = "auto", threads: int | None = None, repeats: int = 25
) -> Profile:
    """Measure a base model, a frame at a time.

    Args:
        store: that has it.
        base: the base model.
        device: see `tamis.training.devices`.
        threads: of torch; None for as many as it has.
        repeats: rounds whose median counts.

    Raises:
        BaseModelError: it has no branchpoints.
        DeviceError: no such device.
    """
    parts = split(open_base(store, base), (base.channels, base.image_size, base.image_size))
    told = measure(parts, pick_device(device), threads=threads, repeats=repeats)
    return store.packages.profiles.put(
        base.key, told.segments, device=told.device, threads=told.threads, rest=told.head, stats=told.facts()
    )
