"""What to choose: pure functions from arrays to samples.

NumPy and torch are all it needs, and torch is imported only where a tensor is at hand. Nothing here reads a
file, prints or keeps state; randomness comes in as a NumPy `Generator`.
"""

from tamis.curation.budget import resolve_budget
from tamis.curation.contract import Choice, Inputs, Method
from tamis.curation.errors import BudgetError, ContractError, CurationError, NonFiniteError, UnknownMethodError
from tamis.curation.methods import METHODS, get_method
from tamis.curation.parameters import Parameter, parameters, recorded

__all__ = [
    "METHODS",
    "BudgetError",
    "Choice",
    "ContractError",
    "CurationError",
    "Inputs",
    "Method",
    "NonFiniteError",
    "Parameter",
    "UnknownMethodError",
    "get_method",
    "parameters",
    "recorded",
    "resolve_budget",
]
