"""The configuration files of the d-Matrix tools, of every generation, read as rules."""

from dovetail.recipe.dmatrix.fields import rules_of
from dovetail.recipe.dmatrix.presets import BASELINE, BASIC, FP8, PRESETS, SBFP_WEIGHT_STORAGE
from dovetail.recipe.dmatrix.read import Configuration, is_configuration, load_configuration

__all__ = [
    "BASELINE",
    "BASIC",
    "FP8",
    "PRESETS",
    "SBFP_WEIGHT_STORAGE",
    "Configuration",
    "is_configuration",
    "load_configuration",
    "rules_of",
]
