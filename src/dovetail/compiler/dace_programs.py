"""What runs inside a ``@dace.program``: a module's groups as an SDFG over arrays of true shape."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from dovetail._optional import optional
from dovetail.compiler.capture import capture
from dovetail.compiler.engine import load_dace
from dovetail.compiler.groups.layout import total
from dovetail.compiler.groups.model import Call, Program, Ref
from dovetail.compiler.nodes import NODES
from dovetail.compiler.onnx.node import Node
from dovetail.compiler.onnx.registry import find
from dovetail.compiler.ops.graph import program_of
from dovetail.compiler.passes.pipeline import chosen
from dovetail.compiler.sdfg.arrays import dtype_of
from dovetail.compiler.sdfg.emit import emit
from dovetail.errors import DovetailError, unknown

__all__ = [
    "Inlined",
    "argument_names",
    "closure_of",
    "inlined",
    "program_sdfg",
    "register_operator",
    "state_arrays",
]

_HEADER = Path(__file__).parent / "include" / "dovetail_math.h"


class Inlined:
    """A module for certain shapes as an SDFG of flat arrays, and what goes in and comes out.

    ``inputs`` are the arrays of the parameters, the buffers and the arguments, in that order,
    ``None`` for one that is not read; ``outputs`` the arrays, shapes and types of the results.
    """

    def __init__(self, name: str, module: nn.Module, args: Sequence[Any], choice: str | None):
        found = capture(module, args)
        if found.mutated:
            raise DovetailError(f"{name} changes its buffers: in a program it must be in eval mode")
        pipeline = chosen("default")
        program = pipeline.on_program(program_of(pipeline.on_graph(found.forward), name))
        _choose(program, choice, name)
        self.state_names = (*found.parameters, *found.buffers)
        self.sdfg = pipeline.on_sdfg(emit(program))
        self.sdfg.set_global_code(f'#include "{_HEADER}"', None)
        self.inputs = list(program.inputs)
        self.outputs = [
            (self._own(number, ref, program), tuple(map(int, ref.shape)), ref.dtype)
            for number, ref in enumerate(program.outputs)
            if isinstance(ref, Ref)
        ]

    def _own(self, number: int, ref: Ref, program: Program) -> str:
        """An array that holds the result alone, in row-major order."""
        dace = load_dace()
        layout, buffer = ref.layout, program.buffers[ref.buffer]
        others = [r for r in program.results if r is not ref]
        whole = layout.offset == 0 and total(layout.shape) == buffer.size
        row_major, step = True, 1
        for size, stride in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
            row_major, step = (
                row_major and stride in (step, step if size != 1 else stride),
                step * size,
            )
        shared = any(r.buffer == ref.buffer for r in others)
        if buffer.role == "output" and whole and row_major and not shared:
            return ref.buffer
        name = f"result_{number}"
        count = max(int(total(layout.shape)), 1)
        self.sdfg.add_array(name, [count], dtype_of(ref.dtype))
        if buffer.role == "output":
            self.sdfg.arrays[ref.buffer].transient = True
        last = [state for state in self.sdfg.states() if not self.sdfg.out_degree(state)]
        state = self.sdfg.add_state_after(last[0], f"copy_{name}")
        ranges = {f"i{d}": f"0:{size}" for d, size in enumerate(layout.shape)} or {"i": "0:1"}
        read = " + ".join(
            [str(layout.offset), *(f"i{d}*({s})" for d, s in enumerate(layout.strides))]
        )
        write, step = "0", 1
        for d in reversed(range(len(layout.shape))):
            write, step = f"{write} + i{d}*{step}", step * int(layout.shape[d])
        state.add_mapped_tasklet(
            f"copy_{name}",
            ranges,
            {"value": dace.Memlet(f"{ref.buffer}[{read}]")},
            "copied = value",
            {"copied": dace.Memlet(f"{name}[{write}]")},
            external_edges=True,
        )
        return name

    def wire(self, state: Any, given: Mapping[str, str], results: Sequence[str]) -> None:
        """Put it into ``state``: arrays there by the arrays here that they are, and the results.

        What is flat here is a view of the array there.
        """
        names = [name for name, _, _ in self.outputs]
        node = state.add_nested_sdfg(self.sdfg, dict.fromkeys(given), dict.fromkeys(names))
        for name, array in given.items():
            view, whole, flat = self._view(state, name, array)
            state.add_edge(state.add_read(array), None, view, "views", whole)
            state.add_edge(view, None, node, name, flat)
        for name, array in zip(names, results, strict=True):
            view, whole, flat = self._view(state, name, array)
            state.add_edge(node, name, view, None, flat)
            state.add_edge(view, "views", state.add_write(array), None, whole)

    def _view(self, state: Any, name: str, array: str) -> tuple[Any, Any, Any]:
        memlet, outer = load_dace().Memlet.from_array, state.sdfg
        inner, there = self.sdfg.arrays[name], outer.arrays[array]
        made, _ = outer.add_view(f"flat_{array}", inner.shape, inner.dtype, find_new_name=True)
        access = state.add_access(made)
        return access, memlet(array, there), memlet(made, outer.arrays[made])


def _choose(program: Program, choice: str | None, name: str) -> None:
    """Have its library nodes use one implementation."""
    if choice is None:
        return
    calls = [group for group in program.groups if isinstance(group, Call)]
    known = sorted({each for call in calls for each in NODES[call.key].implementations})
    if choice not in known:
        raise DovetailError(
            f"{name} has no implementation '{choice}': {', '.join(known) or 'it is maps alone'}"
        )
    for call in calls:
        if choice in NODES[call.key].implementations:
            call.implementation = choice


def inlined(
    name: str, module: nn.Module, args: Sequence[Any], implementation: str | None = None
) -> Inlined:
    """``module`` at the shapes of ``args`` as an SDFG that other SDFGs can hold."""
    with torch.no_grad():
        return Inlined(name, module, args, implementation)


def program_sdfg(module: nn.Module, args: Sequence[Any]) -> Any:
    """The SDFG of ``module`` over arrays of true shape: state, arguments, and ``__return``."""
    dace = load_dace()
    examples = [_example(dace.data.create_datadescriptor(arg)) for arg in args]
    inner = inlined(type(module).__name__.lower(), module, examples)
    outer = dace.SDFG(f"{inner.sdfg.name}_in_program")
    state = outer.add_state("call", is_start_block=True)
    held = {_array_name(name): _tensor(module, name) for name in inner.state_names}
    tensors = [*held.items(), *zip(argument_names(module), examples, strict=False)]
    outer.arg_names = argument_names(module)
    given: dict[str, str] = {}
    for (name, value), flat in zip(tensors, inner.inputs, strict=True):
        outer.add_array(name, tuple(value.shape) or (1,), dtype_of(value.dtype))
        if flat is not None:
            given[flat] = name
    results = []
    for number, (_, shape, dtype) in enumerate(inner.outputs):
        results.append("__return" if len(inner.outputs) == 1 else f"__return_{number}")
        outer.add_array(results[-1], shape or (1,), dtype_of(dtype))
    inner.wire(state, given, results)
    return outer


#: DaCe tells arrays by their identity: one for each tensor, as long as that has its memory.
_arrays: Any = WeakIdKeyDictionary()


def state_arrays(module: nn.Module) -> dict[str, Any]:
    """Parameters and buffers as tensors without gradients that share their memory."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {_array_name(name): _array(tensor) for name, tensor in tensors}


def _array(tensor: Tensor) -> Any:
    place, array = _arrays.get(tensor, (0, None))
    if array is None or place != tensor.data_ptr():
        array = tensor.detach()
        _arrays[tensor] = (tensor.data_ptr(), array)
    return array


def _array_name(path: str) -> str:
    return "state_" + path.replace(".", "_")


def _tensor(module: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    value: Tensor = getattr(module.get_submodule(owner), name)
    return value


def argument_names(module: nn.Module) -> list[str]:
    """What the arguments of the module's forward are called."""
    names = getattr(module, "input_names", None)
    if names is None:
        kinds = inspect.signature(module.forward).parameters.values()
        names = [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
    return ["in_" + re.sub(r"\W", "_", name) for name in names]


def closure_of(module: nn.Module) -> Any:
    """DaCe's account of what a module uses: each array of its state, found anew at every call."""
    dace = load_dace()
    from dace.frontend.python.common import SDFGClosure

    closure = SDFGClosure()
    for name, array in state_arrays(module).items():
        described = dace.data.create_datadescriptor(array)
        read = partial(_state_array, module, name)
        closure.closure_arrays[name] = (name, described, read, False)
        closure.array_mapping[id(array)] = name
    return closure


def _state_array(module: nn.Module, name: str) -> Any:
    return state_arrays(module)[name]


def register_operator(name: str, path: str) -> None:
    """Have DaCe's front end replace calls of ``path`` by the ONNX operator ``name``."""
    load_dace()
    from dace.frontend.common import op_repository
    from dace.frontend.python.common import StringLiteral

    def replace(_visitor: Any, sdfg: Any, state: Any, **arguments: Any) -> list[Any]:
        plain = {k: v.value if isinstance(v, StringLiteral) else v for k, v in arguments.items()}
        _put(name, sdfg, state, plain)
        return []

    op_repository.replaces(path)(replace)


def _put(name: str, sdfg: Any, state: Any, arguments: dict[str, Any]) -> None:
    from dovetail.compiler.onnx_ops import schema_of

    opset = arguments.pop("opset", None) or _newest()
    choice = arguments.pop("implementation", None)
    schema = schema_of(name, opset)
    slots = [entry.name for entry in schema.inputs]
    results = [arguments.pop(e.name, None) for e in schema.outputs]
    values = [arguments.pop(slot, None) for slot in slots]
    while results and results[-1] is None:
        results.pop()
    if not results or None in results:
        outputs = ", ".join(e.name for e in schema.outputs)
        raise DovetailError(f"onnx_ops.{name}: give arrays for its outputs ({outputs})")
    operator = find("", name, opset)
    strange = set(arguments) - operator.parameters
    if strange:
        known = sorted({*slots, *(e.name for e in schema.outputs), *operator.parameters})
        raise unknown(f"argument of onnx_ops.{name}", min(strange), known)
    static = {at: v for at, v in enumerate(values) if v is not None and not _is_array(v, sdfg)}
    node = Node(
        operator, arguments, name=name, outputs=len(results), opset=opset, static=static
    ).eval()
    last = max((at for at, v in enumerate(values) if v is not None), default=-1)
    given = [_example(sdfg.arrays[v]) if _is_array(v, sdfg) else None for v in values[: last + 1]]
    inner = inlined(f"onnx_{name}", node, given, choice)
    for (_, shape, _), array in zip(inner.outputs, results, strict=True):
        there = tuple(int(size) for size in sdfg.arrays[array].shape)
        if there != shape:
            raise DovetailError(f"onnx_ops.{name}: '{array}' has the shape {there}, not {shape}")
    arrays = [values[at] for at, x in enumerate(given) if x is not None]
    inner.wire(state, _matched(inner.inputs, given, arrays), results)


def _matched(names: Sequence[str | None], given: Sequence[Any], arrays: Sequence[str]) -> Any:
    """Arrays of the program by the flat arrays that they are."""
    tensors = [name for name, x in zip(names, given, strict=True) if x is not None]
    return {name: array for name, array in zip(tensors, arrays, strict=True) if name is not None}


def _is_array(value: Any, sdfg: Any) -> bool:
    return isinstance(value, str) and value in sdfg.arrays


def _newest() -> int:
    return int(optional("onnx", extra="onnx").defs.onnx_opset_version())


def _example(array: Any) -> Tensor:
    """A tensor of an array's shape and type."""
    return torch.zeros([int(size) for size in array.shape], dtype=_torch_type(array.dtype))


def _torch_type(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype.type)).dtype
