"""Credentials of object stores: no pickle holds them, and who unpickles is told which are missing."""

import os
from collections.abc import Iterable, Mapping

from tamis.store.errors import StoreDenied
from tamis.store.roots.options import PREFIXES, is_shown


def secret(options: Mapping[str, str]) -> set[str]:
    """Names of the storage options that a pickle leaves out."""
    return {name for name in options if not is_shown(name)}


def check_secrets(missing: Iterable[str]) -> None:
    """Refuse to read without credentials that were left out of a pickle, unless the environment has them.

    Raises:
        StoreDenied: names them.
    """
    known = {name.lower() for name in os.environ}
    absent = sorted(n for n in missing if not {n.lower(), *(prefix + n.lower() for prefix in PREFIXES)} & known)
    if absent:
        raise StoreDenied(
            f"This stream was unpickled, and pickles hold no credentials: storage options {', '.join(absent)} "
            "are missing. Create the stream from Store.open(url, options), or set "
            f"{', '.join(n.upper() for n in absent)} in the environment."
        )
