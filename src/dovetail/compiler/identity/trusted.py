"""Code that a version stands for: Python's own, torch's, NumPy's and dovetail's.

All other code is read, as anybody may have changed it since.
"""

from __future__ import annotations

import builtins
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

__all__ = ["PURE", "is_trusted_class", "is_trusted_code", "is_trusted_module"]

#: Of Python's own modules, those whose functions depend on their arguments alone.
PURE = frozenset(
    (
        "abc",
        "array",
        "bisect",
        "builtins",
        "cmath",
        "collections",
        "collections.abc",
        "contextlib",
        "copy",
        "dataclasses",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "heapq",
        "itertools",
        "keyword",
        "logging",
        "math",
        "numbers",
        "operator",
        "re",
        "string",
        "textwrap",
        "types",
        "typing",
        "typing_extensions",
        "warnings",
        "__future__",
    )
)
_OWN = Path(__file__).parents[2]
_FOLDERS = (Path(str(torch.__file__)).parent, Path(str(np.__file__)).parent, _OWN)
_ROOTS = tuple(f"{folder}/" for folder in _FOLDERS)
_PYTHON = tuple(f"{sysconfig.get_paths()[name]}/" for name in ("stdlib", "platstdlib"))
_PACKAGES = ("/site-packages/", "/dist-packages/")


@lru_cache(maxsize=4096)
def _is_trusted_file(name: str) -> bool:
    if name.startswith("<frozen "):
        return True
    if name.startswith(_ROOTS):
        return True
    return name.startswith(_PYTHON) and not any(folder in name for folder in _PACKAGES)


def is_trusted_code(code: CodeType) -> bool:
    """Whether a version stands for ``code``.

    >>> is_trusted_code(torch.nn.functional.relu.__code__), is_trusted_code((lambda: 0).__code__)
    (True, False)
    """
    return _is_trusted_file(code.co_filename)


def is_trusted_module(module: ModuleType) -> bool:
    """Whether a version stands for what ``module`` holds.

    >>> is_trusted_module(torch), is_trusted_module(sys)
    (True, True)
    """
    place = getattr(module, "__file__", None)
    if place is None:
        name = module.__name__.split(".")[0]
        return name in ("torch", *sys.builtin_module_names)
    return _is_trusted_file(str(place))


def is_trusted_class(cls: type) -> bool:
    """Whether ``cls`` is found under its own name in a trusted module.

    >>> is_trusted_class(torch.nn.Linear), is_trusted_class(type("Linear", (), {}))
    (True, False)
    """
    module = sys.modules.get(cls.__module__)
    if module is None or not is_trusted_module(module):
        return False
    found: Any = module
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is cls:
        return True
    return not cls.__flags__ & _HEAP  # one that is written in C


_HEAP = 1 << 9


def is_trusted_function(function: FunctionType) -> bool:
    """Whether a version stands for ``function``, what it closes over apart."""
    if is_trusted_code(function.__code__):
        return True
    if function.__code__.co_filename != "<string>":
        return False
    module = sys.modules.get(function.__module__ or "")  # made by a trusted module as text
    return module is not None and module is not builtins and is_trusted_module(module)
