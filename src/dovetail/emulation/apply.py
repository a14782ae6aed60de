"""``dv.apply_`` and ``dv.remove_``: put a recipe into a model, and take it out again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dovetail.emulation.entry import Entry
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.operators import norm_offset
from dovetail.emulation.plan import resolve
from dovetail.emulation.planned import Plan
from dovetail.emulation.seen import Seen, Trace
from dovetail.emulation.site import Emulation, Site
from dovetail.emulation.sparsifying import prepare
from dovetail.emulation.stand_in import owners, shields
from dovetail.emulation.swap import swap_in, swap_out
from dovetail.emulation.trace import trace
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.formats.cast import as_integer
from dovetail.formats.quantization import scale_zero_point
from dovetail.kernels.learned_steps import first_step
from dovetail.recipe import OpAddress, Recipe

__all__ = ["SEVERAL", "Fitting", "apply_", "apply_traced_", "fitting", "remove_", "swap_all"]

_HOOK = "_dovetail_hook"
_NESTED = "_dovetail_nested"

#: The key in the ``__dict__`` of a model that knows several recipes under which they stand.
SEVERAL = "_dovetail_several"


def apply_(model: nn.Module, recipe: Recipe, example: Any = None) -> Plan:
    """Emulate the recipe inside ``model``, in place, and return the plan.

    Parameters and ``state_dict()`` stay as they are; ``isinstance`` and ``repr`` too, though
    ``type(m) is C`` no longer holds for emulated modules. ``example`` (see :func:`dovetail.plan`)
    proves that every addressed operation is reached, and gives first ranges to static formats.
    Everything is checked before anything is changed.

    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> from dovetail.recipe import rule
    >>> plan = apply_(net, Recipe(rule("*", input="int8", weight="int8")), torch.ones(1, 4))
    >>> net(torch.ones(1, 4)).shape, len(net.state_dict())
    (torch.Size([1, 2]), 2)
    >>> remove_(net)
    """
    return apply_traced_(model, recipe, trace(model, example))


def apply_traced_(model: nn.Module, recipe: Recipe, found: Trace) -> Plan:
    """:func:`apply_` for an example that was run before, when the model was not emulated."""
    fitted = fitting(model, recipe, found)
    swap_all(model, fitted.entries, fitted.emulation)
    try:
        fitted.fill()
    except BaseException:
        remove_(model)
        raise
    return fitted.plan


@dataclass
class Fitting:
    """A recipe resolved for a model that nothing was done to yet: what its modules get."""

    found: Trace
    plan: Plan
    emulation: Emulation
    entries: dict[nn.Module, Entry]
    ranged: list[tuple[Site, Seen]]

    def fill(self) -> None:
        """Once the modules have their entries: what masks and learned steps start from, and the
        first ranges."""
        _prepare_sparsity(self.found, self.entries)
        _prepare_steps(self.found, self.entries)
        _set_ranges(self.ranged)


def fitting(model: nn.Module, recipe: Recipe, found: Trace) -> Fitting:
    """Resolve the recipe for what an example run found; refuses what cannot be."""
    plan = resolve(model, recipe, found)
    emulation = Emulation(plan)
    entries = _entries(found, emulation)
    return Fitting(found, plan, emulation, entries, _example_ranges(found, entries))


def remove_(model: nn.Module) -> None:
    """Undo :func:`apply_` exactly; a model that is not emulated is left alone.

    >>> remove_(nn.Linear(2, 2))
    """
    for module in model.modules():
        module.__dict__.pop(SEVERAL, None)
        if ENTRY in module.__dict__:
            swap_out(module)
        hook = module.__dict__.pop(_HOOK, None)
        if hook is not None:
            hook.remove()
        if isinstance(module, nn.TransformerEncoder) and module.__dict__.pop(_NESTED, False):
            module.use_nested_tensor = True


def _entries(found: Trace, emulation: Emulation) -> dict[nn.Module, Entry]:
    """One entry for every module that owns an addressed operation."""
    planned = {(op.path, op.kind, op.index): op for op in emulation.plan}
    sites: dict[nn.Module, dict[str, dict[int | None, Site]]] = {}
    for seen in found.seen.values():
        a = seen.address
        op = planned.get((a.path, a.kind, a.index))
        if op is not None:
            site = Site(op)
            if op.arithmetic.fn is not None and (offset := norm_offset(seen.module)):
                site.attributes = {"offset": offset}
            sites.setdefault(seen.module, {}).setdefault(a.kind, {})[a.index] = site
    beyond = _beyond(found, emulation.plan.recipe)
    return {
        module: Entry(emulation, kinds, beyond.get(module, {})) for module, kinds in sites.items()
    }


def _beyond(found: Trace, recipe: Recipe) -> dict[nn.Module, dict[str, tuple[int, str]]]:
    """Repeated calls that the example did not make, but that a rule would address; see Entry."""
    calls: dict[tuple[nn.Module, str], list[OpAddress]] = {}
    for seen in found.seen.values():
        if seen.address.index is not None:
            calls.setdefault((seen.module, seen.address.kind), []).append(seen.address)
    beyond: dict[nn.Module, dict[str, tuple[int, str]]] = {}
    for (module, kind), addresses in calls.items():
        following = replace(addresses[0], index=len(addresses))
        if not recipe.resolve(following)[0].is_exact:
            beyond.setdefault(module, {})[kind] = (len(addresses), following.key)
    return beyond


def swap_all(model: nn.Module, entries: dict[nn.Module, Entry], emulation: Emulation) -> None:
    """Have the modules with an entry, and those below that need one, run under their own mode."""
    done: list[nn.Module] = []
    try:
        for module in _shielded(model, entries):
            swap_in(module, entries.get(module) or Entry(emulation, {}))
            done.append(module)
    except BaseException:
        for module in done:
            swap_out(module)
        raise
    for module in model.modules():
        if not entries.keys().isdisjoint(module.modules()):
            _keep_off_fused_path(module)


def _keep_off_fused_path(module: nn.Module) -> None:
    """Evaluated without gradients, these call none of their sub-modules unless told otherwise."""
    if isinstance(module, nn.TransformerEncoderLayer):
        module.__dict__[_HOOK] = module.register_forward_hook(_nothing)  # any hook will do
    elif isinstance(module, nn.TransformerEncoder) and module.use_nested_tensor:
        module.__dict__[_NESTED] = True
        module.use_nested_tensor = False


def _shielded(model: nn.Module, entries: dict[nn.Module, Entry]) -> list[nn.Module]:
    """The modules with an entry, and all below them: a child's calls are not its parent's."""
    below = {child for module in entries for child in module.modules()}
    computing = [*(module for _, module in owners(model)), *shields(model)]
    return [module for module in computing if module in below]


def _nothing(_module: nn.Module, _args: Any, _output: Any) -> None:
    return None


def _example_ranges(found: Trace, entries: dict[nn.Module, Entry]) -> list[tuple[Site, Seen]]:
    """The sites whose first ranges the example gives; refuses ranges that are not finite."""
    ranged = []
    for seen in found.seen.values():
        entry = entries.get(seen.module)
        site = entry and entry.sites.get(seen.address.kind, {}).get(seen.address.index)
        if not site or any(slot not in seen.ranges for slot in site.buffers):
            continue  # not addressed, or an empty example batch: the ranges stay missing
        if site.ranged_channels:
            continue  # calibration finds them
        for slot in site.buffers:
            low, high = seen.ranges[slot]
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                raise DovetailError(
                    f"{site.op.key}: on the example its {slot} ranges over "
                    f"{float(low)}..{float(high)}, which no integer format covers"
                )
        ranged.append((site, seen))
    return ranged


def _prepare_sparsity(found: Trace, entries: dict[nn.Module, Entry]) -> None:
    for seen in found.seen.values():
        entry = entries.get(seen.module)
        site = entry and entry.sites.get(seen.address.kind, {}).get(seen.address.index)
        if site:
            prepare(site, seen.module, seen.weight)


def _prepare_steps(found: Trace, entries: dict[nn.Module, Entry]) -> None:
    """First values of the weights' learned steps."""
    for seen in found.seen.values():
        entry = entries.get(seen.module)
        site = entry and entry.sites.get(seen.address.kind, {}).get(seen.address.index)
        if not site or "weight" not in site.learned or "weight" in site.buffers:
            continue
        if seen.weight is None:
            raise DovetailError(
                f"{site.op.key}: grad={site.arithmetic.grad} starts from the weight, which only an "
                "example shows: give one to apply_"
            )
        fmt = site.arithmetic.weight
        assert isinstance(fmt, IntFormat)  # the plan was checked
        step = first_step(seen.weight, fmt)
        zero = torch.zeros(step.shape, dtype=torch.int32, device=step.device)
        site.set_range(seen.module, "weight", step, zero)


def _set_ranges(ranged: list[tuple[Site, Seen]]) -> None:
    for site, seen in ranged:
        for slot in site.buffers:
            fmt = as_integer(getattr(site.arithmetic, slot))
            site.set_range(seen.module, slot, *scale_zero_point(fmt, *seen.ranges[slot]))
            site.ranges = "example"
