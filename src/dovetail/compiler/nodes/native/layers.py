"""C++ for emulated layers in one pass of the native core: ``dovetail::linear``, ``dovetail::conv``.

The multiplier's forms are constants of the generated code, whatever they were found by. A weight is
packed when it has changed, which a digest of it tells, or once where the call says that it is
``frozen``; one that comes with a scale is an activation, and is packed at every call.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch

from dovetail.arithmetic import Arithmetic
from dovetail.compiler.nodes.base import Call, Operand
from dovetail.compiler.nodes.native.casts import product, start
from dovetail.compiler.nodes.native.structs import array, value
from dovetail.formats import IntFormat
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.layer import Way, way_of
from dovetail.kernels.library import conv_geometry
from dovetail.kernels.native_integers import integers_of
from dovetail.kernels.native_mac import NativeKernel
from dovetail.kernels.native_shape import running_shape

__all__ = ["geometry_of", "layer_code", "layer_refusal", "multiplier_code", "shape_code"]


def geometry_of(call: Call) -> Geometry:
    """How the window of a layer moves."""
    if "stride" not in call.attributes:
        return LINEAR
    keys = ("stride", "padding", "dilation", "groups")
    stride, padding, dilation, groups = (call.attributes[key] for key in keys)
    return conv_geometry(stride, padding, dilation, groups)


def layer_refusal(call: Call) -> str | None:
    """Why the core cannot compute this layer in one pass; None where it can."""
    rule = Arithmetic.parse(call.attributes["arithmetic"])
    x, weight, bias, *ranges = call.inputs
    assert x is not None
    assert weight is not None
    present = [o for o in (x, weight, bias, *ranges, *call.outputs) if o is not None]
    if not native.available():
        return "the native core is not built"
    if not all(o.contiguous for o in present):
        return "the core reads and writes whole rows"
    if any(o.dtype != torch.float32 for o in (x, weight, *filter(None, (bias,)))):
        return "the core computes layers of float32 in one pass"
    if not all(isinstance(n, int) for n in (*weight.shape, *x.shape[1:])) or 0 in weight.shape:
        return "only the batch may be unknown"
    if not _plain(rule.input, None) or not _plain(rule.weight, 0):
        return f"input={rule.input}, weight={rule.weight}: one pass rounds codes to nearest"
    geometry = geometry_of(call)
    way = way_of(rule, geometry, weight.shape)
    kernel = way.kernel
    if not isinstance(kernel, NativeKernel) or not way.fuses:
        return f"'{kernel.name}' does not compute a layer in one pass"
    most = max(abs(way.input.qmin), abs(way.input.qmax))
    depth = geometry.reduction(weight.shape)
    return None if kernel.mac.fits(depth, most) else f"{depth} products may leave 32 bits"


def _plain(fmt: Any, channel: int | None) -> bool:
    if not isinstance(fmt, IntFormat) or fmt.rounding != NEAREST_EVEN:
        return False
    own = fmt.channel is None or fmt.channel == channel
    return own and fmt.group is None and not fmt.leaves_out


def layer_code(call: Call) -> tuple[str, str]:
    """What one of those layers declares, and its tasklet's body."""
    x, weight, bias, x_scale, x_zero, w_scale, _ = call.inputs
    assert x is not None
    assert weight is not None
    geometry = geometry_of(call)
    rule = Arithmetic.parse(call.attributes["arithmetic"])
    way = way_of(rule, geometry, weight.shape)
    assert isinstance(way.kernel, NativeKernel)
    role = way.kernel.mac.role(geometry)
    namespace, declared = multiplier_code(way.kernel, geometry)
    channels = _channels(way, weight, w_scale)
    signed = str(way.kernel.mac.signed[1]).lower()
    made = (
        f"dovetail_core::pack(shape, multiplier, {start(weight)}, {channels}, {start(w_scale)}, "
        f"weight_codes, {signed})"
    )
    size = "0" if call.attributes.get("frozen", False) else f"4 * ({product(weight.shape)})"
    if w_scale is None:
        made = f"kept.once(__state, {start(weight)}, size_t({size}), [&] {{ return {made}; }})"
    lines = [
        *shape_code(x, weight, geometry, role.rank, role.lookups),
        f"const auto codes = {value(integers_of(way.input))};",
        f"const auto weight_codes = {value(integers_of(way.weight))};",
        f"const dv_multiplier& multiplier = {namespace}::products().forms();",
        "static dovetail_kept::Kept<dovetail_core::Packed> kept;" if w_scale is None else "",
        f"const auto packed = {made};",
        *_input_range(x, x_scale, x_zero),
        f"dovetail_core::layer(shape, multiplier, *packed, {start(x)}, scale, zero, codes, "
        f"{start(bias)}, {start(call.outputs[0])});",
    ]
    return declared, "\n".join([f"if ({product(x.shape)} > 0) {{", *lines, "}"])


def _channels(way: Way, weight: Operand, scale: Operand | None) -> int:
    if scale is not None:
        return math.prod(scale.shape)
    return 1 if way.weight.axis_for("weight") is None else int(weight.shape[0])


def shape_code(
    x: Operand, weight: Operand, geometry: Geometry, rank: int = 0, lookups: int = 0
) -> list[str]:
    """The variable ``shape``: the layer's sizes, its batch as it is at the call."""
    rest = x.shape[1:] if geometry.spatial else x.shape[-1:]
    one = torch.empty((1, *rest), device="meta")
    shape = running_shape(one, tuple(weight.shape), geometry, rank, lookups)
    batch = product(x.shape[:1] if geometry.spatial else x.shape[:-1])
    return [f"dv_shape shape = {value(shape)};", f"shape.batch = {batch};"]


def _input_range(x: Operand, scale: Operand | None, zero: Operand | None) -> list[str]:
    if scale is not None:
        return [
            f"const float scale = *{start(scale)};",
            f"const int32_t zero = int32_t(*{start(zero)});",
        ]
    tensor = f"{start(x)}, {start(x)}, 1, 1, {product(x.shape)}, 0, 0, nullptr"
    return [
        "std::vector<float> scales;",
        "std::vector<int32_t> zeros;",
        f"dovetail_core::cover_all(dv_tensor{{{tensor}}}, codes, scales, zeros);",
        "const float scale = scales[0];",
        "const int32_t zero = zeros[0];",
    ]


def multiplier_code(kernel: NativeKernel, geometry: Geometry) -> tuple[str, str]:
    """A namespace and its definition, in which ``products()`` is the multiplier of layers."""
    role = kernel.mac.role(geometry)
    tables = dict(role.tables) if role.rank else {"all": kernel.mac.products}
    definitions = [array(name, values) for name, values in tables.items()]
    forms = value(role.struct, {name: name for name in role.tables})
    if role.rank:
        lanes = str(geometry.spatial == 0).lower()
        rest = f"{role.rank}, {role.lookups}, {lanes}"
    else:
        rest = "all"
    body = "\n".join(
        [
            *definitions,
            "inline const dovetail_core::Products& products() {",
            f"static const dovetail_core::Products made({forms}, {rest});",
            "return made;",
            "}",
        ]
    )
    name = f"dovetail_mul_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
    return name, f"namespace {name} {{\n{body}\n}}"
