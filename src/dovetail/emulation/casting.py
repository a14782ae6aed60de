"""The casts of an operation's operands and result: which range, which axis, which gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dovetail._eager import is_eager
from dovetail.emulation.hidden import hidden, visible
from dovetail.emulation.kept import kept_with_gradient
from dovetail.emulation.site import Site
from dovetail.formats import Format, IntFormat, Same, Shaped
from dovetail.formats.cast import cast_by_range, fake_quantize, straight_through
from dovetail.formats.philox import seed_from
from dovetail.formats.realise import Report, is_stochastic
from dovetail.kernels.weight_cache import cached
from dovetail.kinds import block_axis

__all__ = ["cast_slot", "reported_cast"]

#: What the parameter itself is cast to: it lasts as long as the parameter does.
_KEPT = ("weight", "weight_storage")


def cast_slot(x: Tensor, fmt: Format, slot: str, site: Site, module: nn.Module) -> Tensor:
    """``x``, standing in ``slot`` of the site's operation, rounded to ``fmt``.

    A weight's cast is kept until the weight changes, also where gradients are recorded. A mask's
    numbers pass unseen.
    """
    if isinstance(fmt, Same):
        return x
    far = hidden(site.op.kind, x)
    if far is not None:
        return torch.where(far, x, _cast(x.masked_fill(far, 0.0), fmt, slot, site, module))
    if slot not in _KEPT or site.op.kind == "matmul" or is_stochastic(fmt) or not is_eager():
        return _cast(x, fmt, slot, site, module)

    def cast(weight: Tensor) -> Tensor:
        return _cast(weight, fmt, slot, site, module)

    # What inference mode makes can be in no graph later.
    key = (fmt, slot, site.op.kind, torch.is_inference_mode_enabled())
    if not (x.requires_grad and torch.is_grad_enabled()):
        return cached(x, key, lambda: cast(x))
    if not x.is_leaf:
        return cast(x)
    return kept_with_gradient(x, (*key, site.arithmetic.grad.clips), cast)


def reported_cast(
    x: Tensor, fmt: Format, slot: str, site: Site, module: nn.Module
) -> tuple[Tensor, Tensor, Tensor]:
    """What of ``x`` a cast sees (0 where a mask hides), what that becomes, and where rounding it to
    nearest stays within the format's range."""
    x, masks = visible(site.op.kind, x.detach()), []

    def cast(part: Tensor, inner: Format) -> Tensor:
        report = Report()
        y = _cast(part, inner, slot, site, module, report)
        assert report.inside is not None
        masks.append(report.inside)
        return y

    if not isinstance(fmt, Shaped):
        y = cast(x, fmt)
        return x, y, masks[0]
    y, found = fmt.cast_with(x, cast), iter(masks)
    inside = fmt.cast_with(torch.ones_like(x), lambda part, _: part * next(found))
    return x, y, inside != 0


def _cast(
    x: Tensor,
    fmt: Format,
    slot: str,
    site: Site,
    module: nn.Module,
    report: Report | None = None,
) -> Tensor:
    if isinstance(fmt, Shaped):
        return fmt.cast_with(x, lambda part, inner: _cast(part, inner, slot, site, module))
    if isinstance(fmt, IntFormat):
        return _cast_integer(x, fmt, slot, site, module, report)
    seed = seed_from(None, x.device) if is_stochastic(fmt) else None
    clip = site.arithmetic.grad.clips
    axis = block_axis(site.op.kind, slot)
    return straight_through(x, fmt, axis, seed, clip=clip, report=report)


def _cast_integer(
    x: Tensor, fmt: IntFormat, slot: str, site: Site, module: nn.Module, report: Report | None
) -> Tensor:
    seed = seed_from(None, x.device) if is_stochastic(fmt) else None
    clip = site.arithmetic.grad.clips
    # The extremes of the tensor itself clip nothing.
    own_clip = clip and fmt.leaves_out
    if fmt.group is not None:
        along = block_axis(site.op.kind, slot)
        return cast_by_range(x, fmt, along, None, seed, clip=own_clip, report=report)
    scale, zero = site.range(module, slot)
    # Only a weight whose first axis is its outputs has a scale for each of them: not a matmul's
    # second operand, which is an activation, and not the one number per channel of a norm.
    role = slot.removesuffix("_storage")
    role = "second" if role == "weight" and (site.op.kind == "matmul" or x.dim() < 2) else role
    axis = fmt.axis_for(role)
    if scale is None or zero is None:
        return cast_by_range(x, fmt, None, axis, seed, clip=own_clip, report=report)
    axis = axis if scale.dim() else None
    return fake_quantize(x, fmt, scale, zero, axis, seed, clip=clip, report=report)
