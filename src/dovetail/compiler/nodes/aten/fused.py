"""C++ for oneDNN's convolutions: weights in its own order, and what follows in the same pass.

``mkldnn::_convolution_pointwise`` and its ``binary`` overload are nodes under their own names. A
call that says ``frozen`` (its weight never changes while it stays where it is) reorders the weight
once; a plain ``aten::convolution`` that says so runs as one of those. Relu and clamps, in
which oneDNN makes NaN a number, are computed where its result is written to its array.
"""

from __future__ import annotations

import torch

from dovetail.compiler.nodes.aten.text import number, view
from dovetail.compiler.nodes.base import Call, Operand

__all__ = ["FUSED", "fused_code", "fused_refusal", "is_packed"]

_PLAIN = "mkldnn._convolution_pointwise.default"
_BINARY = "mkldnn._convolution_pointwise.binary"
FUSED = (_PLAIN, _BINARY)
#: What oneDNN applies to its result, with the number of its scalars.
_THEIRS = {"none": 0, "sigmoid": 0, "tanh": 0, "swish": 0, "hardswish": 0, "leaky_relu": 1}
#: What is applied to the result instead, in C++ of ``v`` and the scalars.
_OURS = {"relu": (0, "v <= 0 ? 0 : v"), "hardtanh": (2, "v < {0} ? {0} : v > {1} ? {1} : v")}
_SCALARS = {**_THEIRS, **{name: count for name, (count, _) in _OURS.items()}}
_TOGETHER = ("add", "sub", "mul", "div")


def is_packed(call: Call) -> bool:
    """Whether a plain convolution is one that oneDNN's form with a kept weight computes."""
    if not call.attributes.get("frozen", False) or call.attributes["transposed"]:
        return False
    return _fits(call.inputs[:2]) and bool(torch.backends.mkldnn.is_available())


def _fits(operands: tuple[Operand | None, ...]) -> bool:
    return all(
        o is not None and o.dtype == torch.float32 and len(o.shape) in (4, 5) for o in operands
    )


def fused_refusal(call: Call) -> str | None:
    """Why oneDNN cannot compute this call; None where it can."""
    if call.target == "cuda":
        return "oneDNN computes in host memory"
    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    x, weight = (call.inputs[0], call.inputs[2 if call.key == _BINARY else 1])
    if not _fits((x, weight)):
        return "oneDNN's convolutions with an epilogue are of float32 images and volumes"
    binary = call.key == _BINARY
    after = call.attributes.get("unary_attr" if binary else "attr") or "none"
    if after not in _SCALARS:
        return f"'{after}' is none of {', '.join(_SCALARS)}"
    given = len(call.attributes.get("unary_scalars" if binary else "scalars") or ())
    if given != _SCALARS[after]:
        return f"'{after}' takes {_SCALARS[after]} scalars, not {given}"
    if after in _OURS and not _without_gaps(call.outputs[0]):
        return f"'{after}' is written to a tensor without gaps"
    if binary and call.attributes["binary_attr"] not in _TOGETHER:
        return f"'{call.attributes['binary_attr']}' is none of {', '.join(_TOGETHER)}"
    return None


def fused_code(call: Call) -> str:
    """A tasklet's body for one of ``FUSED``, or for a plain convolution that is packed."""
    binary = call.key == _BINARY
    x, *other, weight, bias = call.inputs
    (output,) = call.outputs
    assert x is not None
    assert weight is not None
    assert output is not None
    window = [f"{name}, {len(call.attributes[name])}" for name in ("padding", "stride", "dilation")]
    lines = [
        *(f"const int64_t {name}[] = {{{_listed(call, name)}}};" for name in _WINDOW),
        f"dovetail_aten::Tensor x({view(x)});",
        *_weight(call, x, weight),
        "AtenTensorHandle made = nullptr, *bias = nullptr;",
    ]
    if bias is not None:
        lines.append(f"dovetail_aten::Tensor b({view(bias)});")
        lines.append("AtenTensorHandle given = b;")
        lines.append("bias = &given;")
    groups = number(call.attributes["groups"])
    after, scalars = _epilogue(call)
    theirs = after if after in _THEIRS else "none"
    if scalars and after in _THEIRS:
        values = ", ".join(number(v) for v in scalars)
        lines.append(f"const double numbers[] = {{{values}}};")
        lines.append("const double* scalars[] = {&numbers[0]};")
        rest = [f"scalars, {len(scalars)}", "nullptr", "&made"]
    else:
        rest = ["nullptr, 0", "nullptr", "&made"]
    if binary:
        (added,) = other
        assert added is not None
        lines.append(f"dovetail_aten::Tensor other({view(added)});")
        lines.append(f'const char* after = "{theirs}";')
        unary = "nullptr" if theirs == "none" else "&after"
        rest = [groups, f'"{call.attributes["binary_attr"]}"', "nullptr", unary, *rest]
        function, first = "aoti_torch_cpu_mkldnn__convolution_pointwise_binary", "x, other, w"
    else:
        rest = [groups, f'"{theirs}"', *rest]
        function, first = "aoti_torch_cpu_mkldnn__convolution_pointwise", "x, w"
    arguments = ", ".join([first, "bias", *window, *rest])
    lines.append(f'dovetail_aten::check({function}({arguments}), "{call.key}");')
    lines.append("dovetail_aten::Tensor result(made);")
    return "\n".join([*lines, _written(output, after, scalars)])


def _epilogue(call: Call) -> tuple[str, list[float]]:
    binary = call.key == _BINARY
    after = call.attributes.get("unary_attr" if binary else "attr") or "none"
    scalars = call.attributes.get("unary_scalars" if binary else "scalars") or ()
    return after, [float(v) for v in scalars]


def _written(output: Operand, after: str, scalars: list[float]) -> str:
    """The result in its array, through what is computed there."""
    if after not in _OURS:
        return f"dovetail_aten::copy(dovetail_aten::Tensor({view(output)}), result);"
    bounds = (f"float({number(v)})" for v in scalars)
    code = _OURS[after][1].format(*bounds)
    sizes, strides = (", ".join(number(n) for n in dims) for dims in (output.shape, output.strides))
    place = f"{output.data} + {number(output.offset)}, {{{sizes}}}, {{{strides}}}"
    return f"dovetail_aten::apply({place}, result, [](float v) -> float {{ return {code}; }});"


def _without_gaps(output: Operand | None) -> bool:
    assert output is not None
    expected: object = 1
    if not all(isinstance(n, int) for n in (*output.shape[1:], *output.strides)):
        return output.contiguous
    for stride, size in sorted(zip(output.strides, output.shape, strict=True), key=lambda p: p[0]):
        if size != 1 and stride != expected:
            return False
        expected = expected * size if size != 1 else expected
    return True


_WINDOW = ("padding", "stride", "dilation")


def _listed(call: Call, name: str) -> str:
    return ", ".join(number(v) for v in call.attributes[name])


def _weight(call: Call, x: Operand, weight: Operand) -> list[str]:
    if not call.attributes.get("frozen", False):
        return [f"dovetail_aten::Tensor w({view(weight)});"]
    lists = [f"dovetail_aten::words({name})" for name in _WINDOW]
    stack = [f"dovetail_aten::word({view(weight)})", *lists]
    sizes = ", ".join(f"dovetail_aten::word(int64_t({number(n)}))" for n in x.shape)
    stack += [f"dovetail_aten::word(int64_t({number(call.attributes['groups'])}))"]
    stack += [f"dovetail_aten::given(dovetail_aten::list({{{sizes}}}))"]
    return [
        "static dovetail_kept::Kept<dovetail_aten::Tensor> kept;",
        f"const auto* from = {weight.data} + {number(weight.offset)};",
        "const auto packed = kept.once(__state, from, 0, [&] {",
        f"uint64_t stack[] = {{{', '.join(stack)}}};",
        'dovetail_aten::call("mkldnn::_reorder_convolution_weight", "", stack);',
        "return std::make_shared<const dovetail_aten::Tensor>(dovetail_aten::result(stack[0]));",
        "});",
        "const AtenTensorHandle w = *packed;",
    ]
