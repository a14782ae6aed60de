"""An emulated model as a graph: torch's operators, and one node for each emulated operation."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from dovetail.errors import DovetailError
from dovetail.formats.realise.whole import whole_casts

__all__ = ["captured", "constants_of", "emulated_nodes", "module_path"]


def captured(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    """``model``, in evaluation mode, as torch.export sees it on these arguments.

    Each emulated layer and each cast is one node of the ``dovetail`` namespace. What does not
    depend on the arguments (sparse, smoothed or cast weights) is computed, and a constant.

    >>> layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    >>> [node.op for node in captured(layer, (x,), {}).graph.nodes]
    ['get_attr', 'get_attr', 'placeholder', 'call_function', 'output']
    """
    with whole_casts(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own
        try:
            program = torch.export.export(model, tuple(args), dict(kwargs), strict=False)
        except DovetailError:
            raise
        except Exception as error:  # of any kind: it runs the user's own code
            raise DovetailError(
                f"torch.export cannot trace this {type(model).__name__}: {type(error).__name__}: "
                f"{str(error).strip().partition(chr(10))[0]}"
            ) from error
        graph = program.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    _fold(graph)
    return graph


def emulated_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    """The nodes of this library's operators, in the order in which they run."""
    return [node for node in graph.graph.nodes if _is_emulated(node)]


def module_path(node: fx.Node) -> str:
    """The path of the module that called a node; ``.`` is the model itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    return str(paths[-1]) if paths else "."


def _is_emulated(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "namespace", "") == "dovetail"


def _fold(module: fx.GraphModule) -> None:
    """Compute what follows from parameters and buffers alone."""
    graph = module.graph
    known: dict[fx.Node, Any] = {}
    made = set()
    for node in graph.nodes:
        if node.op == "get_attr":
            value = _attribute(module, str(node.target))
            if isinstance(value, Tensor):
                known[node] = value.detach()
        elif node.op == "call_function" and _follows(node, known):
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            target: Any = node.target
            with torch.no_grad():
                known[node] = target(*args, **kwargs)
            made.add(node)
    used = [n for n in made if isinstance(known[n], Tensor) and not made.issuperset(n.users)]
    for number, node in enumerate(sorted(used)):
        name = f"_constant_{number}"
        module.register_buffer(name, known[node].clone(), persistent=False)
        with graph.inserting_before(node):
            held = graph.get_attr(name)
        held.meta = dict(node.meta)
        node.replace_all_uses_with(held)
    graph.eliminate_dead_code()
    module.recompile()


def _follows(node: fx.Node, known: Mapping[fx.Node, Any]) -> bool:
    schema = getattr(node.target, "_schema", None)
    drawn = "rand" in str(node.target) or "bernoulli" in str(node.target)
    fixed = node.target is operator.getitem or (schema is not None and not schema.is_mutable)
    inputs = node.all_input_nodes
    return fixed and not drawn and bool(inputs) and all(each in known for each in inputs)


def _attribute(module: nn.Module, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def constants_of(module: fx.GraphModule) -> Iterator[tuple[fx.Node, Tensor]]:
    """Every constant of the graph, by its node."""
    for node in module.graph.find_nodes(op="get_attr"):
        value = _attribute(module, str(node.target))
        if isinstance(value, Tensor):
            yield node, value.detach()
