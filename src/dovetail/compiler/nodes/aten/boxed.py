"""C++ for any operator, through torch's boxed dispatcher."""

from __future__ import annotations

from typing import Any

import torch

from dovetail.compiler.nodes.aten.schema import arguments, boxable, found, out_variant
from dovetail.compiler.nodes.aten.text import dtype_code, number, view
from dovetail.compiler.nodes.base import Call
from dovetail.errors import DovetailError

__all__ = ["boxed_code"]


def boxed_code(call: Call) -> str:
    """A tasklet's body that computes ``call`` and leaves its results in the given arrays.

    An overload that writes into given tensors is taken where torch has one that is more than a
    copy; otherwise the results are copied.
    """
    if (reason := boxable(call.key)) is not None:
        raise DovetailError(reason)
    words = [_word(call.key, kind, value) for kind, value in arguments(call)]
    before: list[str] = []
    if (weight := _kept(call)) is not None:
        before, words[1] = weight
    other = None if None in call.outputs else out_variant(call.key)
    if other is not None:
        words += [f"dovetail_aten::word({view(o)})" for o in call.outputs if o is not None]
    called = (other or found(call.key))._schema
    size = max(len(words), len(called.returns), 1)
    lines = [
        *before,
        f"uint64_t stack[{size}] = {{{', '.join(words)}}};",
        f'dovetail_aten::call("{called.name}", "{called.overload_name}", stack);',
    ]
    for i, output in enumerate(call.outputs):
        lines.append(
            f"dovetail_aten::Tensor made{i}(reinterpret_cast<AtenTensorHandle>(stack[{i}]));"
        )
        if other is None and output is not None:
            lines.append(f"dovetail_aten::copy(dovetail_aten::Tensor({view(output)}), made{i});")
    return "\n".join(lines)


#: Operators whose second argument is a weight, of which they keep what they make of it.
_LAYERS = ("linear", "conv", "block_linear", "block_conv")
_WEIGHTED = {f"dovetail.{name}.default" for name in _LAYERS}


def _kept(call: Call) -> tuple[list[str], str] | None:
    """A weight as the same tensor for as long as it does not change: eager kernels pack it once.

    Only in host memory: whether it changes is read from its bytes.
    """
    weight = call.inputs[1] if call.key in _WEIGHTED and call.target == "cpu" else None
    if weight is None or not weight.contiguous or weight.dtype not in (torch.float32,):
        return None
    start = f"{weight.data} + {number(weight.offset)}"
    size = " * ".join(["size_t(4)", *(f"size_t({number(n)})" for n in weight.shape)])
    size = "0" if call.attributes.get("frozen", False) else size
    made = f"std::make_shared<const dovetail_aten::Tensor>({view(weight)})"
    lines = [
        "static dovetail_kept::Kept<dovetail_aten::Tensor> kept;",
        f"const auto weight = kept.once(__state, {start}, {size}, [&] {{ return {made}; }});",
    ]
    return lines, "dovetail_aten::shared(weight)"


def _word(key: str, kind: str, value: Any) -> str:
    if kind.startswith("Optional["):
        inner = kind[len("Optional[") : -1]
        return "0" if value is None else f"dovetail_aten::given({_word(key, inner, value)})"
    if kind.startswith("List["):
        inner = kind[len("List[") : -1]
        return f"dovetail_aten::list({{{', '.join(_word(key, inner, v) for v in value)}}})"
    if kind == "Tensor":
        if value is None:
            raise DovetailError(f"{key} needs a tensor where it was given none")
        return f"dovetail_aten::word({view(value)})"
    return _constant(key, kind, value)


def _constant(key: str, kind: str, value: Any) -> str:
    if kind == "float":
        return f"dovetail_aten::word(double({number(float(value))}))"
    if kind in ("int", "bool"):
        return f"dovetail_aten::word(int64_t({number(value)}))"
    if kind == "str":
        return f"dovetail_aten::text({_quoted(value)})"
    if kind == "ScalarType":
        return f"dovetail_aten::word(int64_t({dtype_code(value)}))"
    if kind == "MemoryFormat":
        name = str(value).removeprefix("torch.")
        return f"dovetail_aten::word(int64_t(aoti_torch_memory_format_{name}()))"
    if kind == "Device" and value.type == "cpu":
        return "dovetail_aten::cpu()"
    if kind == "Layout" and value == torch.strided:
        return "dovetail_aten::word(int64_t(aoti_torch_layout_strided()))"
    raise DovetailError(f"{key}: {value!r} has no C form")


def _quoted(text: str) -> str:
    plain = " _-.,:;()[]{}=+*/@<>|"
    escaped = "".join(c if c.isalnum() or c in plain else f"\\{ord(c):03o}" for c in text)
    return f'"{escaped}"'
