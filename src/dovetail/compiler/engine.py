"""DaCe, the compiler's engine: imported here once, after torch, and nowhere else first.

Torch comes first so that the process has one OpenMP runtime: libraries that DaCe builds then
resolve to the one that torch has loaded.
"""

from __future__ import annotations

import warnings
from types import ModuleType

import torch

from dovetail._optional import optional

__all__ = ["load_dace"]


def load_dace() -> ModuleType:
    """DaCe, or the error that says which extra of dovetail brings it.

    >>> load_dace().__name__
    'dace'
    """
    assert torch.__version__  # loaded before DaCe, on purpose
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optional("dace.library", extra="compiler")  # DaCe itself leaves it out
        return optional("dace", extra="compiler")
