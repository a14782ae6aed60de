"""Approximated functions: how a softmax, a normalisation or an activation is computed."""

from dovetail.approximations.base import Approximation, Unary
from dovetail.approximations.errors import MaxError, max_error
from dovetail.approximations.fitting import Fitted, fit
from dovetail.approximations.functions import FUNCTIONS, Function, function
from dovetail.approximations.integer import IBert
from dovetail.approximations.newton import IntegerRoot, Newton
from dovetail.approximations.norm import Norm
from dovetail.approximations.pieces import Pieces
from dovetail.approximations.registry import (
    approximation,
    approximation_names,
    approximations_known,
    register_approximation,
)
from dovetail.approximations.softmax import Softmax
from dovetail.approximations.units import Base2, Poly, Pwl, Table

__all__ = [
    "FUNCTIONS",
    "Approximation",
    "Base2",
    "Fitted",
    "Function",
    "IBert",
    "IntegerRoot",
    "MaxError",
    "Newton",
    "Norm",
    "Pieces",
    "Poly",
    "Pwl",
    "Softmax",
    "Table",
    "Unary",
    "approximation",
    "approximation_names",
    "approximations_known",
    "fit",
    "function",
    "max_error",
    "register_approximation",
]
