"""Values to integer codes in ONNX operators: :func:`dovetail.formats.quantization.quantize`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.interchange.onnx.nodes import Nodes
from dovetail.interchange.onnx.rounding import BY_OPERATOR, check_rounding, to_integers

__all__ = ["Grid", "check_integers", "codes", "given_grid", "own_grid"]


@dataclass(frozen=True)
class Grid:
    """Scale and zero point by name, both floating point; they broadcast against the values. Where
    the zero point is known to be 0 everywhere, ``zero`` is None."""

    scale: str
    zero: str | None


def check_integers(fmt: IntFormat, where: str) -> None:
    """Refuse integer formats whose cast no ONNX operators give."""
    check_rounding(fmt.rounding, where)
    if fmt.group is not None:
        plain = f"{'int' if fmt.signed else 'uint'}{fmt.bits}"
        raise DovetailError(
            f"{where}={fmt} has a scale per group, which is not written to ONNX; the nearest that "
            f"is: '{plain}'"
        )


def given_grid(nodes: Nodes, scale: Tensor, zero: Tensor, shape: tuple[int, ...]) -> Grid:
    """A grid whose numbers are known; ``shape`` is what they are brought into if there are several.

    >>> nodes = Nodes()
    >>> given_grid(nodes, torch.tensor(0.5), torch.tensor(0), ()).zero is None
    True
    """
    numbers = (scale.reshape(shape) if scale.dim() else scale).float().numpy().astype(nodes.wide)
    zeros = (zero.reshape(shape) if zero.dim() else zero).numpy().astype(nodes.wide)
    point = nodes.constant(zeros) if zeros.any() else None
    return Grid(nodes.constant(numbers), point)


def own_grid(
    nodes: Nodes, x: str, fmt: IntFormat, axes: tuple[int, ...] | None, where: str
) -> Grid:
    """The grid that float32 values ask for themselves; ``axes`` share one (None: all of them).

    As :func:`dovetail.formats.quantization.scale_zero_point` of the finite extremes.
    """
    if fmt.po2 or fmt.leaves_out:
        word = "po2" if fmt.po2 else f"observer={fmt.observer}"
        raise DovetailError(
            f"{where}={fmt} finds its range anew in every batch, and by {word}, which is not "
            f"written to ONNX: calibrate it, or leave {word} out"
        )

    if nodes.wide is not np.float32:
        raise DovetailError(
            f"{where}={fmt} finds the range of float64 values anew in every batch, which is not "
            "written to ONNX: calibrate it, or give the model .float()"
        )
    number = nodes.float
    finite = nodes("Less", nodes("Abs", x), number(np.inf))
    seen = nodes("Where", finite, x, number(0.0))
    taken = () if axes is None else (nodes.ints(*axes),)
    low, high = (
        nodes(f"Reduce{e}", seen, *taken, keepdims=int(axes is not None)) for e in ("Min", "Max")
    )
    largest = float(torch.finfo(torch.float32).max)
    limit, span = (largest / 2, fmt.qmax - fmt.qmin) if fmt.affine else (largest, fmt.qmax)
    low = nodes("Max", nodes("Min", low, number(0.0)), number(-limit))
    high = nodes("Min", nodes("Max", high, number(0.0)), number(limit))
    if fmt.affine:
        size = nodes("Sub", high, low)
    else:
        size = nodes("Max", nodes("Neg", low), high) if fmt.signed else high
    scale = nodes("Div", size, number(span))
    scale = nodes("Where", nodes("Equal", scale, number(0.0)), number(1.0), scale)
    widest = largest * (1 - 2.0**-22) / span
    scale = nodes("Max", scale, number(torch.finfo(torch.float32).tiny))
    scale = nodes("Min", scale, number(widest))
    if not fmt.affine:
        return Grid(scale, None)
    zero = nodes("Round", nodes("Sub", number(fmt.qmin), nodes("Div", low, scale)))
    zero = nodes("Clip", zero, number(fmt.qmin), number(fmt.qmax))
    return Grid(scale, zero)


def codes(nodes: Nodes, x: str, fmt: IntFormat, grid: Grid) -> str:
    """``clip(round(x / scale) + zero, qmin, qmax)`` as floating-point numbers; NaN is ``zero``.

    >>> nodes = Nodes()
    >>> x = codes(nodes, "x", IntFormat(8), given_grid(nodes, torch.ones(()), torch.zeros(()), ()))
    >>> [node.op_type for node in nodes.made if node.op_type != "Constant"]
    ['Div', 'IsNaN', 'Where', 'Round', 'Clip']
    """

    number = nodes.float

    quotient = nodes("Div", x, grid.scale)
    quotient = nodes("Where", nodes("IsNaN", quotient), number(0.0), quotient)
    if fmt.rounding.name not in BY_OPERATOR:
        # Beyond every code, and even: the others take differences, which infinities have not.
        quotient = nodes("Clip", quotient, number(-(2.0**30)), number(2.0**30))
    steps = to_integers(nodes, quotient, fmt.rounding)
    if grid.zero is not None:
        steps = nodes("Add", steps, grid.zero)
    return nodes("Clip", steps, number(fmt.qmin), number(fmt.qmax))
