"""Training: winning back what an approximation costs."""

from dovetail.training.fit import FitResult, fit

__all__ = ["FitResult", "fit"]
