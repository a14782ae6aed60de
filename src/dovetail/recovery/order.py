"""Recipes that may not follow another: they would undo what it won, or correct an error twice.

What stands in the way is read from the model itself, so it is known after ``dv.load_state`` and of
copies, too: hidden tensors are listed by their site, and remapped weights are told by a fingerprint
of the parameter. Weights that were trained since are others, and free.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from dovetail.emulation.site import Site
from dovetail.emulation.transforms import add_transform, tensors
from dovetail.errors import DovetailError
from dovetail.recovery.journal import Journal
from dovetail.recovery.parameters import Held

__all__ = ["note_remapped", "refuse_late"]

_REWRITING = frozenset({"equalise", "smoothquant", "awq", "rotate", "gptq", "adaround"})


class _Stands(NamedTuple):
    """What a transform says was done, and which recipes may not follow it."""

    recipe: str
    refused: frozenset[str]
    why: str


_STANDS = {
    "remapped": _Stands(
        "remap_weights",
        _REWRITING | {"remap_weights", "control_variate", "correct_bias"},
        "it would take the remapped weights for those that the products should be of",
    ),
    "variate": _Stands(
        "control_variate",
        _REWRITING | {"remap_weights", "control_variate"},
        "what is subtracted was fitted to the codes as they are",
    ),
    "shift": _Stands(
        "correct_bias",
        frozenset({"remap_weights", "control_variate"}),
        "the error that it takes away would be taken away twice",
    ),
}


class _Operation(Protocol):
    module: nn.Module
    site: Site | None
    weight: Held | None

    @property
    def key(self) -> str: ...


def refuse_late(recipe: str, chosen: Iterable[_Operation]) -> None:
    """Refuse a recipe that would spoil what an earlier one did to a chosen operation.

    >>> refuse_late("correct_bias", [])
    """
    for op in chosen:
        for kind in _standing(op):
            stands = _STANDS[kind]
            if recipe in stands.refused:
                raise DovetailError(
                    f"{recipe} cannot follow {stands.recipe}, which changed {op.key}: "
                    f"{stands.why}. Undo {stands.recipe}, carry out {recipe} first if both are "
                    "to stand and it may come first, or leave the operation out by select="
                )


def note_remapped(op: _Operation, journal: Journal) -> None:
    """Note that the weight, as it is now, is a remapped one."""
    assert op.site is not None
    assert op.weight is not None
    journal.save(op.module)
    add_transform(op.site, op.module, "remapped", {"of": _fingerprint(op.weight.read())})


def _standing(op: _Operation) -> list[str]:
    if op.site is None:
        return []
    found = []
    for _, kind, parts in tensors(op.site, op.module):
        if kind == "remapped":
            held = op.weight
            if held is None or not torch.equal(_fingerprint(held.read()), parts["of"]):
                continue
        if kind in _STANDS:
            found.append(kind)
    return found


def _fingerprint(weight: Tensor) -> Tensor:
    """Equal for equal bits, and hardly ever for others."""
    width = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[weight.element_size()]
    bits = weight.contiguous().flatten().view(width).to(torch.int64)
    return (bits * (2 * torch.arange(len(bits), device=bits.device) + 1)).sum()
