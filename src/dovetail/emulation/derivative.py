"""An expression with the derivative of an emulated product, for ``torch.func``.

Its value is another: :func:`dovetail.emulation.smooth.with_gradient_of` takes only the derivative.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from dovetail.arithmetic import Arithmetic
from dovetail.emulation.calls import Call
from dovetail.emulation.casting import cast_slot
from dovetail.emulation.site import Site
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.formats.cast import as_integer
from dovetail.formats.realise import is_stochastic
from dovetail.gradients import Gradient
from dovetail.kernels.approximate_backward import ApproximateProduct
from dovetail.kernels.backward import Term
from dovetail.kernels.gradients import product_of_codes
from dovetail.kernels.learned_steps import learned_cast

__all__ = ["cast_operands", "differentiable"]


def differentiable(site: Site, module: nn.Module, call: Call) -> Tensor:
    """The expression; each operand's gradient passes through its cast.

    A term whose coefficients are ``p`` and ``v`` is the sum of two products: ``(p x) q``, which
    only the first operand is varied in, and ``u (v w)``, which only the second is.
    """
    arithmetic = site.arithmetic
    assert arithmetic.input is not None
    assert arithmetic.weight is not None
    if arithmetic.grad.is_straight_through:
        return call.with_operands(*cast_operands(site, module, call), call.bias).exact()
    call = call.plain
    ranges = (*site.range(module, "input"), *site.range(module, "weight"))
    second = "second" if call.kind == "matmul" else "weight"
    fixed = call.x.detach(), call.weight.detach()
    nearest = Arithmetic.parse(site.spelling)  # what is drawn is on the grid already
    product = product_of_codes(*fixed, ranges, nearest, call.geometry, second)
    if isinstance(product, ApproximateProduct):
        raise DovetailError(
            f"grad={arithmetic.grad} rounds gradients, so it is no derivative that torch.func can "
            f"transform: call backward(), or give grad='{Gradient(cast=arithmetic.grad.cast)}'"
        )
    x, weight = cast_operands(site, module, call)
    parts = [
        part
        for term in product.terms((True, True))
        for part in _parts(call, x, weight, term, product.padded)
    ]
    if call.bias is not None:
        parts.append(call.bias.view(-1, *[1] * call.geometry.spatial))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def cast_operands(site: Site, module: nn.Module, call: Call) -> tuple[Tensor, Tensor]:
    """Both operands cast to their integer formats, with the gradients of the casts."""
    arithmetic = site.arithmetic
    assert arithmetic.input is not None
    assert arithmetic.weight is not None
    slots = ("input", call.x, arithmetic.input), ("weight", call.weight, arithmetic.weight)
    x, weight = (_cast_operand(*slot, site, module, call.kind) for slot in slots)
    return x, weight


def _cast_operand(
    slot: str, x: Tensor, fmt: Format, site: Site, module: nn.Module, kind: str
) -> Tensor:
    if is_stochastic(fmt):
        return x  # cast already: another cast would differ
    if slot not in site.learned:
        return cast_slot(x, fmt, slot, site, module)
    scale, _ = site.range(module, slot)
    assert scale is not None
    role = "second" if (kind, slot) == ("matmul", "weight") else slot
    return learned_cast(x, as_integer(fmt), scale, site.arithmetic.grad.cast, role)


def _parts(call: Call, x: Tensor, weight: Tensor, term: Term, padded: bool) -> list[Tensor]:
    parts = []
    if term.second is not None:
        varied = x if term.by_first is None else x * term.by_first
        parts.append(call.with_operands(varied, term.second, None).exact())
    if term.first is not None:
        varied = weight if term.by_second is None else weight * term.by_second
        geometry = replace(call.geometry, padding=((0, 0),) * call.geometry.spatial)
        inner = replace(call, geometry=geometry) if padded else call
        parts.append(inner.with_operands(term.first, varied, None).exact())
    return parts
