"""Builds a package in each of some stores and dies by SIGKILL three writes later on each: package_child.py STORE..."""

import os
import sys

from packkit import publish
from store_child import kill_after

from tamis.store import Store

if __name__ == "__main__":
    for calls, path in enumerate(sys.argv[1:]):
        child = os.fork()  # nothing has started a thread yet
        if child == 0:
            kill_after(3 * calls)
            publish(Store.open(path), branches=2)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
