"""What a planned operation does when it is called: emulate, run exactly, or observe ranges."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dovetail.emulation.accumulating import accumulated
from dovetail.emulation.block_products import multiplies_blocks, product_of_blocks
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.entry import EMULATE, OBSERVE, Emulation, Site
from dovetail.emulation.taps import MacCall
from dovetail.kernels import library

__all__ = ["execute"]


def execute(emulation: Emulation, site: Site, module: nn.Module, call: Call) -> Tensor:
    """The result of one planned call, in normal form."""
    if emulation.status == EMULATE:
        y = _emulate(site, module, call)
    else:
        y = call.exact()
        if emulation.status == OBSERVE:
            _observe(emulation, site, call, y)
    for tap in emulation.taps:
        tap(site.op, MacCall(site, module, call, y.detach()))
    return y


def _observe(emulation: Emulation, site: Site, call: Call, y: Tensor) -> None:
    for slot, value in (("input", call.x), ("weight", call.weight), ("output", y)):
        observer = emulation.observers.get((site.op.key, slot))
        if observer is not None:
            observer.update(value.detach())


def _emulate(site: Site, module: nn.Module, call: Call) -> Tensor:
    arithmetic = site.arithmetic
    bias = call.bias
    if arithmetic.weight_storage is not None:
        stored = cast_slot(call.weight, arithmetic.weight_storage, "weight_storage", site, module)
        call = call.with_operands(call.x, stored, bias)
    if bias is not None and arithmetic.bias is not None:
        bias = cast_slot(bias, arithmetic.bias, "bias", site, module)
    if arithmetic.multiplies_codes or multiplies_blocks(arithmetic, call):
        y = _product_of_codes(site, module, call, bias)
    else:
        x, weight = call.x, call.weight
        if arithmetic.input is not None:
            x = cast_slot(x, arithmetic.input, "input", site, module)
        if arithmetic.weight is not None:
            weight = cast_slot(weight, arithmetic.weight, "weight", site, module)
        operands = call.with_operands(x, weight, bias)
        acc = arithmetic.acc
        y = operands.exact() if acc is None else accumulated(operands, acc)
    if arithmetic.output is not None:
        y = cast_slot(y, arithmetic.output, "output", site, module)
    return y


def _product_of_codes(site: Site, module: nn.Module, call: Call, bias: Tensor | None) -> Tensor:
    if torch._C._are_functorch_transforms_active():
        # Ops registered with torch.library have no derivative under torch.func: take the value
        # from the op, the derivative from an expression that has one, and add exact zeros.
        value = _op(site, module, call.with_operands(*_detached(call, bias)))
        smooth = _straight_through(site, module, call, bias)
        fixed = smooth.detach()
        return value - torch.where(torch.isfinite(fixed), fixed - smooth, torch.zeros_like(fixed))
    return _op(site, module, call.with_operands(call.x, call.weight, bias))


def _detached(call: Call, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return call.x.detach(), call.weight.detach(), None if bias is None else bias.detach()


def _straight_through(site: Site, module: nn.Module, call: Call, bias: Tensor | None) -> Tensor:
    arithmetic = site.arithmetic
    assert arithmetic.input is not None
    assert arithmetic.weight is not None
    x = cast_slot(call.x, arithmetic.input, "input", site, module)
    weight = cast_slot(call.weight, arithmetic.weight, "weight", site, module)
    return call.with_operands(x, weight, bias).exact()


def _op(site: Site, module: nn.Module, call: Call) -> Tensor:
    if multiplies_blocks(site.arithmetic, call):
        return product_of_blocks(call.plain, site.spelling)
    ranges = (*site.range(module, "input"), *site.range(module, "weight"))
    if call.kind == "matmul":
        y = library.matmul(call.x, call.weight, *ranges, site.spelling)
    elif call.kind == "linear":
        y = library.linear(call.x, call.weight, call.bias, *ranges, site.spelling)
    else:
        call = call.plain
        g = call.geometry
        padding = [p for pair in g.padding for p in pair]
        window = (list(g.stride), padding, list(g.dilation), g.groups)
        y = library.conv(call.x, call.weight, call.bias, *ranges, *window, site.spelling)
    return cast(Tensor, y)
