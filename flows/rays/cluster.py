"""Which cluster, and what of it a task takes."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

AUTO = "auto"


class Cluster(BaseModel):
    """A Ray cluster, as a command names it. Never part of a key: results do not depend on it.

    Attributes:
        address: "host:port" of the head's GCS, from a machine of the cluster; "ray://host:port" of its client server,
            from anywhere; "auto": RAY_ADDRESS, or the cluster that runs on this machine.
        cpus: cores a task, which bound PyTorch's threads in it.
        gpus: GPUs a task; parts of one share it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = AUTO
    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)

    @field_validator("address")
    @classmethod
    def _is_one(cls, address: str) -> str:
        try:
            good = address == AUTO or endpoint(address)[1] > 0
        except ValueError:
            good = False
        if not good:
            raise ValueError(
                f"{address!r} is no address of a Ray cluster: expected host:port, ray://host:port or {AUTO}"
            )
        return address


def endpoint(address: str) -> tuple[str, int]:
    """The host and port of an address.

    Raises:
        ValueError: it has none.
    """
    parts = urlsplit(address if "://" in address else f"gcs://{address}")
    if parts.scheme not in ("ray", "gcs") or not parts.hostname or parts.port is None or parts.path.strip("/"):
        raise ValueError(address)
    return parts.hostname, parts.port
