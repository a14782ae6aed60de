"""Which tensor of a state dict is stored in which format, and along which axis."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation import Plan, PlannedOp, Watched, apply_, plan, remove_, tap
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.formats import BlockFormat, Format, IntFormat, Same
from dovetail.formats import format as to_format
from dovetail.formats.codes import Codes, encode
from dovetail.kinds import KINDS, block_axis
from dovetail.recipe import Recipe

__all__ = ["Choice", "by_name", "by_recipe", "place"]

_ENCODABLE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Choice:
    """A format, and the axis of its blocks or channels (None: the format's default)."""

    format: Format
    axis: int | None = None

    def encode(self, x: Tensor, nan: str) -> Codes:
        """``x`` in this format."""
        fmt = self.format
        if isinstance(fmt, IntFormat) and fmt.group is None:
            return encode(x, fmt, channel=self.axis, nan=nan)
        if isinstance(fmt, BlockFormat) and self.axis is not None and fmt.axis is not None:
            changes: dict[str, Any] = {"axis": self.axis}
            fmt = replace(fmt, **changes)  # type: ignore[type-var]
        return encode(x, fmt, self.axis, nan=nan)


def place(x: Tensor) -> tuple[Any, ...]:
    """What two tensors have in common that are one piece of memory, seen alike."""
    return (x.data_ptr(), x.dtype, x.device, tuple(x.shape), x.stride()) if x.numel() else (id(x),)


def by_name(
    tensors: Mapping[str, Tensor], formats: Mapping[str, str | Format]
) -> dict[str, Choice]:
    """For every floating tensor the format of the last glob that matches its name.

    An integer format has one scale per index of axis 0 for tensors of two or more dimensions, one
    for the others.

    >>> weights = {"fc.weight": torch.ones(4, 8), "fc.bias": torch.ones(4)}
    >>> by_name(weights, {"*": "int8", "*.weight": "mxfp4"})["fc.weight"]
    Choice(format=mxfp4, axis=None)
    """
    read = {glob: to_format(fmt) for glob, fmt in formats.items()}
    chosen: dict[str, Choice] = {}
    for glob, fmt in read.items():
        names = [name for name in tensors if fnmatch.fnmatchcase(name, glob)]
        if not names:
            raise DovetailError(f"'{glob}' matches no tensor; there are {', '.join(tensors)}")
        for name in names:
            x = tensors[name]
            if x.dtype in _ENCODABLE:
                channels = isinstance(fmt, IntFormat) and fmt.group is None and x.dim() >= 2
                axis = fmt.axis_for("weight") if isinstance(fmt, IntFormat) else None
                chosen[name] = Choice(fmt, axis if channels else None)
    return {name: choice for name, choice in chosen.items() if not isinstance(choice.format, Same)}


def by_recipe(
    model: nn.Module, recipe: Recipe | None, example: Any, tensors: Mapping[str, Tensor]
) -> dict[str, Choice]:
    """The formats that a recipe (None: the one applied to ``model``) gives weights and biases.

    A weight gets its rule's ``weight_storage``, else its ``weight``, a bias its ``bias``. Found are
    the parameters of linear and conv modules, and with an ``example``, which the model is run on,
    those of linear and conv operations that are called as functions.
    """
    found = _Found(tensors)
    if recipe is None:
        found.add_modules(model, emulation_of(model).plan)
        if example is not None:
            with tap(model, found.watch):
                _run(model, example)
        return found.choices()
    planned = plan(model, recipe, example)
    found.add_modules(model, planned)
    if example is not None and any(not op.address.bare for op in planned):
        apply_(model, recipe, example)
        try:
            with tap(model, found.watch):
                _run(model, example)
        finally:
            remove_(model)
    return found.choices()


class _Found:
    """Formats of the tensors of a state dict, by where those lie in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.starts = {x.data_ptr(): x for x in tensors.values() if x.numel()}
        self.chosen: dict[tuple[Any, ...], tuple[Choice, str]] = {}

    def add_modules(self, model: nn.Module, planned: Plan) -> None:
        for op in planned:
            if op.address.bare:
                module = model.get_submodule(op.path)
                for slot in ("weight", "bias"):
                    value = getattr(module, slot, None)
                    if isinstance(value, Tensor) and not self.add(op, slot, value):
                        raise DovetailError(
                            f"{op.key}: its {slot} is not in the state dict but computed at every "
                            "call, as by a parametrization: make it an ordinary parameter first"
                        )

    def watch(self, op: PlannedOp, call: Watched) -> None:
        """Note the operands of one call that are tensors of the state dict, or views of them."""
        for slot, value in call.operands.items():
            if slot in ("weight", "bias") and slot not in KINDS[op.kind].activations:
                self.add(op, slot, value)

    def add(self, op: PlannedOp, slot: str, value: Tensor) -> bool:
        """False if the value has a format and is no tensor of the state dict."""
        a = op.arithmetic
        fmt = a.bias if slot == "bias" else a.weight_storage or a.weight
        if fmt is None or isinstance(fmt, Same) or not value.numel():
            return True
        held = self.starts.get(value.data_ptr())
        axes = None if held is None else _axes(value, held)
        if held is None or axes is None:
            return False
        axis: int | None = block_axis(op.kind, slot)
        if isinstance(fmt, IntFormat) and fmt.group is None:
            axis = fmt.axis_for(slot)
        if isinstance(fmt, BlockFormat) and fmt.axis is not None:
            axis = fmt.axis
        blocked = isinstance(fmt, (IntFormat, BlockFormat)) and axis is not None
        choice = Choice(fmt, axes[axis % value.dim()] if blocked and axis is not None else None)
        before, other = self.chosen.setdefault(place(held), (choice, op.key))
        if before != choice:
            raise DovetailError(
                f"{op.key} and {other} share one {slot}, but the rules store it as {choice.format} "
                f"and {before.format}: give both the same format"
            )
        return True

    def choices(self) -> dict[str, Choice]:
        found = ((name, self.chosen.get(place(x))) for name, x in self.tensors.items())
        return {name: entry[0] for name, entry in found if entry is not None}


def _axes(view: Tensor, whole: Tensor) -> list[int] | None:
    """For each axis of ``view`` the one of ``whole`` that it is; None if it is no permutation."""
    order = sorted(range(view.dim()), key=lambda d: (view.stride()[d], view.shape[d]))
    goal = sorted(range(whole.dim()), key=lambda d: (whole.stride()[d], whole.shape[d]))
    pairs = list(zip(order, goal, strict=False))
    alike = all(
        (view.shape[v], view.stride(v)) == (whole.shape[w], whole.stride(w)) for v, w in pairs
    )
    if view.dim() != whole.dim() or not alike:
        return None
    return [w for _, w in sorted(pairs)]


def _run(model: nn.Module, example: Any) -> None:
    """One forward call in eval mode without gradients."""
    flags = {module: module.training for module in model.modules()}
    for module in flags:
        module.training = False
    try:
        with torch.no_grad():
            if isinstance(example, Mapping):
                model(**example)
            else:
                model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for module, flag in flags.items():
            module.training = flag
