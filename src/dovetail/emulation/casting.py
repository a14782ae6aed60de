"""The casts of an operation's operands and result: which range, which axis, which gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dovetail.emulation.site import Site
from dovetail.formats import Format, IntFormat, Same, Shaped
from dovetail.formats.cast import cast_by_range, fake_quantize, straight_through
from dovetail.formats.philox import seed_from
from dovetail.formats.realise import is_stochastic
from dovetail.kernels.weight_cache import cached
from dovetail.kinds import block_axis

__all__ = ["cast_slot"]

#: What the parameter itself is cast to: it lasts as long as the parameter does.
_KEPT = ("weight", "weight_storage")


def cast_slot(x: Tensor, fmt: Format, slot: str, site: Site, module: nn.Module) -> Tensor:
    """``x``, standing in ``slot`` of the site's operation, rounded to ``fmt``.

    A weight's cast is kept until the weight changes, unless gradients are recorded.
    """
    if isinstance(fmt, Same):
        return x
    if slot not in _KEPT or site.op.kind == "matmul" or is_stochastic(fmt) or not _may_keep():
        return _cast(x, fmt, slot, site, module)
    return cached(x, (fmt, slot), lambda: _cast(x, fmt, slot, site, module))


def _may_keep() -> bool:
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return not traced and not torch.is_grad_enabled()


def _cast(x: Tensor, fmt: Format, slot: str, site: Site, module: nn.Module) -> Tensor:
    if isinstance(fmt, Shaped):
        return fmt.cast_with(x, lambda part, inner: _cast(part, inner, slot, site, module))
    if isinstance(fmt, IntFormat):
        return _cast_integer(x, fmt, slot, site, module)
    seed = seed_from(None, x.device) if is_stochastic(fmt) else None
    clip = site.arithmetic.grad.clips
    return straight_through(x, fmt, block_axis(site.op.kind, slot), seed, clip=clip)


def _cast_integer(x: Tensor, fmt: IntFormat, slot: str, site: Site, module: nn.Module) -> Tensor:
    seed = seed_from(None, x.device) if is_stochastic(fmt) else None
    if fmt.group is not None:
        return cast_by_range(x, fmt, block_axis(site.op.kind, slot), None, seed)
    scale, zero = site.range(module, slot)
    # Only a weight whose first axis is its outputs has a scale for each of them: not a matmul's
    # second operand, which is an activation, and not the one number per channel of a norm.
    role = slot.removesuffix("_storage")
    role = "second" if role == "weight" and (site.op.kind == "matmul" or x.dim() < 2) else role
    axis = fmt.axis_for(role)
    if scale is None or zero is None:
        return cast_by_range(x, fmt, None, axis, seed, clip=False)
    clip = site.arithmetic.grad.clips
    return fake_quantize(x, fmt, scale, zero, axis if scale.dim() else None, seed, clip=clip)
