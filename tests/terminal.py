"""Programs that are started as from a terminal.

A shell makes what it runs in the background, and all that this starts, deaf to SIGINT, and nohup to SIGHUP. The program
that hears them again is put before the one that is wanted: a function that runs between fork and exec (`preexec_fn`)
would have this process forked, and where libraries have reserved more memory than the machine has, that is refused.
"""

import sys

_HEAR = """
import os, signal, sys
for one in (signal.SIGINT, signal.SIGHUP):
    signal.signal(one, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
HEARING = [sys.executable, "-S", "-c", _HEAR]  # and then a command, by its path
