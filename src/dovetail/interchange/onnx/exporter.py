"""The exporter `onnx`: written to a temporary file, executed, compared, and only then there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from dovetail._batches import device_of
from dovetail._numbers import is_number
from dovetail._optional import optional
from dovetail.emulation.example import arguments_of
from dovetail.errors import DovetailError
from dovetail.interchange.capture import captured
from dovetail.interchange.onnx.check import compared_functions, compared_outputs, recorded
from dovetail.interchange.onnx.functions import functions_of
from dovetail.interchange.onnx.nodes import OPSET
from dovetail.interchange.onnx.program import written
from dovetail.interchange.registry import register_exporter
from dovetail.interchange.result import Compared, Exported

__all__ = ["onnx"]

#: Of one protobuf.
_LARGEST = 2**31 - 1


@register_exporter("onnx", suffix=".onnx")
def onnx(
    model: nn.Module, path: Path, example: Any, *, verify: bool = True, tolerance: float = 1e-2
) -> Exported:
    """An ONNX file of standard operators, compared with the emulation in onnxruntime.

    Each emulated operation gives the emulation's bits. What torch computes around them (pooling,
    softmax, exact layers) another runtime may round otherwise in the last place, which can move a
    code by one: the outputs of the whole network must agree to ``tolerance``, relative to the
    largest.
    """
    if not is_number(tolerance) or not tolerance >= 0:
        raise DovetailError(f"tolerance={tolerance!r} is a number from 0 on, such as 1e-2")
    if device_of(model).type != "cpu":
        raise DovetailError(
            f"the model is on {device_of(model)}, and files are written and executed on the CPU: "
            "call model.cpu() first"
        )
    checker = optional("onnx", extra="onnx")
    args, kwargs = arguments_of(example)
    flat = pytree.tree_leaves((args, dict(kwargs)))
    with torch.random.fork_rng(devices=()):
        # Run once first: what is only found in a first run cannot be found in a traced one.
        with torch.no_grad():
            expected = model(*args, **kwargs)
        graph = captured(model, args, kwargs)
        functions = functions_of(graph)
        rows: list[Compared] = []
        if verify:
            run = recorded(graph, [function.node for function in functions], flat)
            rows = compared_functions(functions, run)
            _refuse_different([row for row in rows if not row.is_equal])
        proto = written(graph, functions, args, kwargs)
    if proto.ByteSize() > _LARGEST:
        raise DovetailError(
            f"'{path}' would be a file of {proto.ByteSize() / 2**30:.1f} GiB, and one protobuf "
            "holds 2; export parts of the model"
        )
    proto.producer_name = "dovetail"
    _tell(proto, functions)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        made = Path(folder) / path.name
        checker.checker.check_model(proto, full_check=True)
        made.write_bytes(proto.SerializeToString())
        if verify:
            outputs = compared_outputs(str(made), flat, expected)
            _refuse_different([row for row in outputs if not row.largest <= tolerance])
            rows += outputs
        made.replace(path)
    facts = {"opset": OPSET, "operators": len(proto.graph.node), "emulated": len(functions)}
    return Exported("onnx", path, (path,), tuple(rows), facts)


def _tell(proto: Any, functions: Sequence[Any]) -> None:
    """What was emulated, in the file itself."""
    told = {f.operation.label: str(f.node.args[-1]) for f in functions if _is_product(f)}
    entry = proto.metadata_props.add()
    entry.key, entry.value = "dovetail.arithmetic", json.dumps(told)


def _is_product(function: Any) -> bool:
    return function.operation.kind in ("linear", "conv", "matmul")


def _refuse_different(rows: Sequence[Compared]) -> None:
    if rows:
        raise DovetailError(
            f"nothing was written: onnxruntime does not give what the emulation gives. {rows[0]}"
        )
