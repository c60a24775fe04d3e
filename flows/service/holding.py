"""Which services serve a deployment: one name, one config, on whatever server.

What: `Holder.take` says to the server that this service serves its deployments, and refuses where another one that
lives serves one of the names with another config. `beat` repeats it, `release` takes it back.
How: a variable of the server for each service and deployment. Two that start at once both see each other, and the later
one, by its time and then by its id, gives way. A service lives as long as its process, where that is on this machine;
elsewhere as long as it beats.
"""

import contextlib
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.flows.errors import DeploymentTaken
from tamis.flows.service.checking import Deployment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_PREFIX = "tamis-serve-"
BEAT, SILENT = 20.0, 90.0  # s: between two beats; after which one elsewhere counts as ended


@dataclass
class Holder:
    """A service that serves deployments.

    Attributes:
        deployments: which.
        file: that they are from.
        since: seconds since 1970 when it began.
        id: of its own.
    """

    deployments: Sequence[Deployment]
    file: Path
    since: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def take(self, client: "SyncPrefectClient") -> None:
        """Serve the deployments. Release them in any case.

        Raises:
            DeploymentTaken: another service serves one of the names with another config.
        """
        self.beat(client)
        for deployment in self.deployments:
            for other in self._others(client, deployment):
                earlier = (other["since"], other["id"]) < (self.since, self.id)
                if other["digest"] != deployment.digest and earlier:
                    raise DeploymentTaken(
                        f"Deployment {deployment.name} is served with another config by process {other['process']} on "
                        f"{other['host']} ({other['file']}). Stop that one first, or give this one another name."
                    )

    def alone(self, client: "SyncPrefectClient", deployment: Deployment) -> bool:
        """Whether no other service serves a deployment."""
        return not self._others(client, deployment)

    def leads(self, client: "SyncPrefectClient", deployment: Deployment) -> bool:
        """Whether this one tells of its failures: of several services that serve it, the first does."""
        return all((self.since, self.id) < (other["since"], other["id"]) for other in self._others(client, deployment))

    def beat(self, client: "SyncPrefectClient") -> None:
        """Say that it lives."""
        from prefect.client.schemas.actions import VariableCreate, VariableUpdate
        from prefect.exceptions import ObjectAlreadyExists

        for deployment in self.deployments:
            name, value = self._variable(deployment), self._said(deployment)
            try:
                client.create_variable(VariableCreate(name=name, value=value, tags=["tamis"]))
            except ObjectAlreadyExists:
                client.update_variable(VariableUpdate(name=name, value=value))

    def release(self, client: "SyncPrefectClient") -> None:
        """Serve them no more."""
        from prefect.exceptions import ObjectNotFound

        for deployment in self.deployments:
            with contextlib.suppress(ObjectNotFound):
                client.delete_variable_by_name(self._variable(deployment))

    def _said(self, deployment: Deployment) -> str:
        return json.dumps({
            "deployment": deployment.name, "digest": deployment.digest, "id": self.id, "since": self.since,
            "beat": time.time(), "process": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname(),
            "machine": _machine(), "file": str(self.file),
        })  # fmt: skip

    def _variable(self, deployment: Deployment) -> str:
        return f"{_of(deployment.name)}{self.id}"

    def _others(self, client: "SyncPrefectClient", deployment: Deployment) -> list[dict[str, Any]]:
        """Other services that live and serve a deployment; what ended ones left is removed."""
        from prefect.exceptions import ObjectNotFound

        found: list[dict[str, Any]] = []
        for variable in client.read_variables(limit=200):
            if not variable.name.startswith(_of(deployment.name)) or variable.name == self._variable(deployment):
                continue
            other = json.loads(str(variable.value))
            if lives(other):
                found.append(other)
                continue
            with contextlib.suppress(ObjectNotFound):
                client.delete_variable_by_name(variable.name)
        return found


def lives(said: dict[str, Any]) -> bool:
    """Whether the service that said this still runs."""
    if said["machine"] == _machine():
        return _started(said["process"]) == said["started"] is not None
    return abs(time.time() - said["beat"]) < SILENT


def _of(name: str) -> str:
    return f"{_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


def _machine() -> str | None:
    """This boot of this machine, and its space of process ids; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(process: int) -> str | None:
    """When a process began, in the system's ticks; None where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None
