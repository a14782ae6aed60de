"""``dv.plan``: resolve a recipe against a model, and refuse what cannot be, before any compute."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.arithmetic import EXACT, Arithmetic
from dovetail.emulation.block_products import how_multiplied
from dovetail.emulation.operators import norm_offset, slot_of
from dovetail.emulation.planned import Plan, PlannedOp
from dovetail.emulation.seen import Seen, Trace
from dovetail.emulation.trace import trace
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.formats.operand import check_operand
from dovetail.formats.shaped import Shaped
from dovetail.kinds import KINDS, block_axis
from dovetail.recipe import OpAddress, Recipe, Rule

__all__ = ["aliases_of", "check_matches", "plan", "planned", "resolve"]


def plan(model: nn.Module, recipe: Recipe, example: Any = None) -> Plan:
    """Which operation of ``model`` gets which arithmetic, and from which rule; a dry run.

    ``example`` is a tensor, a tuple of positional arguments or a dict of keyword arguments; the
    model runs on it once, in eval mode, and is left as it was. Without an example only modules
    that exist for one operation, such as ``nn.Linear``, are found. Refused: a rule that matches
    nothing, a field that no matched operation has, operand formats that the multiplier or the
    accumulator cannot take, a model emulated already.

    >>> import torch
    >>> from dovetail.recipe import rule
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> found = plan(net, Recipe(rule("2", input="int8", weight="int4")), torch.zeros(1, 4))
    >>> [op.key for op in found], found.left_exact
    (['2'], ('0', '1'))
    """
    return resolve(model, recipe, trace(model, example))


def resolve(model: nn.Module, recipe: Recipe, found: Trace) -> Plan:
    """The plan for what an example run found."""
    if not isinstance(recipe, Recipe):
        raise DovetailError(f"a recipe is dv.Recipe(dv.rule(...), ...), not {recipe!r}")
    aliases = aliases_of(model)
    check_matches(recipe, found, aliases)
    ops, left = [], []
    for seen in found.seen.values():
        op = planned(recipe, seen, aliases)
        if op.arithmetic.is_exact:
            left.append(op)
        else:
            ops.append(op)
    ranges = "example" if found.has_example else "missing"
    return Plan(recipe, tuple(ops), tuple(left), tuple(sorted(found.uncovered)), ranges)


def planned(recipe: Recipe, seen: Seen, aliases: dict[str, list[str]]) -> PlannedOp:
    """One operation as the recipe has it; refuses what cannot be."""
    address = seen.address
    arithmetic, origin = recipe.resolve(address)
    for other in aliases.get(address.path, ()):
        theirs, _ = recipe.resolve(replace(address, path=other))
        if theirs != arithmetic:
            raise DovetailError(
                f"'{address.path}' and '{other}' are one shared module, but the rules give them "
                f"different arithmetic: match both alike"
            )
    try:
        arithmetic.check(address.kind)
        _check_shapes(arithmetic, seen)
        if arithmetic.sparsity is not None and seen.weight is not None:
            axis = block_axis(address.kind, "weight")
            arithmetic.sparsity.pattern.check(tuple(seen.weight.shape), axis)
        if arithmetic.fn is not None and norm_offset(seen.module) is None:
            raise DovetailError(
                f"fn={arithmetic.fn} computes torch's {address.kind} (an rms_norm scaled by the "
                f"weight, or by 1 + weight), and {type(seen.module).__name__} computes another: "
                "give it formats only"
            )
    except DovetailError as error:
        rules = ", ".join(dict.fromkeys(rule.label for rule in origin.values()))
        raise DovetailError(f"{address.key} ({rules}): {error}") from None
    facts = KINDS[address.kind]
    return PlannedOp(
        address,
        arithmetic,
        origin,
        type(seen.module).__name__,
        seen.shapes.get("input"),
        seen.shapes.get("weight"),
        seen.shapes.get("output"),
        seen.macs or None,
        seen.reduction or None,
        max(1, seen.calls),
        how_multiplied(arithmetic, address.kind, seen.geometry) if facts.is_product else None,
        dict(seen.elements),
        seen.dtype,
    )


def _check_shapes(arithmetic: Arithmetic, seen: Seen) -> None:
    """Refuse axes and shapes of formats that the operands of the example have not."""
    for slot, shape in seen.shapes.items():
        fmt = getattr(arithmetic, slot_of(slot), None)
        if isinstance(fmt, Format):
            try:
                _fit(torch.empty(shape, device="meta"), fmt)
            except DovetailError as error:
                raise DovetailError(f"{slot}: {error}") from None


def _fit(x: Tensor, fmt: Format) -> Tensor:
    check_operand("cast", x, fmt, getattr(fmt, "axis", None))
    return fmt.cast_with(x, _fit) if isinstance(fmt, Shaped) else x


def check_matches(recipe: Recipe, found: Trace, aliases: dict[str, list[str]]) -> None:
    addresses = [
        replace(seen.address, path=path)
        for seen in found.seen.values()
        for path in (seen.address.path, *aliases.get(seen.address.path, ()))
    ]
    for rule in recipe:
        matched = [address for address in addresses if rule.selector.matches(address)]
        if matched:
            _check_fields(rule, matched)
        elif not rule.optional:
            raise DovetailError(f"{rule.label}: {rule.selector} {_missed(rule, addresses, found)}")


def _check_fields(rule: Rule, matched: list[OpAddress]) -> None:
    """Refuse a field that none of the matched operations has; what they have not is exact."""
    kinds = list(dict.fromkeys(address.kind for address in matched))
    for name, value in rule.fields.items():
        if value != getattr(EXACT, name) and not any(KINDS[kind].takes(name) for kind in kinds):
            first = KINDS[kinds[0]]
            raise DovetailError(
                f"{rule.label}: {rule.selector} sets {name}, which {' and '.join(kinds)} "
                f"{'has' if len(kinds) == 1 else 'have'} not: '{matched[0].key}' takes "
                f"{', '.join(first.fields)}"
            )


def _missed(rule: Rule, addresses: list[OpAddress], found: Trace) -> str:
    for place, name in found.uncovered.items():
        path = place.rsplit(":", 1)[0]
        kinds = [kind for kind, facts in KINDS.items() if facts.is_product]
        if any(rule.selector.matches(OpAddress(path, kind)) for kind in kinds):
            return f"matches only '{place}', and no rule can reach the operation {name} yet"
    if rule.selector.op is None:
        anything = replace(rule.selector, op="*")
        others = [address for address in addresses if anything.matches(address)]
        if others:
            return (
                f"matches no product, only '{others[0].key}', which is {others[0].kind}: say "
                f"op='{others[0].kind}', or op='*' for every kind"
            )
    example = "" if found.has_example else " Operations called as functions need an example."
    of_kind = [address for address in addresses if address.kind in rule.selector.kinds]
    if not of_kind:
        kinds = sorted({address.kind for address in addresses})
        return f"matches no operation. Kinds of operation here: {_some(kinds)}.{example}"
    wanted = rule.selector.type
    types = sorted({name for address in of_kind for name in address.types[:1]})
    if wanted is not None and not any(wanted in address.types for address in of_kind):
        near = difflib.get_close_matches(wanted, types, n=1, cutoff=0.5)
        listed = f"Types of module here: {_some(types)}"
    else:
        keys = [address.key for address in of_kind]
        near = difflib.get_close_matches(rule.selector.match.strip("*"), keys, n=1, cutoff=0.3)
        listed = f"Operations: {_some(keys)}"
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"matches no operation{hint} {listed}.{example}"


def _some(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + more


def aliases_of(model: nn.Module) -> dict[str, list[str]]:
    """For each module's first path, its other paths."""
    first: dict[int, str] = {}
    others: dict[str, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if id(module) in first:
            others.setdefault(first[id(module)], []).append(path)
        else:
            first[id(module)] = path
    return others
