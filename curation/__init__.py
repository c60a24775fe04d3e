"""What to choose: pure functions from arrays to samples.

NumPy and torch are all it needs, and torch is imported only where a tensor is at hand. Nothing here reads a
file, prints or keeps state; randomness comes in as a NumPy `Generator`.
"""

from tamis.curation.budget import resolve_budget
from tamis.curation.errors import BudgetError, CurationError, NonFiniteError, UnknownMethodError
from tamis.curation.methods import METHODS, Choice, Inputs, Method, get_method, parameters

__all__ = [
    "METHODS",
    "BudgetError",
    "Choice",
    "CurationError",
    "Inputs",
    "Method",
    "NonFiniteError",
    "UnknownMethodError",
    "get_method",
    "parameters",
    "resolve_budget",
]
