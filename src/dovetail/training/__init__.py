"""Training: winning back what an approximation costs."""

from dovetail.training.distillation import Distillation
from dovetail.training.fit import FitResult, fit
from dovetail.training.loggers import CSVLogger, Logger
from dovetail.training.pruning import Pruning
from dovetail.training.rates import LearningRate

__all__ = [
    "CSVLogger",
    "Distillation",
    "FitResult",
    "LearningRate",
    "Logger",
    "Pruning",
    "fit",
]
