"""The exporters: what `to=` and `export:` can name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dovetail._plugins import load_plugins
from dovetail.errors import DovetailError, unknown
from dovetail.interchange.result import Exported

__all__ = ["Exporter", "exporter_for", "exporter_named", "exporters_known", "register_exporter"]

Write = Callable[..., Exported]

#: What every exporter is given besides its own options.
_GIVEN = ("model", "path", "example", "verify")


@dataclass(frozen=True)
class Exporter:
    """One form that networks are written in. ``suffix`` is its file's; None: it fills a folder."""

    name: str
    write: Write
    suffix: str | None

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return inspect.cleandoc(self.write.__doc__ or "").partition("\n\n")[0].replace("\n", " ")

    @property
    def options(self) -> dict[str, Any]:
        """Its own options with their defaults."""
        taken = inspect.signature(self.write).parameters.values()
        return {p.name: p.default for p in taken if p.name not in _GIVEN}

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it has not."""
        for option in options:
            if option not in self.options:
                if not self.options:
                    raise DovetailError(f"the exporter '{self.name}' has no options: '{option}'")
                raise unknown(f"option of the exporter '{self.name}':", option, self.options)


_exporters: dict[str, Exporter] = {}


def register_exporter(name: str, *, suffix: str | None = None) -> Callable[[Write], Write]:
    """Decorator: make ``name`` a form that `dv.export` writes.

    The function is called as ``write(model, path, example, *, verify, **options)`` with an emulated
    or an exact model in evaluation mode; it returns an :class:`Exported`. ``suffix`` is that of the
    file it writes; without one ``path`` is a folder. With ``verify`` it compares what it
    wrote with the model, before anything stands at ``path``, and raises where they differ.

    >>> @register_exporter("names_example", suffix=".txt")
    ... def names(model, path, example, *, verify):
    ...     '''The names of the parameters.'''
    ...     path.write_text("\\\\n".join(name for name, _ in model.named_parameters()))
    ...     return Exported("names_example", path, (path,))
    >>> exporter_named("names_example").summary
    'The names of the parameters.'
    >>> del _exporters["names_example"]
    """

    def add(write: Write) -> Write:
        if not name.isidentifier():
            raise DovetailError(f"{name!r} cannot name an exporter; use letters and digits")
        if name in _exporters and _exporters[name].write is not write:
            raise DovetailError(f"an exporter {name!r} exists already; choose another name")
        _exporters[name] = Exporter(name, write, suffix)
        return write

    return add


def exporters_known() -> dict[str, Exporter]:
    """Every exporter by its name, those of plugins included.

    >>> {"golden", "onnx"} <= exporters_known().keys()
    True
    """
    for own in ("onnx.exporter", "golden.exporter"):
        import_module(f"dovetail.interchange.{own}")
    load_plugins()
    return dict(sorted(_exporters.items()))


def exporter_named(name: str) -> Exporter:
    """The exporter of that name; refused, with the nearest, if there is none."""
    known = exporters_known()
    if name not in known:
        raise unknown("exporter", name, known)
    return known[name]


def exporter_for(path: str) -> Exporter:
    """The exporter whose files end as ``path`` does.

    >>> exporter_for("out/model.onnx").name
    'onnx'
    """
    found = [e for e in exporters_known().values() if e.suffix and path.endswith(e.suffix)]
    if not found:
        named = ", ".join(f"'{name}'" for name in exporters_known())
        raise DovetailError(
            f"'{path}' does not say what to export: end it in a suffix such as .onnx, or give to= "
            f"one of {named}"
        )
    return found[0]
