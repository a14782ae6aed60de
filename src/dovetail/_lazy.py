"""Packages whose public names are loaded when one of them is first asked for.

The names stand in the package's module `_public`. A type checker reads them there, too:

    if TYPE_CHECKING:
        from dovetail._public import *
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["lazy", "load"]


class _Package(ModuleType):
    """A package: what it has not yet is looked for among its public names."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__" or not (name.startswith("__") or _import(f"{self.__name__}.{name}")):
            load(self.__name__)
        try:
            return vars(self)[name]
        except KeyError:
            message = f"module '{self.__name__}' has no attribute '{name}'"
            raise AttributeError(message) from None

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing dovetail.sparsity must not hide dv.sparsity, its main function.
        if isinstance(value, ModuleType):
            own = vars(value).get(name)
            value = own if callable(own) else value
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        load(self.__name__)
        return sorted(vars(self))


def _import(name: str) -> bool:
    """Whether there is a module of that name, which then is loaded: without all the others."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return False
    return True


def lazy(name: str) -> None:
    """Make the package `name`, which is being imported, such a one."""
    sys.modules[name].__class__ = _Package


def load(name: str) -> None:
    """Load the public names of the package `name` now.

    >>> import dovetail
    >>> load("dovetail")
    >>> vars(dovetail)["cast"] is dovetail.cast
    True
    """
    public = importlib.import_module(f"{name}._public")
    found = {each: getattr(public, each) for each in ("__all__", *public.__all__)}
    vars(sys.modules[name]).update(found)
