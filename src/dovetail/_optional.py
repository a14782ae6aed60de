"""Optional packages: imported when first used, refused with the command that installs them."""

from __future__ import annotations

import importlib
from types import ModuleType

from dovetail.errors import DovetailError

__all__ = ["optional"]


def optional(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of dovetail brings it.

    >>> optional("json", extra="report").dumps([1])
    '[1]'
    >>> optional("no_such_module", extra="report")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: this needs 'no_such_module': pip install "dovetail[report]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        name = module.split(".")[0]
        raise DovetailError(f"this needs '{name}': pip install \"dovetail[{extra}]\"") from error
