"""What cannot be written out as maps and tasklets; told without importing DaCe."""

from __future__ import annotations

import torch

from dovetail.accumulators import IntAccumulator
from dovetail.arithmetic import Arithmetic
from dovetail.compiler.nodes.base import Call
from dovetail.formats import IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.base import Format
from dovetail.formats.block import PowerScaled
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import is_stochastic
from dovetail.kernels.cast_structs import element_of

__all__ = ["cast_in_full", "in_full", "layer_in_full", "pool_in_full"]

_WIDE = (torch.float32, torch.float64, torch.int8, torch.uint8, torch.int32, torch.int64)


def in_full(call: Call) -> str | None:
    """Sums are formed in the type of the operands: narrow floats would lose what torch keeps."""
    for operand in (*call.inputs, *call.outputs):
        if operand is not None and operand.dtype not in _WIDE:
            return f"sums in {operand.dtype} would be rounded at every step"
    return None


def pool_in_full(call: Call) -> str | None:
    """The largest of no pixel is an infinity, and a mean has a fraction."""
    x = call.inputs[0]
    if x is not None and x.dtype not in (torch.float32, torch.float64):
        return f"pooling is written out for float32 and float64, not {x.dtype}"
    return None


def cast_in_full(call: Call) -> str | None:
    """Which casts are not written out: by dtype, and by format."""
    fmt, x = to_format(call.attributes["format"]), call.inputs[0]
    assert x is not None
    if x.dtype != torch.float32:
        return f"casts are written out for float32, not {x.dtype}"
    if is_stochastic(fmt):
        return f"'{fmt}' draws random bits"
    if isinstance(fmt, IntFormat):
        return _integers(fmt)
    element = fmt.element if isinstance(fmt, PowerScaled) else fmt
    return None if _written(element) else f"'{fmt}' is not written out as scalar steps"


def _integers(fmt: IntFormat) -> str | None:
    if fmt.group is not None or fmt.po2 or fmt.leaves_out:
        return f"'{fmt}' is not written out: groups, powers of two and observers are not"
    return None


def _written(element: Format) -> bool:
    if isinstance(element, FixedFormat):
        return element_of(element) is not None
    if not isinstance(element, FloatFormat) or element.mantissa < 1:
        return False
    return element.signed and not element.magnitude and element_of(element) is not None


def layer_in_full(call: Call) -> str | None:
    """Which emulated layers are not written out."""
    rule = Arithmetic.parse(call.attributes["arithmetic"])
    if any(
        o is not None and o.dtype.is_floating_point and o.dtype != torch.float32
        for o in (*call.inputs, *call.outputs)
    ):
        return "layers are written out for float32"
    if not rule.multiplies_codes:
        return "layers are written out for products of integer codes"
    for fmt, channel in ((rule.input, None), (rule.weight, 0)):
        assert isinstance(fmt, IntFormat)
        if is_stochastic(fmt) or fmt.channel not in (None, channel) or _integers(fmt):
            return f"'{fmt}' is not written out"
    assert isinstance(rule.weight, IntFormat)
    if rule.weight.affine:
        return "a weight with a zero point is not written out"
    mul = rule.code_multiplier
    if mul.bits is not None and sum(mul.bits) > 16:
        return f"'{mul}' has no table of products"
    if rule.acc is None:
        return None
    if isinstance(rule.acc, IntAccumulator) and rule.acc.order == "sequential":
        return None if rule.acc.bits < 63 else f"acc={rule.acc}: sums are formed in 64 bits"
    return f"acc={rule.acc} is not written out"
