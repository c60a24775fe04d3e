"""`tamis package` with all that is added to the group."""

from tamis.flows.cli.packages import building, running
from tamis.flows.cli.packages.package import package

__all__ = ["building", "package", "running"]
