"""Post-training recipes: accuracy won back without training, each of them undoable."""

from dovetail.recovery.adaround import adaround
from dovetail.recovery.awq import awq
from dovetail.recovery.batch_norm import fold_batch_norm, reestimate_batch_norm
from dovetail.recovery.bias import correct_bias
from dovetail.recovery.equalise import equalise
from dovetail.recovery.gptq import gptq
from dovetail.recovery.handle import Change, Recovery
from dovetail.recovery.remap import remap_weights
from dovetail.recovery.rotate import rotate
from dovetail.recovery.slanc import slanc
from dovetail.recovery.smoothquant import smoothquant
from dovetail.recovery.tune import tune_functions
from dovetail.recovery.variate import control_variate

__all__ = [
    "Change",
    "Recovery",
    "adaround",
    "awq",
    "control_variate",
    "correct_bias",
    "equalise",
    "fold_batch_norm",
    "gptq",
    "reestimate_batch_norm",
    "remap_weights",
    "rotate",
    "slanc",
    "smoothquant",
    "tune_functions",
]
