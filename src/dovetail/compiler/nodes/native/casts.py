"""C++ that calls the native core's casts, every plan fixed: constants, tables and sizes."""

from __future__ import annotations

from typing import Any

from dovetail.compiler.nodes.aten.text import number
from dovetail.compiler.nodes.base import Call, Operand
from dovetail.compiler.nodes.native.structs import array, value
from dovetail.formats import format as to_format
from dovetail.formats.base import BlockFormat, Format
from dovetail.formats.integer import IntFormat
from dovetail.formats.realise import is_stochastic
from dovetail.formats.scaled import NVFP4
from dovetail.kernels import native
from dovetail.kernels.cast_structs import DTYPES
from dovetail.kernels.native_casts import bounds_of, plan_of, supports
from dovetail.kernels.native_integers import CODED, SHORT, integers_of

__all__ = ["cast_code", "cast_refusal", "product", "start"]


def cast_refusal(call: Call) -> str | None:
    """Why the core cannot be called directly for this cast; None where it can be."""
    fmt, x = to_format(call.attributes["format"]), _need(call.inputs[0])
    if not native.available():
        return "the native core is not built"
    if any(o is not None and not _lies_as(o, x) for o in call.outputs):
        return "the result of a native cast lies in memory as its operand does"
    whole = x.contiguous
    if isinstance(fmt, IntFormat):
        if x.dtype not in CODED or fmt.leaves_out:
            return f"the native core does not cast {x.dtype} to '{fmt}'"
        return None if whole and _grid_fits(call) else "native casts to integers are of whole rows"
    if not supports(fmt, x.dtype):
        return f"the native core does not cast {x.dtype} to '{fmt}'"
    fits = whole or (not is_stochastic(fmt) and _dense(x))
    return None if fits else "a native cast reads a tensor without gaps"


def cast_code(call: Call) -> str:
    """A tasklet's body for ``dovetail::cast``, ``cast_integers``, ``cast_by_range`` and their
    masked forms."""
    fmt, name = to_format(call.attributes["format"]), call.key.split(".")[1]
    if name.startswith("cast_integers"):
        lines = _affine(call, fmt)
    elif name.startswith("cast_by_range"):
        lines = _ranged(call, fmt)
    else:
        lines = _values(call, fmt)
    size = product(_need(call.inputs[0]).shape)
    return "\n".join([f"if ({size} > 0) {{", *lines, "}"])


def _need(operand: Operand | None) -> Operand:
    assert operand is not None
    return operand


def _lies_as(one: Operand, other: Operand) -> bool:
    return one.shape == other.shape and one.strides == other.strides


def _dense(x: Operand) -> bool:
    expected = 1
    if not all(isinstance(n, int) for n in (*x.shape, *x.strides)):
        return False
    for stride, size in sorted(zip(x.strides, x.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def product(sizes: Any) -> str:
    """The C++ product of sizes, as int64."""
    return " * ".join(["int64_t(1)", *(f"int64_t({number(s)})" for s in sizes)])


def start(operand: Operand | None) -> str:
    """A pointer to the operand's first element; null for none."""
    if operand is None:
        return "nullptr"
    return operand.data if operand.offset == 0 else f"({operand.data} + {number(operand.offset)})"


def _sizes(x: Operand, axis: int | None) -> tuple[str, str, str]:
    """Elements before ``axis``, along it and after it, of a contiguous tensor."""
    if axis is None:
        return "1", "1", product(x.shape)
    axis = axis % len(x.shape)
    after = product(x.shape[axis + 1 :])
    return product(x.shape[:axis]), f"int64_t({number(x.shape[axis])})", after


def _in_memory(x: Operand, axis: int | None) -> tuple[str, str, str]:
    """As ``sizes_of`` of a dense tensor."""
    if axis is None:
        return product(x.shape), "1", "1"
    length, inner = number(x.shape[axis]), number(x.strides[axis])
    if x.shape[axis] == 1:
        inner = "1"
    whole = product(x.shape)
    return f"({whole}) / (int64_t({length}) * {inner})", length, inner


def _tensor(
    call: Call, sizes: tuple[str, str, str], seed: Operand | None, bounds: tuple[float, float]
) -> list[str]:
    x, y = _need(call.inputs[0]), _need(call.outputs[0])
    lines, report = [], "nullptr"
    if len(call.outputs) == 2 and call.outputs[1] is not None:
        inside, clip = start(call.outputs[1]), int(call.attributes["clip"])
        low, high = map(number, map(float, bounds))
        lines.append(f"const dv_report report{{{inside}, nullptr, {clip}, {low}, {high}}};")
        report = "&report"
    key = "0" if seed is None else f"uint64_t(*{start(seed)})"
    words = (start(x), start(y), *sizes, str(DTYPES[x.dtype]), key, report)
    return [*lines, f"const dv_tensor tensor{{{', '.join(words)}}};"]


def _values(call: Call, fmt: Format) -> list[str]:
    x, seed, scale = call.inputs
    assert x is not None
    axis = None
    if isinstance(fmt, BlockFormat):
        axis = call.attributes["axis"] if fmt.axis is None else fmt.axis
        axis = axis % len(x.shape)
    drawn = seed if is_stochastic(fmt) else None
    lines = _tensor(call, _in_memory(x, axis), drawn, bounds_of(fmt, x.dtype))
    plan = plan_of(fmt)
    names = {}
    for table in plan.tables:
        members = [name for name, *_ in table.struct._fields_][: len(table.arrays)]
        names = {name: f"{name}_table" for name in members}
        lines += [array(names[n], a) for n, a in zip(members, table.arrays, strict=True)]
    pointers = ["&tensor"]
    for i, struct in enumerate(plan.structs):
        if struct is None:
            pointers.append("nullptr")
            continue
        lines.append(f"auto rule{i} = {value(struct, names)};")
        pointers.append(f"&rule{i}")
    if isinstance(fmt, NVFP4):
        own = f"dovetail_core::whole_scale(tensor, {fmt.block})"
        lines.append(f"rule{len(plan.structs) - 1}.whole = {_scalar(scale) or own};")
    called = f"dovetail_core::{plan.function}({', '.join(pointers)})"
    return [*lines, f'dovetail_core::check({called}, "{fmt}");']


def _scalar(operand: Operand | None) -> str | None:
    return None if operand is None else f"float(*{start(operand)})"


def _grid_fits(call: Call) -> bool:
    if not call.key.startswith("dovetail.cast_integers"):
        return True
    scale, zero = _need(call.inputs[1]), _need(call.inputs[2])
    names = str(scale.dtype), str(zero.dtype)
    same = scale.shape == zero.shape and scale.contiguous and zero.contiguous
    return names == ("torch.float32", "torch.int32") and same and len(scale.shape) < 2


def _affine(call: Call, fmt: Format) -> list[str]:
    assert isinstance(fmt, IntFormat)
    x, scale, zero, seed = call.inputs
    assert x is not None
    drawn = seed if is_stochastic(fmt) else None
    lines = _tensor(call, _sizes(x, call.attributes["axis"]), drawn, (0.0, 0.0))
    channels = product(_need(scale).shape)
    lines.append(f"const auto codes = {value(integers_of(fmt))};")
    arguments = f"&tensor, {channels}, {start(scale)}, {start(zero)}, &codes"
    called = f"dovetail_core::dv_cast_affine({arguments})"
    return [*lines, f'dovetail_core::check({called}, "{fmt}");']


def _ranged(call: Call, fmt: Format) -> list[str]:
    assert isinstance(fmt, IntFormat)
    x, seed = call.inputs
    assert x is not None
    axis, channel = call.attributes["axis"], call.attributes["channel"]
    drawn = seed if is_stochastic(fmt) else None
    codes = f"const auto codes = {value(integers_of(fmt))};"
    run = _short_rows(x, channel) if fmt.group is None else fmt.group
    if fmt.group is not None:
        sizes = _in_memory(x, axis % len(x.shape))
    elif run is not None:
        sizes = ("1", product(x.shape), "1")
    else:
        return [*_tensor(call, _sizes(x, channel), drawn, (0.0, 0.0)), codes, *_covered(fmt)]
    called = f"dovetail_core::dv_cast_integers(&tensor, {run}, &codes)"
    lines = _tensor(call, sizes, drawn, (0.0, 0.0))
    return [*lines, codes, f'dovetail_core::check({called}, "{fmt}");']


def _short_rows(x: Operand, channel: int | None) -> int | None:
    """The length of leading-axis channels short enough to be seen twice, as in eager mode."""
    if channel is None or channel % len(x.shape):
        return None
    after = 1
    for size in x.shape[1:]:
        if not isinstance(size, int):
            return None
        after *= size
    return after if 1 < after <= SHORT else None


def _covered(fmt: IntFormat) -> list[str]:
    arguments = "&tensor, int64_t(scales.size()), scales.data(), zeros.data(), &codes"
    called = f"dovetail_core::dv_cast_affine({arguments})"
    return [
        "std::vector<float> scales;",
        "std::vector<int32_t> zeros;",
        "dovetail_core::cover_all(tensor, codes, scales, zeros);",
        f'dovetail_core::check({called}, "{fmt}");',
    ]
