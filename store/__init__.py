"""What is kept: datasets, runs, scores, loss history, selections and blobs, in formats that others can read.

from tamis.store import Store
store = Store.open("folder")
store.sql("select name, version, method, size from selections").show()

`Store` is loaded when it is first used: what needs an error class, or prints help, does not wait for Arrow and Delta.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tamis.store.store import Store as Store

__all__ = ["Store"]


def __getattr__(name: str) -> object:
    if name != "Store":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tamis.store.store import Store

    return Store
