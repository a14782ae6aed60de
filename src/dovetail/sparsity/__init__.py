"""Which weights are kept: patterns, scores, and what training sees of them.

``dovetail.sparsity`` is the function of that name to those who ``import dovetail``, and this
package to the import system, which binds it there anew whenever it loads the package again: so the
package can be called as well, and is then the function.
"""

import sys
from types import ModuleType
from typing import Any

from dovetail.sparsity.chance import Bernoulli
from dovetail.sparsity.drawing import draw, save_png
from dovetail.sparsity.pattern import Pattern
from dovetail.sparsity.patterns import Blocks, Dense, NofM, TopK
from dovetail.sparsity.registry import pattern_names, register_sparsity, sparsity
from dovetail.sparsity.schedules import Schedule, schedule
from dovetail.sparsity.scores import register_score, score, score_names
from dovetail.sparsity.shorthand import to_shorthand
from dovetail.sparsity.statistics import Statistics, statistics
from dovetail.sparsity.value import Sparsity

__all__ = [
    "Bernoulli",
    "Blocks",
    "Dense",
    "NofM",
    "Pattern",
    "Schedule",
    "Sparsity",
    "Statistics",
    "TopK",
    "draw",
    "pattern_names",
    "register_score",
    "register_sparsity",
    "save_png",
    "schedule",
    "score",
    "score_names",
    "sparsity",
    "statistics",
    "to_shorthand",
]


class _Callable(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Sparsity:
        return sparsity(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
