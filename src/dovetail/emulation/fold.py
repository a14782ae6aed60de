"""``dv.fold_``: the weights become what they are rounded to, and nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.state import sites
from dovetail.emulation.weights import as_multiplied, changing
from dovetail.errors import DovetailError
from dovetail.formats import Format, IntFormat
from dovetail.formats.realise import is_stochastic
from dovetail.kernels.ranges import operand_range

__all__ = ["fold_"]


@dataclass(frozen=True)
class _Folded:
    key: str
    parameter: nn.Parameter
    value: Tensor


def fold_(model: nn.Module) -> list[str]:
    """Write into every parameter of an emulated model the values that its rules make of it.

    Weights are masked, rounded to their storage and to the format they multiply in, biases to
    theirs; the rules stay, and the model computes the same bits as before. Returns what was folded.
    Operations that are not a module's own (``F.linear`` on a parameter) are left as they are.

    Refused before anything is changed: a rounding that would round its own result once more
    (stochastic, or an affine one whose scale comes out different), parameters that two operations
    share but round differently, and those that a recovery recipe changes anew at every call.

    >>> import dovetail as dv
    >>> net = nn.Linear(64, 2)
    >>> _ = dv.apply_(net, dv.Recipe(dv.rule(weight="mxfp4")), torch.ones(1, 64))
    >>> before = net(torch.ones(1, 64))
    >>> fold_(net), torch.equal(net(torch.ones(1, 64)), before)
    (['weight'], True)
    """
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, _Folded] = {}
    with torch.no_grad():
        for site, module in sites(model):
            for slot in ("weight", "bias"):
                folded = _folded(site, module, slot)
                if folded is not None:
                    _add(found, names[id(folded.parameter)], folded)
        _check_shared(model, found, names)
        for item in found.values():
            item.parameter.copy_(item.value)
    return list(found)


def _folded(site: Site, module: nn.Module, slot: str) -> _Folded | None:
    parameter = module._parameters.get(slot) if site.op.address.bare else None
    if parameter is None or not _touched(site, slot):
        return None
    what = changing(site, slot)
    if what is not None:
        raise DovetailError(
            f"{site.op.key}: its {slot} cannot be folded, as its {what} changes it at every "
            "call: fold_ first, and recover then"
        )
    once = _rounded(site, module, slot, parameter)
    twice = _rounded(site, module, slot, once)
    both = [as_multiplied(site.op.kind, module, w) for w in (parameter, once) if slot == "weight"]
    if not torch.equal(once, twice) or not _same_scales(site, slot, *(both or (parameter, once))):
        fmt = getattr(site.arithmetic, slot)
        raise DovetailError(
            f"{site.op.key}: its {slot} cannot be folded, as {fmt} would round the folded values "
            "once more; the nearest that works is a symmetric one such as 'int8'"
        )
    return _Folded(site.op.key, parameter, once)


def _touched(site: Site, slot: str) -> bool:
    arithmetic = site.arithmetic
    if slot == "bias":
        return arithmetic.bias is not None
    asked = (arithmetic.weight, arithmetic.weight_storage, arithmetic.sparsity)
    return any(value is not None for value in asked)


def _rounded(site: Site, module: nn.Module, slot: str, value: Tensor) -> Tensor:
    formats: tuple[tuple[str, Format | None], ...] = ((slot, getattr(site.arithmetic, slot)),)
    if slot == "weight":
        value = sparse_weight(site, module, as_multiplied(site.op.kind, module, value))
        formats = (("weight_storage", site.arithmetic.weight_storage), *formats)
    for name, fmt in formats:
        if fmt is not None and is_stochastic(fmt):
            raise DovetailError(f"{site.op.key}: {name}={fmt} rounds anew at every call")
        value = value if fmt is None else cast_slot(value, fmt, name, site, module)
    return as_multiplied(site.op.kind, module, value) if slot == "weight" else value


def _same_scales(site: Site, slot: str, before: Tensor, after: Tensor) -> bool:
    """Whether the codes that are multiplied keep their scale."""
    fmt = getattr(site.arithmetic, slot)
    if not isinstance(fmt, IntFormat) or fmt.group is not None or site.arithmetic.sparsity:
        return True
    ours, theirs = (operand_range(w, fmt, slot, None) for w in (before, after))
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _add(found: dict[str, _Folded], name: str, folded: _Folded) -> None:
    other = found.setdefault(name, folded)
    if not torch.equal(other.value, folded.value):
        raise DovetailError(
            f"'{name}' is shared by {other.key} and {folded.key}, which round it differently"
        )


def _check_shared(model: nn.Module, found: dict[str, _Folded], names: dict[int, str]) -> None:
    """Refuse a parameter that a module outside the plan holds as well."""
    folded = {
        (id(module), slot)
        for site, module in sites(model)
        for slot in ("weight", "bias")
        if site.op.address.bare and _touched(site, slot)
    }
    for path, module in model.named_modules():
        for slot, parameter in module._parameters.items():
            name = names.get(id(parameter)) if parameter is not None else None
            if name in found and (id(module), slot) not in folded:
                raise DovetailError(
                    f"'{name}' is shared by {found[name].key} and {path or '.'}, which does not "
                    "round it"
                )
