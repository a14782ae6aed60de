"""The library node itself: one class for every operator, told apart by the call it holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.base import Call, Operand
from dovetail.compiler.nodes.call_text import read_call, write_call

dace = load_dace()
library = dace.library

__all__ = ["Operator", "add_operator", "declare", "expands", "target_of", "tasklet"]

_Expansion = Callable[["Operator", Any, Any], Any]


@library.node
class Operator(dace.nodes.LibraryNode):  # type: ignore[misc,name-defined]
    """One call of an operator; its tensors arrive at connectors ``__in0``, ..., ``__out0``, ..."""

    implementations: dict[str, Any] = {}  # noqa: RUF012  (DaCe's own registry)
    default_implementation = None

    text = dace.properties.Property(dtype=str, desc="The call, as JSON")

    def __init__(self, call: Call, **kwargs: Any) -> None:
        super().__init__(call.key.removesuffix(".default"), **kwargs)
        self.text = write_call(call)

    @property
    def call(self) -> Call:
        """The call, its operands named by connector."""
        return read_call(self.text)


def expands(implementation: str, environments: list[Any]) -> Callable[[_Expansion], _Expansion]:
    """Register ``function(node, state, sdfg)`` as an implementation of every operator node.

    Its class is put into the function's module: a saved SDFG finds it there by name.
    """

    def register(function: _Expansion) -> _Expansion:
        name = "Expand" + implementation.title().replace("-", "")
        body = {
            "__module__": function.__module__,
            "environments": environments,
            "expansion": staticmethod(lambda node, state, sdfg, **_: function(node, state, sdfg)),
        }
        made = type(name, (dace.transformation.transformation.ExpandTransformation,), body)
        setattr(sys.modules[function.__module__], name, library.expansion(made))
        Operator.register_implementation(implementation, made)
        return function

    return register


def add_operator(state: Any, sdfg: Any, call: Call, implementation: str) -> Any:
    """Wire an operator node into ``state``; one connector per array, however often it is read."""
    from dovetail.compiler.nodes.expansions import known

    known(implementation)
    pointer = dace.dtypes.pointer
    ins = _connectors(call.inputs, "__in")
    outs = _connectors(call.outputs, "__out")
    inputs, outputs = _renamed(call.inputs, ins), _renamed(call.outputs, outs)
    renamed = replace(call, inputs=inputs, outputs=outputs)
    node = Operator(
        renamed,
        inputs={c: pointer(sdfg.arrays[data].dtype) for data, c in ins.items()},
        outputs={c: pointer(sdfg.arrays[data].dtype) for data, c in outs.items()},
    )
    node.implementation = implementation
    state.add_node(node)
    for data, connector in ins.items():
        memlet = dace.Memlet.from_array(data, sdfg.arrays[data])
        state.add_edge(_newest(state, data) or state.add_read(data), None, node, connector, memlet)
    for data, connector in outs.items():
        old = None if data in ins else _newest(state, data)
        memlet = dace.Memlet.from_array(data, sdfg.arrays[data])
        state.add_edge(node, connector, old or state.add_write(data), None, memlet)
    return node


def target_of(sdfg: Any, operands: Iterable[Operand | None]) -> str:
    """Where a call runs: where its arrays are."""
    on_device = dace.StorageType.GPU_Global
    storages = (sdfg.arrays[o.data].storage for o in operands if o is not None)
    return "cuda" if any(storage == on_device for storage in storages) else "cpu"


def tasklet(node: Operator, code: str) -> Any:
    """A C++ tasklet in the place of ``node``."""
    return dace.nodes.Tasklet(
        node.name,
        dict(node.in_connectors),
        dict(node.out_connectors),
        code,
        language=dace.dtypes.Language.CPP,
    )


def declare(sdfg: Any, text: str, where: str = "frame") -> None:
    """Put C++ declarations at the top of the generated file, once; "cuda": of that with kernels."""
    while sdfg.parent_sdfg is not None:
        sdfg = sdfg.parent_sdfg
    if text not in str(sdfg.global_code[where].as_string if where in sdfg.global_code else ""):
        sdfg.append_global_code(f"{text}\n", where)


def _connectors(operands: tuple[Operand | None, ...], prefix: str) -> dict[str, str]:
    names = dict.fromkeys(o.data for o in operands if o is not None)
    return {data: f"{prefix}{i}" for i, data in enumerate(names)}


def _renamed(
    operands: tuple[Operand | None, ...], connectors: dict[str, str]
) -> tuple[Operand | None, ...]:
    return tuple(o and replace(o, data=connectors[o.data]) for o in operands)


def _newest(state: Any, data: str) -> Any:
    found = [node for node in state.data_nodes() if node.data == data]
    return found[-1] if found else None
