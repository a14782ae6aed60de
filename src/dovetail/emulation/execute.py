"""What a planned operation does when it is called: emulate, run exactly, or observe ranges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dovetail.emulation.accumulating import accumulated
from dovetail.emulation.block_products import (
    multiplies_blocks,
    product_of_blocks,
    with_random_casts,
)
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.derivative import differentiable
from dovetail.emulation.drawn import with_drawn_operands
from dovetail.emulation.float_products import product_of_floats
from dovetail.emulation.hidden import visible
from dovetail.emulation.noisy import product_with_noise
from dovetail.emulation.operate import operate
from dovetail.emulation.operators import OpCall, slot_of
from dovetail.emulation.scoring import weight_of, with_weight
from dovetail.emulation.site import EMULATE, OBSERVE, Emulation, Site
from dovetail.emulation.smooth import with_gradient_of
from dovetail.emulation.sparsifying import sparse_weight
from dovetail.emulation.taps import watched
from dovetail.emulation.transforms import prepared_norm
from dovetail.emulation.variate import variate
from dovetail.emulation.weights import prepared, uncast
from dovetail.kernels import eager
from dovetail.multipliers import FloatMultiplier

__all__ = ["Ranges", "emulated", "execute", "product_of_codes"]

#: Scale and zero point of an input, and of a weight.
Ranges = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def execute(emulation: Emulation, site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
    """The result of one planned call, in normal form."""
    if emulation.performer is not None:
        return emulation.performer(site, module, call)
    raw = None
    if emulation.status == EMULATE:
        raw, y = _raw_and_cast(site, module, call)
    else:
        observing = emulation.status == OBSERVE
        ran = _observable(emulation, site, module, call) if observing else call
        y = ran.exact()
        if observing:
            _observe(emulation, site, ran, y)
    if emulation.taps:
        seen = watched(site, module, call, y.detach(), None if raw is None else raw.detach())
        with torch.random.fork_rng(devices=()):  # who watches draws nothing from what is watched
            for tap in emulation.taps:
                tap(site.op, seen)
    return y


def emulated(site: Site, module: nn.Module, call: Call | OpCall) -> Tensor:
    """The result of one call by the arithmetic of ``site``, in normal form; nobody watches."""
    return _raw_and_cast(site, module, call)[1]


def _raw_and_cast(site: Site, module: nn.Module, call: Call | OpCall) -> tuple[Tensor, Tensor]:
    """The result before and after the cast of the output."""
    raw = _multiply(site, module, call) if isinstance(call, Call) else operate(site, module, call)
    if site.arithmetic.output is None:
        return raw, raw
    return raw, cast_slot(raw, site.arithmetic.output, "output", site, module)


def _observable(
    emulation: Emulation, site: Site, module: nn.Module, call: Call | OpCall
) -> Call | OpCall:
    """The exact call whose ranges are gathered: with its sparse weight and what its transforms make
    of its operands, as these change them, or, where its scores are only being gathered, as it
    is."""
    scorer = emulation.scorers.get(site.op.key)
    if scorer is not None:
        watched_call: Call | OpCall = scorer.watch(call)
        return watched_call
    if isinstance(call, Call):
        return uncast(site, module, call)
    call = prepared_norm(site, module, call)
    if site.sparsity is None:
        return call
    return with_weight(call, sparse_weight(site, module, weight_of(call)))


def _observe(emulation: Emulation, site: Site, call: Call | OpCall, y: Tensor) -> None:
    for name, value in {**call.operands, "output": y}.items():
        observer = emulation.observers.get((site.op.key, slot_of(name)))
        if observer is not None:
            observer.update(visible(call.kind, value.detach()))


def _multiply(site: Site, module: nn.Module, call: Call) -> Tensor:
    arithmetic = site.arithmetic
    call = prepared(site, module, call)
    if call.bias is not None and arithmetic.bias is not None:
        bias = cast_slot(call.bias, arithmetic.bias, "bias", site, module)
        call = call.with_operands(call.x, call.weight, bias)
    if arithmetic.multiplies_codes:
        y = _product_of_codes(site, module, call)
        return y - variate(site, module, call) if "variate" in site.transforms else y
    if multiplies_blocks(arithmetic, call):
        return _product_of_codes(site, module, with_random_casts(site, module, call))
    return _product_of_values(site, module, call)


def _product_of_values(site: Site, module: nn.Module, call: Call) -> Tensor:
    arithmetic = site.arithmetic
    x, weight, acc = call.x, call.weight, arithmetic.acc
    if arithmetic.input is not None:
        # A cast keeps strides, and torch multiplies turned rows by copies of the whole weight.
        x = x.contiguous() if call.kind == "linear" else x
        x = cast_slot(x, arithmetic.input, "input", site, module)
    if arithmetic.weight is not None:
        weight = cast_slot(weight, arithmetic.weight, "weight", site, module)
    operands = call.with_operands(x, weight, call.bias)
    if isinstance(arithmetic.mul, FloatMultiplier):
        return product_of_floats(operands, arithmetic.mul, acc)
    return operands.exact() if acc is None else accumulated(operands, acc)


def _product_of_codes(site: Site, module: nn.Module, call: Call) -> Tensor:
    if site.drawn is not None:
        drawn_site, drawn = with_drawn_operands(site, module, call)
        # What was drawn of half-precision numbers is wider.
        return _codes_multiplied(drawn_site, module, drawn).to(call.x.dtype)
    return _codes_multiplied(site, module, call)


def _codes_multiplied(site: Site, module: nn.Module, call: Call) -> Tensor:
    if site.arithmetic.grad.is_noisy and module.training:
        return product_with_noise(site, module, call)
    if torch._C._are_functorch_transforms_active():
        # Ops registered with torch.library have no derivative under torch.func: take the value
        # from the op, the derivative from an expression that has one, and add exact zeros.
        value = _op(site, module, call.with_operands(*_detached(call)))
        return with_gradient_of(value, differentiable(site, module, call))
    return _op(site, module, call)


def _detached(call: Call) -> tuple[Tensor, Tensor, Tensor | None]:
    bias = None if call.bias is None else call.bias.detach()
    return call.x.detach(), call.weight.detach(), bias


def _op(site: Site, module: nn.Module, call: Call) -> Tensor:
    if multiplies_blocks(site.arithmetic, call):
        return product_of_blocks(call.plain, site.spelling)
    (xs, xz), (ws, wz) = site.range(module, "input"), site.range(module, "weight")
    if torch._C._are_functorch_transforms_active():  # learned scales get theirs as operands do
        xs, ws = (None if scale is None else scale.detach() for scale in (xs, ws))
    return product_of_codes(call, (xs, xz, ws, wz), site.spelling)


def product_of_codes(call: Call, ranges: Ranges, spelling: str) -> Tensor:
    """The emulated result of one product of integer codes, in normal form.

    ``ranges`` are scale and zero point of the input and of the weight, ``None`` for an operand's
    own; ``spelling`` is that of the arithmetic.
    """
    if call.kind == "matmul":
        return eager.matmul(call.x, call.weight, *ranges, spelling)
    if call.kind == "linear":
        return eager.linear(call.x, call.weight, call.bias, *ranges, spelling)
    call = call.plain
    return eager.conv(call.x, call.weight, call.bias, *ranges, call.geometry, spelling)
