"""What is kept: datasets, runs, scores, loss history, selections and blobs, in formats that others can read.

from tamis.store import Store
store = Store.open("folder")
store.sql("select name, version, method, size from selections").show()
"""

from tamis.store.store import Store

__all__ = ["Store"]
