"""C++ for products of matrices: torch writes them into the given array, transposed or not."""

from __future__ import annotations

from dovetail.compiler.nodes.aten.schema import arguments
from dovetail.compiler.nodes.aten.text import number, view
from dovetail.compiler.nodes.base import Call

__all__ = ["PRODUCTS", "product_code"]

PRODUCTS = {
    "aten.mm.default": "aoti_torch_cpu_mm_out",
    "aten.bmm.default": "aoti_torch_cpu_bmm_out",
    "aten._int_mm.default": "aoti_torch_cpu__int_mm_out",
    "aten.addmm.default": "aoti_torch_cpu_addmm_out",
    "aten.baddbmm.default": "aoti_torch_cpu_baddbmm_out",
}


def product_code(call: Call) -> str:
    """A tasklet's body for one of ``PRODUCTS``."""
    (output,) = call.outputs
    assert output is not None
    constants = [f"double({number(float(v))})" for kind, v in arguments(call) if kind == "number"]
    tensors = [output, *(o for o in call.inputs if o is not None)]
    lines = [f"dovetail_aten::Tensor t{i}({view(o)});" for i, o in enumerate(tensors)]
    names = ", ".join([*(f"t{i}" for i in range(len(tensors))), *constants])
    function = PRODUCTS[call.key]
    if call.target == "cuda":
        name = function.removeprefix("aoti_torch_cpu_")
        found = f'dovetail_aten::on_device<decltype(&{function})>("{name}")'
        lines.append(f"static const auto product = {found};")
        function = "product"
    lines.append(f'dovetail_aten::check({function}({names}), "{call.key}");')
    return "\n".join(lines)
