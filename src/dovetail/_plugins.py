"""Other packages plug in by the entry-point group ``dovetail.plugins``, loaded when first needed.

An entry point names a module (or a function, which is called): importing it registers whatever its
``register_*`` decorators say.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points

from dovetail.errors import DovetailError

__all__ = ["load_plugins"]


@lru_cache(maxsize=1)
def load_plugins() -> tuple[str, ...]:
    """Load every installed plugin once; their names.

    >>> isinstance(load_plugins(), tuple)
    True
    """
    names = []
    for point in entry_points(group="dovetail.plugins"):
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            raise DovetailError(
                f"the plugin {point.name!r} ({point.value}) fails to load: "
                f"{type(error).__name__}: {error}"
            ) from error
        names.append(point.name)
    return tuple(names)
