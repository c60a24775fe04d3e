"""A program that streams with worker processes until it is stopped: python streaming_child.py STORE DATASET

It says "ready" when it begins, then a line for each batch. It hears Ctrl-C also where a shell made it deaf.
"""

import signal
import sys
import time
from multiprocessing import active_children

from tamis.store import Store
from tamis.training import SelectionStream

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = Store.open(sys.argv[1])
    stream = SelectionStream(store, store.datasets.get(sys.argv[2]), batch_size=1)
    print("ready", flush=True)
    for _ in stream.epoch(0, workers=2):
        print("batch", len(active_children()), flush=True)
        time.sleep(0.5)
