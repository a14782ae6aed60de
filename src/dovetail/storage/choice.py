"""Which tensor of a state dict is stored in which format, and along which axis."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation import PlannedOp, Watched, apply_, remove_, tap
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.state import sites
from dovetail.emulation.taps import emulation_of
from dovetail.emulation.weights import as_multiplied, changing
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
) -> tuple[dict[str, Choice], dict[str, Tensor]]:
    """The formats that a recipe (None: the one applied to ``model``) gives weights and biases, and
    the tensors to store, of which sparse weights have zeros where their masks keep nothing.

    A weight gets its rule's ``weight_storage``, else its ``weight``, a bias its ``bias``. Found are
    the parameters of linear and conv modules, and with an ``example``, which the model is run on,
    those of linear and conv operations that are called as functions.
    """
    found = _Found(tensors)
    if recipe is not None:
        apply_(model, recipe, example)
    try:
        with torch.no_grad():
            emulation_of(model)
            found.add_modules(model)
            if example is not None:
                with tap(model, found.watch):
                    _run(model, example)
    finally:
        if recipe is not None:
            remove_(model)
    return found.choices(), found.stored()


class _Found:
    """Formats of the tensors of a state dict, by where those lie in memory."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.starts = {x.data_ptr(): x for x in tensors.values() if x.numel()}
        self.chosen: dict[tuple[Any, ...], tuple[Choice | None, str]] = {}
        self.sparse: dict[tuple[Any, ...], tuple[Tensor, str]] = {}

    def add_modules(self, model: nn.Module) -> None:
        for site, module in sites(model):
            if site.op.address.bare:
                for slot in ("weight", "bias"):
                    value = module._parameters.get(slot, getattr(module, slot, None))
                    if isinstance(value, Tensor) and not self.add(site, module, slot, value):
                        raise DovetailError(
                            f"{site.op.key}: its {slot} is not in the state dict but computed at "
                            "every call, as by a parametrization: make it an ordinary parameter "
                            "first"
                        )

    def watch(self, op: PlannedOp, call: Watched) -> None:
        """Note the operands of one call that are tensors of the state dict, or views of them."""
        for slot, value in call.operands.items():
            if slot in ("weight", "bias") and slot not in KINDS[op.kind].activations:
                self.add(call.site, call.module, slot, value)

    def add(self, site: Site, module: nn.Module, slot: str, value: Tensor) -> bool:
        """False if the value is rounded or sparse, and no tensor of the state dict."""
        op, a = site.op, site.arithmetic
        fmt = a.bias if slot == "bias" else a.weight_storage or a.weight
        fmt = None if isinstance(fmt, Same) else fmt
        is_sparse = slot == "weight" and site.sparsity is not None
        if (fmt is None and not is_sparse) or not value.numel():
            return True
        what = changing(site, slot)
        if what is not None:
            raise DovetailError(
                f"{op.key}: its {slot} cannot be stored, as its {what} changes it at every call; "
                "store the model before it is recovered"
            )
        held = self.starts.get(value.data_ptr())
        axes = None if held is None else _axes(value, held)
        if held is None or axes is None:
            return False
        turned = op.kind == "conv_transpose" and slot == "weight"  # a module's own, as it lies
        choice = None if fmt is None else _choice(op, slot, value, fmt, axes, module, turned)
        before, other = self.chosen.setdefault(place(held), (choice, op.key))
        if before != choice:
            kinds = [c.format if c is not None else "as it is" for c in (choice, before)]
            raise DovetailError(
                f"{op.key} and {other} share one {slot}, but the rules store it as {kinds[0]} "
                f"and {kinds[1]}: give both the same format"
            )
        if is_sparse:
            kind = op.kind if turned else ""
            weight = as_multiplied(kind, module, value)
            kept = as_multiplied(kind, module, sparse_weight(site, module, weight))
            self._add_sparse(op, held, kept.permute([axes.index(d) for d in range(kept.dim())]))
        return True

    def _add_sparse(self, op: PlannedOp, held: Tensor, kept: Tensor) -> None:
        before, other = self.sparse.setdefault(place(held), (kept.contiguous(), op.key))
        if not torch.equal(before, kept):
            raise DovetailError(
                f"{op.key} and {other} share one weight, but keep different parts of it: give both "
                "the same sparsity"
            )

    def choices(self) -> dict[str, Choice]:
        found = ((name, self.chosen.get(place(x))) for name, x in self.tensors.items())
        return {name: entry[0] for name, entry in found if entry is not None and entry[0]}

    def stored(self) -> dict[str, Tensor]:
        """The tensors, sparse ones with their zeros; what was one tensor still is."""
        found = ((name, x, self.sparse.get(place(x))) for name, x in self.tensors.items())
        return {name: x if entry is None else entry[0] for name, x, entry in found}


def _choice(
    op: PlannedOp,
    slot: str,
    value: Tensor,
    fmt: Format,
    axes: list[int],
    module: nn.Module,
    turned: bool,
) -> Choice:
    axis: int | None = block_axis(op.kind, slot)
    if isinstance(fmt, IntFormat) and fmt.group is None:
        axis = fmt.axis_for(slot)
    if isinstance(fmt, BlockFormat) and fmt.axis is not None:
        axis = fmt.axis
    if axis is None or not isinstance(fmt, (IntFormat, BlockFormat)):
        return Choice(fmt)
    axis %= value.dim()
    if turned and axis < 2:
        if module.groups != 1:
            raise DovetailError(
                f"{op.key}: the groups of a transposed convolution have no common axis along which "
                f"weight={fmt} could be stored; the nearest that can is one scale for all, such as "
                "'int8(per_tensor)'"
            )
        axis = 1 - axis
    return Choice(fmt, axes[axis])


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
