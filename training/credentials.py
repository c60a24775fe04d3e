"""Credentials of object stores: no pickle holds them, and who unpickles is told which are missing."""

import os
import pickle
from collections.abc import Iterable, Mapping

from tamis.store.errors import StoreDenied

_PREFIXES = ("", "AWS_", "GOOGLE_", "AZURE_")


def unpickled(options: Mapping[str, str]) -> set[str]:
    """Names of the storage options that a pickle leaves out."""
    return set(options) - set(pickle.loads(pickle.dumps(options)))  # noqa: S301 - made here


def check_secrets(missing: Iterable[str]) -> None:
    """Refuse to read without credentials that were left out of a pickle, unless the environment has them.

    Raises:
        StoreDenied: names them.
    """
    absent = sorted(n for n in missing if not any(prefix + n.upper() in os.environ for prefix in _PREFIXES))
    if absent:
        raise StoreDenied(
            f"This stream came out of a pickle, and pickles hold no credentials: storage options {', '.join(absent)} "
            "are missing. Make the stream anew from Store.open(url, options), or set "
            f"{', '.join(n.upper() for n in absent)} in the environment."
        )
