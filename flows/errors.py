"""What can go wrong around flows, beside what the store names (`tamis.store.errors`)."""

from tamis.store.errors import TamisError


class ServerUnreachable(TamisError, ConnectionError):
    """The configured Prefect server does not answer, or is none."""


class ServerFailed(TamisError, RuntimeError):
    """The temporary Prefect server did not start."""
