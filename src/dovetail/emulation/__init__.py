"""How a recipe enters a model: plan, apply, remove, and watch."""

from dovetail.emulation.apply import apply_, remove_
from dovetail.emulation.approximation_errors import approximation_errors
from dovetail.emulation.counting import CastCounter, Counter, counters
from dovetail.emulation.example import Arguments
from dovetail.emulation.fold import fold_
from dovetail.emulation.learned import learned_parameters
from dovetail.emulation.mode import checkpoint_context
from dovetail.emulation.operators import register_operator
from dovetail.emulation.plan import plan
from dovetail.emulation.planned import Plan, PlannedOp
from dovetail.emulation.several import apply_several_, recipes, switch
from dovetail.emulation.state import load_state, state
from dovetail.emulation.swap import is_emulated
from dovetail.emulation.taps import MacCall, Watched, emulation_of, exact, tap

__all__ = [
    "Arguments",
    "CastCounter",
    "Counter",
    "MacCall",
    "Plan",
    "PlannedOp",
    "Watched",
    "apply_",
    "apply_several_",
    "approximation_errors",
    "checkpoint_context",
    "counters",
    "emulation_of",
    "exact",
    "fold_",
    "is_emulated",
    "learned_parameters",
    "load_state",
    "plan",
    "recipes",
    "register_operator",
    "remove_",
    "state",
    "switch",
    "tap",
]
