"""An FX graph as a program of groups: each node by its lowering, or as one call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from dovetail.compiler.groups.form import Former
from dovetail.compiler.groups.layout import Layout
from dovetail.compiler.groups.model import Constant, Program, Ref
from dovetail.compiler.nodes import EAGER, NODES
from dovetail.compiler.nodes.aten.schema import found
from dovetail.compiler.ops.builder import Builder, Spec, dim
from dovetail.compiler.ops.scalars import is_computed
from dovetail.compiler.ops.table import ANY_TYPE, LOWERINGS
from dovetail.compiler.ops.watch import Watcher
from dovetail.errors import DovetailError

__all__ = ["NoLoweringError", "program_of", "specs_of"]

#: Asserted about shapes when tracing; nothing to compute.
_IGNORED = ("aten._assert_async.msg", "aten._assert_tensor_metadata.default", "aten.sym_size.int")


class NoLoweringError(DovetailError):
    """An operator that cannot be compiled: ``key`` names it."""

    def __init__(self, key: str, node: str) -> None:
        super().__init__(
            f"no lowering of {key} ({node}), and no kernel of it to call: "
            "compile(..., fallback=True) calls it in eager mode"
        )
        self.key = key


def program_of(
    graph: fx.GraphModule, name: str, *, fallback: bool = False, watch: bool | Sequence[str] = ()
) -> Program:
    """The groups of a functional graph of ATen and dovetail operators.

    An operator that is in no table is refused, by name, before anything is generated; with
    ``fallback`` it is called in eager mode. ``watch`` names nodes whose values are results, too:
    True is all that are in memory anyway.
    """
    former = Former(name)
    builder = Builder(former)
    builder.fallback = fallback
    values: dict[fx.Node, Any] = {}
    watcher = Watcher(builder, watch)
    for node in graph.graph.nodes:
        former.origin = node.name
        values[node] = _STEPS[node.op](graph, builder, node, values)
        if isinstance(values[node], Ref | Constant) and node.op == "call_function":
            watcher.see(node.name, values[node])
    watcher.finish()
    return former.program


def specs_of(node: fx.Node) -> list[Spec | None]:
    """What the node's results look like."""
    value = node.meta.get("val")
    found = list(value) if isinstance(value, (tuple, list)) else [value]
    return [Spec.of(v) if isinstance(v, torch.Tensor) else None for v in found]


def _placeholder(graph: Any, b: Builder, node: fx.Node, values: Any) -> Any:
    value = node.meta.get("val")
    program = b.former.program
    number = len(program.inputs)
    if not isinstance(value, torch.Tensor):
        program.inputs.append(None)
        if isinstance(value, torch.SymInt):
            program.symbols.setdefault(str(dim(value)), (number, -1))
        return dim(value)
    spec = Spec.of(value)
    for place, extent in enumerate(spec.shape):
        if getattr(extent, "is_Symbol", False):
            program.symbols.setdefault(str(extent), (number, place))
    return b.former.input(node.name, Layout(spec.shape, spec.strides), spec.dtype)


def _get_attr(graph: fx.GraphModule, b: Builder, node: fx.Node, values: Any) -> Any:
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return b.former.constant(value.detach()) if isinstance(value, torch.Tensor) else value


def _call_function(graph: Any, b: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    value = node.meta.get("val")
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return dim(value)
    args = fx.map_arg(list(node.args), lambda n: values[n])
    kwargs = fx.map_arg(dict(node.kwargs), lambda n: values[n])
    if node.target is operator.getitem:
        value, index = args
        return value[index]  # type: ignore[index]
    args, kwargs = _plain(args), _plain(kwargs)
    key = str(node.target)
    if key in _IGNORED:
        return None
    if any(isinstance(value, torch.Generator) for value in pytree.tree_leaves((args, kwargs))):
        raise DovetailError(
            f"{key} ({node.name}) draws from a torch.Generator of its own, which compiled code "
            "cannot hold: leave generator= out, and torch.manual_seed sets what it draws"
        )
    b.results = specs_of(node)
    b.returned = any(user.op == "output" for user in node.users)
    lowered = key in LOWERINGS
    if lowered and (key in ANY_TYPE or all(map(is_computed, _types(b, args, kwargs)))):
        return LOWERINGS[key](b, *args, **kwargs)
    for kernel in (key, _copying(key)):
        if kernel in NODES:
            return _call(b, node, kernel, args, kwargs)
    if b.fallback and isinstance(node.target, torch._ops.OpOverload):
        return _eager(b, node, key, args, kwargs)
    if lowered:
        return LOWERINGS[key](b, *args, **kwargs)  # which names the type
    raise NoLoweringError(key, node.name)


def _copying(key: str) -> str:
    """The operator that returns a copy where ``key`` returns a view."""
    space, name, overload = key.split(".") if key.count(".") == 2 else ("", key, "")
    return f"{space}.{name}_copy.{overload}"


def _types(b: Builder, args: list[Any], kwargs: dict[str, Any]) -> set[torch.dtype]:
    """The element types of what a node reads and makes."""
    leaves = pytree.tree_leaves((args, kwargs))
    found = {v.dtype for v in leaves if isinstance(v, (Ref, Constant))}
    return found | {spec.dtype for spec in b.results if spec is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return dim(value) if isinstance(value, torch.SymInt) else value


def _call(b: Builder, node: fx.Node, key: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A library node: tensors in the order of the schema, the other arguments by name."""
    inputs: list[Ref | None] = []
    attributes: dict[str, Any] = dict(node.meta.get("attributes", {}))
    for name, kind, value in _arguments(key, args, kwargs):
        if "Tensor" in kind:
            given = value if isinstance(value, list) else [value]
            inputs += [None if v is None else b.tensor(_as_tensor(v)) for v in given]
        elif value is not None or "Optional" in kind:
            attributes[name] = value
    outputs = [_result(b, node, i, spec) for i, spec in enumerate(b.results)]
    b.former.call(key, list(inputs), outputs, **attributes)
    single = not isinstance(node.meta.get("val"), (tuple, list))
    return outputs[0] if single else outputs


def _eager(b: Builder, node: fx.Node, key: str, args: Any, kwargs: Any) -> Any:
    """A call that torch's Python makes, its arguments written as text."""
    from dovetail.compiler.fallback import written

    outputs = [_result(b, node, i, spec) for i, spec in enumerate(b.results)]
    wanted = [i for i, output in enumerate(outputs) if output is not None]
    text, tensors, sizes = written(key, args, kwargs, wanted)
    inputs: list[Any] = [b.tensor(value) for value in tensors]
    taken: list[Any] = [outputs[i] for i in wanted]
    b.former.call(f"{EAGER}{key}", inputs, taken, call=text, sizes=sizes)
    return outputs if isinstance(node.meta.get("val"), (tuple, list)) else outputs[0]


def _result(b: Builder, node: fx.Node, index: int, spec: Spec | None) -> Ref | None:
    """Where the kernel writes; a result that nobody takes is not asked for."""
    if spec is None:
        return None
    if len(b.results) > 1:
        wanted = any(u.target is operator.getitem and u.args[1] == index for u in node.users)
        if not wanted and node.users:
            return None
    layout = Layout(spec.shape, spec.strides)
    overlaps = all(isinstance(n, int) for n in layout.strides) and not layout.is_dense
    return b.former.allocate(Layout.dense(spec.shape) if overlaps else layout, spec.dtype)


def _as_tensor(value: Any) -> Any:
    """A number where the schema has a tensor, as one of no dimensions."""
    if isinstance(value, (Ref, Constant)):
        return value
    return Constant(value, (), torch.float64 if isinstance(value, float) else torch.int64)


def _arguments(key: str, args: list[Any], kwargs: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    schema = found(key)._schema
    for i, argument in enumerate(schema.arguments):
        if i < len(args):
            value = args[i]
        elif argument.name in kwargs:
            value = kwargs[argument.name]
        elif "Tensor" in str(argument.type):
            value = None
        else:
            continue
        yield argument.name, str(argument.type), value


def _output(graph: Any, b: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> None:
    (given,) = node.args
    returned = given if isinstance(given, (list, tuple)) else [given]
    for out in returned:
        value = values[out] if isinstance(out, fx.Node) else out
        spec = specs_of(out)[0] if isinstance(out, fx.Node) else None
        b.former.program.outputs.append(_returned(b, value, spec))


def _returned(b: Builder, value: Any, spec: Spec | None) -> Any:
    if spec is None or value is None:
        return value
    wanted = Layout(spec.shape, spec.strides)
    same = isinstance(value, Ref) and value.dtype == spec.dtype
    placed = same and Layout(value.shape, value.layout.strides).same_place(wanted)
    if isinstance(value, Constant) or not placed:
        value = b.copied(b.cast(value, spec.dtype), wanted)
    b.former.in_memory(value)
    buffer = b.former.buffers[value.buffer]
    if buffer.role == "temporary":
        buffer.role = "output"
    return value


_STEPS: dict[str, Callable[..., Any]] = {
    "placeholder": _placeholder,
    "get_attr": _get_attr,
    "call_function": _call_function,
    "output": _output,
}
