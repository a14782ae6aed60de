"""Control flow: bodies are graphs of their own, given what they use of the graph around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.sizes import as_tensor, is_size


def _run(body: Any, given: Sequence[Any], captured: Sequence[Any]) -> list[Any]:
    """A body with its inputs, and the captured values that follow the node's own."""
    values = dict(zip(body.input_names, given, strict=True))
    values |= dict(zip(body.captured, captured, strict=True))
    found: list[Any] = body.run(values)
    return found


def _truth(value: Any) -> bool:
    return bool(value[0] if isinstance(value, tuple) else value)


def _number(value: Any) -> Any:
    value = value[0] if isinstance(value, tuple) else value
    return value.item() if isinstance(value, Tensor) else value


@operator("If")
def if_(condition: Any, *captured: Any, then_branch: Any, else_branch: Any) -> tuple[Any, ...]:
    """One of two bodies."""
    body = then_branch if _truth(condition) else else_branch
    return tuple(_run(body, (), captured))


@operator("Loop")
def loop(count: Any, condition: Any, *values: Any, body: Any) -> tuple[Any, ...]:
    """A body as often as ``count`` says and its condition holds; what it scans is stacked."""
    carried = list(values[: len(body.input_names) - 2])
    captured = values[len(carried) :]
    rows: list[list[Tensor]] = [[] for _ in range(len(body.output_names) - 1 - len(carried))]
    goes = condition is None or _truth(condition)
    limit = None if count is None else _number(count)
    time = 0
    while goes and (limit is None or time < limit):
        going = as_tensor(True)
        found = _run(body, (as_tensor(time), going, *carried), captured)
        goes = _truth(found[0])
        carried, scanned = found[1 : 1 + len(carried)], found[1 + len(carried) :]
        for row, value in zip(rows, scanned, strict=True):
            row.append(as_tensor(value) if is_size(value) else value)
        time += 1
    return (*carried, *[_stacked(row) for row in rows])


def _stacked(row: list[Tensor], axis: int = 0) -> Tensor:
    return torch.stack(row, axis) if row else torch.empty(0)


@operator("Scan", 8)
def scan8(
    lengths: Tensor | None,
    *values: Any,
    body: Any,
    directions: Sequence[int] | None = None,
    num_scan_inputs: int,
) -> tuple[Any, ...]:
    """One sequence for each sample."""
    states = len(body.input_names) - num_scan_inputs
    own, captured = values[: len(body.input_names)], values[len(body.input_names) :]
    rows: list[tuple[Any, ...]] = []
    for sample in range(own[0].shape[0]):
        given = [value[sample] for value in own]
        if lengths is not None:
            end = int(lengths[sample])
            given[states:] = [value[:end] for value in given[states:]]
        rows.append(
            scan(*given, *captured, body=body, num_scan_inputs=num_scan_inputs,
                 scan_input_directions=directions)
        )  # fmt: skip
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))


@operator("Scan", 9)
def scan(
    *values: Any,
    body: Any,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """A body over slices of the last inputs, the first being carried on."""
    count = len(body.input_names) - num_scan_inputs
    state = [as_tensor(v) if is_size(v) else v for v in values[:count]]
    scanned, captured = values[count : count + num_scan_inputs], values[count + num_scan_inputs :]
    axes = scan_input_axes or [0] * num_scan_inputs
    turned = scan_input_directions or [0] * num_scan_inputs
    sources = [
        x.flip(axis) if back else x for x, axis, back in zip(scanned, axes, turned, strict=True)
    ]
    outputs = len(body.output_names) - count
    rows: list[list[Tensor]] = [[] for _ in range(outputs)]
    for time in range(sources[0].shape[axes[0]]):
        slices = [x.select(axis, time) for x, axis in zip(sources, axes, strict=True)]
        found = _run(body, (*state, *slices), captured)
        found = [as_tensor(value) if is_size(value) else value for value in found]
        state = found[:count]
        for row, value in zip(rows, found[count:], strict=True):
            row.append(value)
    out_axes = scan_output_axes or [0] * outputs
    back = scan_output_directions or [0] * outputs
    results = [
        _stacked(row[::-1] if b else row, axis)
        for row, axis, b in zip(rows, out_axes, back, strict=True)
    ]
    return (*state, *results)
