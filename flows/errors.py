"""What can go wrong around flows, beside what the store names (`tamis.store.errors`)."""

from tamis.store.errors import TamisError


class ServerUnreachable(TamisError, ConnectionError):
    """The configured Prefect server does not answer, or is none."""


class ServerFailed(TamisError, RuntimeError):
    """The temporary Prefect server did not start."""


class ServerNeeded(TamisError, RuntimeError):
    """What was asked for needs a Prefect server, and none is configured."""


class ClusterUnreachable(TamisError, ConnectionError):
    """There is no Ray cluster where one was named, or it takes no work from here."""


class ClusterFailed(TamisError, RuntimeError):
    """A Ray cluster gave up a task: its workers died again and again."""


class StoreUnseen(TamisError, RuntimeError):
    """A machine of a cluster does not see the store that the others work on."""


class ServiceFileError(TamisError, ValueError):
    """The file of a service is missing, or not all of it is right; the message says all that is wrong."""


class DeploymentTaken(TamisError, RuntimeError):
    """A deployment, a server's folder or a port belongs to another service that runs."""


class DeploymentNotFound(TamisError, KeyError):
    """There is no deployment or run of that name on the server."""

    __str__ = Exception.__str__
