"""`dv.cost`: the operations of a model or a plan, priced by tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dovetail.arithmetic import Arithmetic
from dovetail.costs.accumulating import price_of_sum
from dovetail.costs.memory import bytes_moved, energy_of_memory, rule_of_memory
from dovetail.costs.operands import Float, Operand, of_dtype, of_format
from dovetail.costs.operations import Operations, Price
from dovetail.costs.report import CostReport, CostRow
from dovetail.costs.tables import Tables, tables_for
from dovetail.emulation import Plan
from dovetail.emulation import plan as plan_for
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.swap import is_emulated
from dovetail.emulation.taps import emulation_of
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.kinds import KINDS
from dovetail.multipliers import FloatMultiplier
from dovetail.recipe import Recipe

if TYPE_CHECKING:
    from dovetail.costs.files import CostTable

__all__ = ["cost"]

#: Elementwise operations that are one addition or one product.
_ELEMENTWISE = {"add": "add", "sub": "add", "mul": "multiply"}
_ALWAYS = (
    "counted: products, their sums, elementwise additions and products, and reading and writing "
    "tensors; not counted: casts, scales, zero points, biases, control, wires, leakage"
)


def cost(
    model: nn.Module | Plan,
    example: Any = None,
    *,
    tables: str | Path | CostTable | Sequence[str | Path | CostTable] | None = None,
    node: float | None = None,
) -> CostReport:
    """Products, bytes, energy, area and delay of every operation, on the example batch.

    ``model`` is a plan or an emulated model, made with an example, or any other model with
    ``example`` (a tensor, a tuple of positional arguments or a dict of keyword arguments), which
    then computes as torch does. ``tables`` says what operations cost: names of built-in tables
    (``horowitz2014``, 45 nm; ``jouppi2021``, 7 nm), paths of YAML files, or a list of them, of
    which the first that knows a figure wins; by default the built-in one of ``node`` (45).

    A multiplier's product takes the energy of the exact one of its width times what its circuit
    takes of the exact circuit: as measured, or estimated by unit gates. What is not known is None,
    with what to declare in ``missing``; everything assumed is in ``assumptions``.

    >>> import dovetail as dv
    >>> rule = dv.rule(input="int8", weight="int8", acc="int32")
    >>> found = cost(dv.plan(nn.Linear(16, 4), dv.Recipe(rule), torch.zeros(2, 16)))
    >>> found["."].macs, round(found.energy_pj, 6)          # 128 * (0.2 + 0.1) pJ
    (128, 38.4)
    """
    plan = _plan_of(model, example)
    declared = tables_for(tables, node)
    ops = Operations(declared)
    rows, uncounted = [], Counter[str]()
    for op in (*plan.ops, *plan.exact):
        known = KINDS[op.kind].is_product or op.kind in (*_ELEMENTWISE, *declared.functions)
        if known:
            rows.append(_row(ops, op))
        else:
            uncounted[op.kind] += 1
    shown = tuple(
        f"{count} {kind}: declare 'functions: {{{kind}: <pJ per output element>}}' in a table"
        for kind, count in uncounted.items()
    )
    notes = dict.fromkeys((_ALWAYS, *rule_of_memory(declared), *declared.sources, *declared.rules))
    for row in rows:
        notes.update(dict.fromkeys(row.how))
    return CostReport(tuple(rows), declared.node, tuple(notes), shown)


def _plan_of(model: nn.Module | Plan, example: Any) -> Plan:
    if isinstance(model, Plan):
        plan = model
    elif not isinstance(model, nn.Module):
        raise DovetailError(
            f"give a model or a plan, dv.plan(model, recipe, example), not {model!r}"
        )
    elif any(is_emulated(module) for module in model.modules()):
        plan = emulation_of(model).plan
    elif example is None:
        raise DovetailError("this model is not emulated: give an example, dv.cost(model, example)")
    else:
        return plan_for(model, Recipe(), example)
    products = [op for op in (*plan.ops, *plan.exact) if KINDS[op.kind].is_product]
    if any(op.macs is None and op.input_shape is None for op in products):
        raise DovetailError(
            "the plan was made without an example, so it counts no products: give one, "
            "dv.plan(model, recipe, example) or dv.apply_(model, recipe, example)"
        )
    return plan


def _row(ops: Operations, op: PlannedOp) -> CostRow:
    arithmetic = op.arithmetic
    density = 1.0 if arithmetic.sparsity is None else arithmetic.sparsity.density
    product = KINDS[op.kind].is_product
    macs = (op.macs or 0) if product else None
    flops = None if density is None or macs is None else macs * density
    dtype = op.dtype or torch.get_default_dtype()
    moved = bytes_moved(op, density, dtype)
    prices, exact = _priced(ops, op, dtype, flops)
    multiply, accumulate = prices
    how = [p.how for p, _ in (*multiply, *accumulate) if p.how]
    if arithmetic.sparsity is not None:
        how.append("products of dropped weights are skipped")
    area = [p.area_um2 for p, _ in (*multiply[:1], *accumulate)]
    return CostRow(
        key=op.key,
        kind=op.kind,
        macs=macs,
        density=density,
        flops=flops,
        bops=None if flops is None else flops * moved.input_bits * moved.weight_bits,
        weights=moved.weights,
        weight_bytes=moved.weight_bytes,
        activation_bytes=moved.activation_bytes,
        multiply_pj=_energy(multiply),
        accumulate_pj=_energy(accumulate),
        memory_pj=energy_of_memory(ops.tables, op, moved, flops),
        exact_pj=_energy(exact),
        area_um2=None if None in area else math.fsum(a for a in area if a is not None),
        delay_ns=multiply[0][0].delay_ns if multiply else None,
        how=tuple(dict.fromkeys(how)),
        missing=tuple(dict.fromkeys(p.missing for p, _ in (*multiply, *accumulate) if p.missing))
        + (("declare 'sparsity' with a fixed share of weights",) if density is None else ()),
    )


Counted = list[tuple[Price, "float | None"]]


def _priced(
    ops: Operations, op: PlannedOp, dtype: torch.dtype, flops: float | None
) -> tuple[tuple[Counted, Counted], Counted]:
    """How often which price is paid: for products, for sums, and for exact products."""
    arithmetic = op.arithmetic
    if op.kind in ops.tables.functions:
        declared = ops.tables.functions[op.kind]
        how = f"{op.kind}: {declared.energy_pj} pJ for each output element ({declared.table})"
        price = Price(declared.energy_pj, declared.area_um2, declared.delay_ns, how)
        return ([(price, float(op.elements.get("output", 0)))], []), []
    first, second, note = _operands(ops.tables, arithmetic, op, dtype)
    if op.kind in _ELEMENTWISE:
        count = float(op.elements.get("output", 0))
        if _ELEMENTWISE[op.kind] == "add":
            return ([], [(ops.add(_wider(first, second)), count)]), []
        price = ops.multiply(first, second)
        return ([(price, count)], []), [(price, count)]
    price = ops.by(arithmetic.mul, first, second)
    price = replace(price, how=f"{note}{price.how}")
    depth = op.reduction or 1
    if op.product == "exact blocks" and op.kind == "conv" and op.weight_shape is not None:
        depth = op.weight_shape[1]  # blocks of channels, tap by tap
    sums = price_of_sum(ops, arithmetic, first, second, depth, op.product or "")
    adds = [(one.price, None if flops is None else flops * one.share) for one in sums]
    return ([(price, flops)], list(adds)), [(ops.multiply(first, second), flops)]


def _operands(
    tables: Tables, arithmetic: Arithmetic, op: PlannedOp, dtype: torch.dtype
) -> tuple[Operand, Operand, str]:
    """What the products are of: elements of blocks multiplied as such, else values of like kind
    unless a table has their product; and that in words, where it is not what the formats say."""
    if isinstance(arithmetic.mul, FloatMultiplier):
        operand = Float(arithmetic.mul.format.exponent, arithmetic.mul.format.mantissa + 1)
        return operand, operand, ""
    slots = ("input", "weight" if KINDS[op.kind].is_product else "other")
    formats = [getattr(arithmetic, slot) for slot in slots]
    if op.product == "exact blocks":
        formats = [fmt.element for fmt in formats]
    first, second = (_operand(fmt, dtype) for fmt in formats)
    if type(first) is not type(second) and (first, second) not in tables.multiply:
        whole = [o for o in (first, second) if isinstance(o, Float)]
        other = whole[0] if whole else of_dtype(dtype)
        return other, other, f"{first} x {second} multiplied as {other}; "
    return first, second, ""


def _operand(fmt: Format | None, dtype: torch.dtype) -> Operand:
    found = None if fmt is None else of_format(getattr(fmt, "inner", fmt))
    return of_dtype(dtype) if found is None else found


def _wider(first: Operand, second: Operand) -> Operand:
    return max(first, second, key=lambda o: getattr(o, "bits", getattr(o, "significand", 0)))


def _energy(counted: Counted) -> float | None:
    """The sum of counts times energies; what happens never costs nothing, known or not."""
    total = 0.0
    for price, count in counted:
        if count == 0:
            continue
        if price.energy_pj is None or count is None:
            return None
        total += price.energy_pj * count
    return total
