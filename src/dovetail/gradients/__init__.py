"""Gradient values: what the backward pass makes of a multiplier and of a cast.

A :class:`Gradient` knows nothing of models. :mod:`~dovetail.gradients.value` spells it,
:mod:`~dovetail.gradients.slopes` defines the tables, :mod:`~dovetail.gradients.terms` makes of a
table the few terms that kernels multiply.
"""

from dovetail.gradients.terms import Terms, terms_of
from dovetail.gradients.value import Gradient, gradient

__all__ = ["Gradient", "Terms", "gradient", "terms_of"]
