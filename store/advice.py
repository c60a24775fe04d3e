"""Commands that messages recommend: they work when copied into a shell."""

import shlex

from tamis.store.roots.roots import Root


def command(root: Root, *words: str) -> str:
    """A command line on a store, e.g. `` `tamis --store '/data/my store' run ls --kind train` ``, in backticks."""
    return f"`{shlex.join(('tamis', '--store', root.url, *words))}`"
