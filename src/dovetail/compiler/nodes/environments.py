"""The libraries that generated code is linked with, as DaCe's environments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dovetail.compiler.engine import load_dace

__all__ = ["library"]


def library(name: str, module: str, paths: Callable[[], list[str]]) -> Any:
    """An environment of that name in ``module``, whose generated code is linked with ``paths``.

    The paths are those of libraries that this process has loaded: none is loaded twice.
    """
    lists = ("packages", "includes", "compile_flags", "link_flags", "files")
    body: dict[str, Any] = {f"cmake_{kind}": [] for kind in lists}
    body |= {kind: [] for kind in ("headers", "state_fields", "dependencies")}
    body |= {"cmake_minimum_version": None, "cmake_variables": {}}
    body |= {"init_code": "", "finalize_code": "", "__module__": module}
    made = load_dace().library.environment(type(name, (), {**body, "cmake_libraries": paths()}))
    setattr(sys.modules[module], name, made)
    return made
