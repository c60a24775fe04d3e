"""What can go wrong around the web page."""

from tamis.store.errors import TamisError


class BadQuestion(TamisError, ValueError):
    """A parameter of an address that cannot be understood."""


class TookTooLong(TamisError, TimeoutError):
    """A question that was ended because its time was over, or nobody waited for it any more."""


class Busy(TamisError, RuntimeError):
    """Too many questions at once."""


class PortTaken(TamisError, OSError):
    """Another program listens where the page was to be served."""
