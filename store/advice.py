"""What messages recommend: commands that work when copied into a shell, and names that were perhaps meant."""

import difflib
import shlex
from collections.abc import Iterable

from tamis.store.roots.roots import Root


def command(root: Root, *words: str) -> str:
    """A command line on a store, e.g. `` `tamis --store '/data/my store' run ls --kind train` ``, in backticks."""
    return f"`{shlex.join(('tamis', '--store', root.url, *words))}`"


def did_you_mean(given: str, names: Iterable[str]) -> str:
    """A sentence to end a message with, where some name is close to the one that was given; else nothing."""
    near = difflib.get_close_matches(given, set(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
