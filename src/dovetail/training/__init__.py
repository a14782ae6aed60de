"""Training: winning back what an approximation costs."""

from dovetail.training.fit import FitResult, fit
from dovetail.training.pruning import Pruning

__all__ = ["FitResult", "Pruning", "fit"]
