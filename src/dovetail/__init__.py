"""Neural networks on arithmetic that does not exist yet: described, fitted in, emulated, measured.

import dovetail as dv

recipe = dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9"))
dv.apply_(model, recipe, example)

What stands in `dovetail._public` is loaded when it is first asked for, so that a command line that
only completes a word need not load torch. Where torch is loaded already, so is all of it at once:
its operators are then there for programs that were saved with them.
"""

import sys
from typing import TYPE_CHECKING

from dovetail._lazy import lazy, load

if TYPE_CHECKING:
    from dovetail._public import *  # noqa: F403
    from dovetail._public import __all__ as __all__

__version__ = "0.1.0"

lazy(__name__)
if "torch" in sys.modules:
    load(__name__)
