"""M-Packages: the candidates of one application that share a base model, published by name and version.

A base model's weights are kept once, and of each candidate the layers that differ from it. What is finished is found by
the key of what was asked, so that a killed build goes on where it was; a package makes its candidates visible at once.
"""

from tamis.store.packages.catalog import Published
from tamis.store.packages.exchange import Exported, Packages
from tamis.store.packages.profiles import Profile
from tamis.store.packages.records import Base, Candidate, EventFigures, NewPackage, Package, pareto_of

__all__ = [
    "Base",
    "Candidate",
    "EventFigures",
    "Exported",
    "NewPackage",
    "Package",
    "Packages",
    "Profile",
    "Published",
    "pareto_of",
]
