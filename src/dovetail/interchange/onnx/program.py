"""A captured graph as an ONNX model: torch writes its own operators, functions stand for ours."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from dovetail._optional import optional
from dovetail.errors import DovetailError
from dovetail.interchange.onnx.functions import Function
from dovetail.interchange.onnx.nodes import DOMAIN, IR_VERSION, OPSET, opsets

__all__ = ["written"]


def written(
    graph: fx.GraphModule,
    functions: Sequence[Function],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """The whole graph as a ``ModelProto`` of standard operators, our functions put in their place.

    ``graph`` is changed: a node that calls a function stands for each of ours.
    """
    optional("onnxscript", extra="onnx")
    inliner = optional("onnx.inliner", extra="onnx")
    _call(graph, functions)
    with torch.no_grad(), _quietly():
        try:
            program = torch.onnx.export(
                graph,
                tuple(args),
                kwargs=dict(kwargs),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                output_names=_outputs(graph),
            )
        except Exception as error:  # of any kind, with a page about how to report it to torch
            raise _refused(error) from error
    assert program is not None
    model = program.model_proto
    model.functions.extend(function.proto() for function in functions)
    del model.opset_import[:]
    model.opset_import.extend(opsets(functions=True))
    model.ir_version = IR_VERSION
    model = inliner.inline_local_functions(model)
    del model.opset_import[:]
    model.opset_import.extend(opsets(functions=False))
    _plain(model)
    return model


def _call(graph: fx.GraphModule, functions: Sequence[Function]) -> None:
    for function in functions:
        node, value = function.node, function.node.meta["val"]
        # Among them calls that by now stand for what the operation was given at first.
        inputs = [each for each in node.all_input_nodes if each not in function.operation.known]
        with graph.graph.inserting_before(node):
            call = graph.graph.call_function(
                torch.onnx.ops.symbolic,
                (f"{DOMAIN}::{function.name}", inputs),
                {"dtype": value.dtype, "shape": list(value.shape), "version": 1},
            )
        node.replace_all_uses_with(call)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _outputs(graph: fx.GraphModule) -> list[str]:
    """Names of the results: what torch names after its own nodes says nothing."""
    count = len(graph.graph.output_node().all_input_nodes)
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


@contextmanager
def _quietly() -> Iterator[None]:
    """torch's exporter tells of every package that it has not found."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _refused(error: Exception) -> DovetailError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    told = str(cause).strip().partition("\n")[0]
    return DovetailError(
        f"torch.onnx cannot write an operator of this model: {told}. What approximated functions "
        "(fn=) and formats do to bits has no ONNX operator; leave those out, or export to='golden'"
    )


def _plain(model: Any) -> None:
    """Without the traces of torch's exporter, and sure to hold standard operators alone."""
    graph = model.graph
    for each in (*graph.node, *graph.input, *graph.output, *graph.initializer, *graph.value_info):
        del each.metadata_props[:]
    foreign = sorted({node.domain for node in graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise DovetailError(f"the model needs operators of {', '.join(foreign)}, not ONNX's own")
