"""Entries for a while: every module of a model is given another, and its own again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from dovetail.emulation.entry import Reads
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.swap import swap_in, swap_out

__all__ = ["owners", "shields", "standing_in"]


class _Shield:
    """An entry that takes the caller's mode away: what runs inside is nobody's operation."""

    table: ClassVar[dict[Any, Reads | str]] = {}


def shields(model: nn.Module) -> Iterator[nn.Module]:
    """The parametrizations: they compute a weight while its module runs, and stay exact."""
    return (module for module in model.modules() if isinstance(module, ParametrizationList))


def owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module that may own operations; parametrizations compute weights, and are left out."""
    skipped: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if path.startswith(skipped) and skipped:
            continue
        if isinstance(module, ParametrizationList):
            skipped = (*skipped, path + ".")
        elif type(module).forward is not nn.Module.forward or "forward" in module.__dict__:
            yield path, module


@contextmanager
def standing_in(model: nn.Module, make: Callable[[str, nn.Module, Any], Any]) -> Iterator[None]:
    """Within, every module that computes has the entry ``make(path, module, entry)``, where the
    last is the one that it has, ``None`` if it is not emulated."""
    entries: dict[nn.Module, Any] = {}
    try:
        for path, module in owners(model):
            entries[module] = _stand_in(module, make(path, module, module.__dict__.get(ENTRY)))
        for module in shields(model):
            entries[module] = _stand_in(module, _Shield())
        yield
    finally:
        for module, entry in entries.items():
            if entry is None:
                swap_out(module)
            else:
                module.__dict__[ENTRY] = entry


def _stand_in(module: nn.Module, entry: Any) -> Any:
    """Give the module this entry; the one that it has, if it is emulated."""
    emulated = module.__dict__.get(ENTRY)
    if emulated is None:
        swap_in(module, entry)
    else:
        module.__dict__[ENTRY] = entry
    return emulated
