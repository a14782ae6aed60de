"""What was written, executed in onnxruntime and compared with the emulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from dovetail._optional import optional
from dovetail.errors import DovetailError
from dovetail.interchange.onnx.functions import Function
from dovetail.interchange.result import Compared

__all__ = ["Recorded", "compared", "compared_functions", "compared_outputs", "recorded"]

_WORDS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.float16: torch.int16}
_WORDS[torch.bfloat16] = torch.int16


class Recorded(fx.Interpreter):
    """A captured graph that is run and keeps what its emulated operations were given."""

    def __init__(self, graph: fx.GraphModule, kept: Sequence[fx.Node]) -> None:
        super().__init__(graph)
        self.kept = set(kept)
        self.given: dict[fx.Node, tuple[Any, ...]] = {}
        self.gave: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.kept:
            self.given[n] = self.fetch_args_kwargs_from_env(n)[0]
            self.gave[n] = result
        return result


def recorded(graph: fx.GraphModule, kept: Sequence[fx.Node], flat: Sequence[Any]) -> Recorded:
    """The graph run on its flat inputs."""
    run = Recorded(graph, kept)
    with torch.no_grad():
        run.run(*flat)
    return run


def compared_functions(functions: Sequence[Function], run: Recorded) -> list[Compared]:
    """Each function alone, on what the emulation gave its operation and on special values."""
    return [_compared(function, run) for function in functions]


def _compared(function: Function, run: Recorded) -> Compared:
    operation, node = function.operation, function.node
    session = _session(function.model())
    given = run.given[node]
    places = [node.args.index(each) for each in operation.inputs]
    target: Any = node.target
    cases = [(given, run.gave[node])]
    special = list(given)
    for place in places:
        special[place] = with_special_values(given[place])
    with torch.no_grad():
        cases.append((tuple(special), target(*special)))
    found = []
    for inputs, expected in cases:
        feed = {f"x{i}": inputs[place] for i, place in enumerate(places)}
        (result,) = _run(session, feed, [expected])
        found.append(compared(operation.path, operation.kind, result, expected))
    return Compared(
        operation.path,
        operation.kind,
        sum(each.elements for each in found),
        sum(each.different for each in found),
        max(each.largest for each in found),
    )


def with_special_values(x: Tensor) -> Tensor:
    """``x`` spread over ten times its range, with zeros, infinities, NaN and tiny numbers in it.

    >>> x = with_special_values(torch.ones(64))
    >>> bool(x.isnan().any()), bool(x.isinf().any()), x.shape
    (True, True, torch.Size([64]))
    """
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(x.shape, generator=generator).to(x.dtype)
    finite = x.nan_to_num(0.0, 0.0, 0.0)
    size = float(finite.abs().max()) if x.numel() else 0.0
    flat = (x + wide * (size or 1.0) * 4).flatten()
    info = torch.finfo(x.dtype)
    inf, nan = float("inf"), float("nan")
    known = [nan, inf, -inf, 0.0, -0.0, info.max, info.min, info.tiny, -info.tiny, size, -size]
    places = torch.randperm(flat.numel(), generator=generator)[: len(known)]
    flat[places] = torch.tensor(known, dtype=x.dtype)[: len(places)]
    return flat.reshape(x.shape)


def compared_outputs(path: str, flat: Sequence[Any], expected: Any) -> list[Compared]:
    """The file as it stands, on the example, with the outputs of the emulated model."""
    session = _session(path)
    names = [each.name for each in session.get_inputs()]
    tensors = [each for each in flat if isinstance(each, Tensor)]
    if len(names) != len(tensors):
        raise DovetailError(
            f"the file takes {len(names)} inputs and the example has {len(tensors)} tensors: the "
            "model does not use them all"
        )
    wanted = [each for each in pytree.tree_leaves(expected) if isinstance(each, Tensor)]
    results = _run(session, dict(zip(names, tensors, strict=True)), wanted)
    outputs = [each.name for each in session.get_outputs()]
    rows = zip(outputs, results, wanted, strict=True)
    return [compared(name, "output", result, tensor) for name, result, tensor in rows]


def compared(name: str, kind: str, result: Tensor, expected: Tensor) -> Compared:
    """How near a result is to what was expected; all NaNs are one.

    >>> compared("y", "output", torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0])).largest
    0.25
    """
    if result.shape != expected.shape or result.dtype != expected.dtype:
        raise DovetailError(
            f"{name} ({kind}): {result.dtype} {tuple(result.shape)} came instead of "
            f"{expected.dtype} {tuple(expected.shape)}"
        )
    if not expected.dtype.is_floating_point:
        different = int((result != expected).sum())
        return Compared(name, kind, expected.numel(), different, float(different > 0))
    word = _WORDS[expected.dtype]
    same = result.contiguous().view(word) == expected.contiguous().view(word)
    same |= result.isnan() & expected.isnan()
    if same.all():
        return Compared(name, kind, expected.numel(), 0)
    ours, theirs = result.double(), expected.double()
    size = float(theirs.nan_to_num(0.0, 0.0, 0.0).abs().max()) or 1.0
    gap = torch.where(ours == theirs, 0.0, (ours - theirs).abs() / size)
    largest = float(gap.nan_to_num(torch.inf, torch.inf)[~same].max())
    return Compared(name, kind, expected.numel(), int((~same).sum()), largest)


def _session(model: bytes | str) -> Any:
    runtime = optional("onnxruntime", extra="onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, feed: Mapping[str, Tensor], wanted: Sequence[Tensor]) -> list[Tensor]:
    """The session's outputs, through memory: NumPy has no bfloat16."""
    binding = session.io_binding()
    held = []
    for name, tensor in feed.items():
        values = tensor.detach().contiguous()
        held.append(values)
        binding.bind_input(
            name, "cpu", 0, _element(values.dtype), list(values.shape), values.data_ptr()
        )
    results = [torch.empty(each.shape, dtype=each.dtype) for each in wanted]
    for info, result in zip(session.get_outputs(), results, strict=True):
        kind = _element(result.dtype)
        binding.bind_output(info.name, "cpu", 0, kind, list(result.shape), result.data_ptr())
    session.run_with_iobinding(binding)
    return results


def _element(dtype: torch.dtype) -> int:
    """ONNX's number of an element type."""
    names = {
        torch.float32: "FLOAT",
        torch.float64: "DOUBLE",
        torch.float16: "FLOAT16",
        torch.bfloat16: "BFLOAT16",
        torch.int64: "INT64",
        torch.int32: "INT32",
        torch.int16: "INT16",
        torch.int8: "INT8",
        torch.uint8: "UINT8",
        torch.bool: "BOOL",
    }
    onnx = optional("onnx", extra="onnx")
    return int(onnx.TensorProto.DataType.Value(names[dtype]))
