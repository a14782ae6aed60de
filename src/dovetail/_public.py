"""The public surface: what `import dovetail as dv` gives."""

from dovetail import analysis, approximations, multipliers, ops, zoo
from dovetail.accumulators import Accumulator, accumulator
from dovetail.analysis import Attribution, attribute
from dovetail.approximations import Approximation, approximation, register_approximation
from dovetail.arithmetic import Arithmetic
from dovetail.calibration import calibrate
from dovetail.compiler import CompiledModule, compile, module
from dovetail.compiler.onnx import load_onnx
from dovetail.container import Model, aware, monitoring, unaware
from dovetail.costs import cost
from dovetail.emulation import (
    Plan,
    apply_,
    apply_several_,
    approximation_errors,
    checkpoint_context,
    counters,
    fold_,
    learned_parameters,
    load_state,
    plan,
    recipes,
    register_operator,
    remove_,
    state,
    switch,
)
from dovetail.errors import DovetailError
from dovetail.formats import Format, cast, format, register_format
from dovetail.formats.codes import Codes, decode, encode
from dovetail.gradients import Gradient, gradient
from dovetail.interchange import Compared, Exported, export, register_exporter
from dovetail.kernels import register_realisation
from dovetail.multipliers import (
    Multiplier,
    catalog,
    families,
    float_multiplier,
    multiplier,
    register_multiplier,
)
from dovetail.recipe import Recipe, Rule, rule
from dovetail.recovery import (
    Recovery,
    adaround,
    awq,
    control_variate,
    correct_bias,
    equalise,
    fold_batch_norm,
    gptq,
    reestimate_batch_norm,
    remap_weights,
    rotate,
    slanc,
    smoothquant,
    tune_functions,
)
from dovetail.search import Front, Space, search
from dovetail.sparsity import Sparsity, register_sparsity, sparsity
from dovetail.storage import load_encoded, save_encoded
from dovetail.training import Pruning, fit

__all__ = [
    "Accumulator",
    "Approximation",
    "Arithmetic",
    "Attribution",
    "Codes",
    "Compared",
    "CompiledModule",
    "DovetailError",
    "Exported",
    "Format",
    "Front",
    "Gradient",
    "Model",
    "Multiplier",
    "Plan",
    "Pruning",
    "Recipe",
    "Recovery",
    "Rule",
    "Space",
    "Sparsity",
    "accumulator",
    "adaround",
    "analysis",
    "apply_",
    "apply_several_",
    "approximation",
    "approximation_errors",
    "approximations",
    "attribute",
    "aware",
    "awq",
    "calibrate",
    "cast",
    "catalog",
    "checkpoint_context",
    "compile",
    "control_variate",
    "correct_bias",
    "cost",
    "counters",
    "decode",
    "encode",
    "equalise",
    "export",
    "families",
    "fit",
    "float_multiplier",
    "fold_",
    "fold_batch_norm",
    "format",
    "gptq",
    "gradient",
    "learned_parameters",
    "load_encoded",
    "load_onnx",
    "load_state",
    "module",
    "monitoring",
    "multiplier",
    "multipliers",
    "ops",
    "plan",
    "recipes",
    "reestimate_batch_norm",
    "register_approximation",
    "register_exporter",
    "register_format",
    "register_multiplier",
    "register_operator",
    "register_realisation",
    "register_sparsity",
    "remap_weights",
    "remove_",
    "rotate",
    "rule",
    "save_encoded",
    "search",
    "slanc",
    "smoothquant",
    "sparsity",
    "state",
    "switch",
    "tune_functions",
    "unaware",
    "zoo",
]
