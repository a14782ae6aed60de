"""C++ for oneDNN's convolutions: weights in its own order, and what follows in the same pass.

``mkldnn::_convolution_pointwise`` and its ``binary`` overload are nodes under their own names. A
call that says ``frozen`` (its weight never changes while it stays where it is) reorders the weight
once; a plain ``aten::convolution`` that says so runs as one of those.
"""

from __future__ import annotations

import torch

from dovetail.compiler.nodes.aten.text import number, view
from dovetail.compiler.nodes.base import Call, Operand

__all__ = ["FUSED", "fused_code", "fused_refusal", "is_packed"]

_PLAIN = "mkldnn._convolution_pointwise.default"
_BINARY = "mkldnn._convolution_pointwise.binary"
FUSED = (_PLAIN, _BINARY)
#: What oneDNN applies to its result without further arguments.
_AFTER = ("none", "relu", "sigmoid", "tanh", "swish", "hardswish", "hardsigmoid")
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
    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    x, weight = (call.inputs[0], call.inputs[2 if call.key == _BINARY else 1])
    if not _fits((x, weight)):
        return "oneDNN's convolutions with an epilogue are of float32 images and volumes"
    binary = call.key == _BINARY
    after = call.attributes.get("unary_attr" if binary else "attr") or "none"
    if after not in _AFTER:
        return f"'{after}' needs arguments: oneDNN takes {', '.join(_AFTER)} without"
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
        *_weight(call, weight),
        "AtenTensorHandle made = nullptr, *bias = nullptr;",
    ]
    if bias is not None:
        lines.append(f"dovetail_aten::Tensor b({view(bias)});")
        lines.append("AtenTensorHandle given = b;")
        lines.append("bias = &given;")
    groups = number(call.attributes["groups"])
    if binary:
        (added,) = other
        assert added is not None
        after = call.attributes.get("unary_attr") or "none"
        lines.append(f"dovetail_aten::Tensor other({view(added)});")
        lines.append(f'const char* after = "{after}";')
        rest = [groups, f'"{call.attributes["binary_attr"]}"', "nullptr"]
        rest += ["nullptr" if after == "none" else "&after", "nullptr", "0", "nullptr", "&made"]
        function, first = "aoti_torch_cpu_mkldnn__convolution_pointwise_binary", "x, other, w"
    else:
        after = call.attributes.get("attr") or "none"
        rest = [groups, f'"{after}"', "nullptr", "0", "nullptr", "&made"]
        function, first = "aoti_torch_cpu_mkldnn__convolution_pointwise", "x, w"
    arguments = ", ".join([first, "bias", *window, *rest])
    lines.append(f'dovetail_aten::check({function}({arguments}), "{call.key}");')
    lines.append("dovetail_aten::Tensor result(made);")
    lines.append(f"dovetail_aten::copy(dovetail_aten::Tensor({view(output)}), result);")
    return "\n".join(lines)


_WINDOW = ("padding", "stride", "dilation")


def _listed(call: Call, name: str) -> str:
    return ", ".join(number(v) for v in call.attributes[name])


def _weight(call: Call, weight: Operand) -> list[str]:
    if not call.attributes.get("frozen", False):
        return [f"dovetail_aten::Tensor w({view(weight)});"]
    lists = [f"dovetail_aten::words({name})" for name in _WINDOW]
    stack = [f"dovetail_aten::word({view(weight)})", *lists]
    stack += [f"dovetail_aten::word(int64_t({number(call.attributes['groups'])}))", "0"]
    return [
        "static dovetail_kept::Kept<dovetail_aten::Tensor> kept;",
        f"const auto packed = kept.once({weight.data}, 0, [&] {{",
        f"uint64_t stack[] = {{{', '.join(stack)}}};",
        'dovetail_aten::call("mkldnn::_reorder_convolution_weight", "", stack);',
        "return std::make_shared<const dovetail_aten::Tensor>(dovetail_aten::result(stack[0]));",
        "});",
        "const AtenTensorHandle w = *packed;",
    ]
