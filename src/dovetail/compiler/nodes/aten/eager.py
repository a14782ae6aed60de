"""C++ for an operator that is called as in eager mode, through ``dovetail::eager``."""

from __future__ import annotations

from dovetail.compiler.nodes.aten.boxed import _word
from dovetail.compiler.nodes.base import Call

__all__ = ["eager_code"]


def eager_code(call: Call) -> str:
    """A tasklet's body that makes the call which ``call.attributes`` hold as text."""
    key, attributes = call.key, call.attributes
    words = [
        _word(key, "str", attributes["call"]),
        _word(key, "List[Tensor]", call.outputs),
        _word(key, "List[Optional[Tensor]]", call.inputs),
        _word(key, "List[int]", attributes["sizes"]),
    ]
    stack = f"uint64_t stack[4] = {{{', '.join(words)}}};"
    return f'{stack}\ndovetail_aten::call("dovetail::eager", "", stack);'
