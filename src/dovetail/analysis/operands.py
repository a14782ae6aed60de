"""Which operand codes the operations of a model really multiply, and how often each pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dovetail._batches import device_of, mode
from dovetail._files import target
from dovetail.analysis.layers import arguments
from dovetail.analysis.products import meetings
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.taps import MacCall, Watched, tap
from dovetail.errors import DovetailError
from dovetail.kernels.layer import code_range
from dovetail.multipliers import ErrorMetrics, Multiplier, multiplier

__all__ = ["OperandCounts", "count_operands", "operand_counts"]

Counts = npt.NDArray[np.int64]
LISTED = 1 << 16  # pairs of codes that are counted one by one


@dataclass(frozen=True, eq=False)
class OperandCounts:
    """How often each code was an operand of one operation's products.

    ``first [2**bits]`` (inputs) and ``second`` (weights) count products, padded pixels included,
    by code as `Multiplier.table` does; ``joint [2**bits, 2**bits]`` counts pairs, and is None above
    8 + 8 bits. ``depth`` products make one sum. ``mul`` is the operation's multiplier.
    """

    mul: Multiplier
    depth: int
    first: Counts
    second: Counts
    joint: Counts | None

    def errors(self, mul: Multiplier | None = None) -> ErrorMetrics:
        """The errors of ``mul``, by default the operation's own, over the counted products.

        Above 8 + 8 bits the operands are taken to be independent. ``.summed(depth)`` of the result
        propagates them through the operation's sums.

        >>> import dovetail as dv
        >>> model, x = nn.Sequential(nn.Linear(2, 1, bias=False)), torch.tensor([[1.0, 0.5]])
        >>> _ = nn.init.constant_(model[0].weight, 1.0)
        >>> rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1KVM")  # (a & ~1) * w
        >>> _ = dv.apply_(model, dv.Recipe(rule), x)
        >>> operand_counts(model, x)["0"].errors().bias  # of 127 * 127 and 64 * 127
        -63.5
        """
        mul = self.mul if mul is None else mul
        if self.joint is not None:
            return mul.errors(joint=self.joint)
        return mul.errors(self.first, self.second)

    def __add__(self, other: OperandCounts) -> OperandCounts:
        """Those of further calls of the same operation as well."""
        alone = self.joint is None or other.joint is None
        joint = None if alone else self.joint + other.joint  # type: ignore[operator]
        first, second = self.first + other.first, self.second + other.second
        return OperandCounts(self.mul, self.depth, first, second, joint)

    def save(self, path: str | Path) -> None:
        """Write the counts as a ``.npz`` file that `load` reads.

        >>> import tempfile
        >>> counts = OperandCounts(multiplier("exact(bits=1)"), 1, *np.ones((2, 2), int), None)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     counts.save(folder + "/counts.npz")
        ...     OperandCounts.load(folder + "/counts.npz").first
        array([1, 1])
        """
        arrays: dict[str, Any] = {} if self.joint is None else {"joint": self.joint}
        place = target(path)
        if place.suffix != ".npz":
            raise DovetailError(f"{place}: operand counts are written to a file that ends in .npz")
        arrays |= {"first": self.first, "second": self.second}
        np.savez_compressed(place, depth=self.depth, signed=self.mul.signed, **arrays)

    @staticmethod
    def load(path: str | Path) -> OperandCounts:
        """Counts that `save` wrote; their multiplier is the exact one of the operands' width."""
        if not Path(path).is_file():
            raise DovetailError(f"no file '{path}'")
        with np.load(path, allow_pickle=False) as held:
            if not {"first", "second", "depth", "signed"} <= set(held.files):
                raise DovetailError(
                    f"{path}: operand counts have the arrays first, second, depth, signed and, up "
                    f"to 8 + 8 bits, joint; this file has {', '.join(held.files) or 'none'}"
                )
            found = {name: held[name] for name in held.files}
        bits = tuple(len(found[side]).bit_length() - 1 for side in ("first", "second"))
        mul = multiplier("exact", bits=bits, signed=bool(found["signed"]))
        return OperandCounts(
            mul, int(found["depth"]), found["first"], found["second"], found.get("joint")
        )


def operand_counts(model: nn.Module, batch: Any) -> dict[str, OperandCounts]:
    """The operands of every product of codes in an emulated ``model``, over one batch of inputs.

    ``batch`` is as for :func:`dovetail.analysis.layers`. The counts serve `Multiplier.errors` and
    `Multiplier.model` as ``first_pdf``, ``second_pdf`` and ``joint``.

    >>> import dovetail as dv
    >>> model, x = nn.Sequential(nn.Linear(4, 3)), torch.ones(2, 4)
    >>> _ = dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    >>> found = operand_counts(model, x)["0"]
    >>> int(found.first[127]), found.depth
    (24, 4)
    """
    inputs, keywords = arguments(batch, device_of(model))
    found: dict[str, OperandCounts] = {}

    def watch(op: PlannedOp, call: Watched) -> None:
        if isinstance(call, MacCall) and op.arithmetic.multiplies_codes:
            one = count_operands(op, call)
            found[op.key] = one if op.key not in found else found[op.key] + one

    with mode(model, training=False), torch.no_grad(), tap(model, watch):
        model(*inputs, **keywords)
    if not found:
        raise DovetailError(f"this {type(model).__name__} multiplied no integer codes")
    return found


def count_operands(op: PlannedOp, call: MacCall) -> OperandCounts:
    """The operands of one watched call that multiplied codes."""
    arithmetic = op.arithmetic
    mul = _bound(arithmetic.code_multiplier, arithmetic.input, arithmetic.weight)
    a, w, pad_code = call.codes()
    geometry = None if op.kind == "matmul" else call.geometry
    rows, columns = (1 << bits for bits in mul._width())
    first, second = torch.zeros(rows).double(), torch.zeros(columns).double()
    joint = torch.zeros(rows, columns).double() if rows * columns <= LISTED else None
    depth = w.shape[-2] if geometry is None else math.prod(w.shape[1:])
    for inputs, weights in meetings(a, w, geometry, pad_code):
        # Sums of integers in float64: exact up to 2**53 products.
        if joint is None:
            first += _counts(inputs.reshape(1, -1), rows)[0] * weights.shape[1]
            second += _counts(weights.reshape(1, -1), columns)[0] * inputs.shape[1]
        else:
            joint += _counts(inputs, rows).mT @ _counts(weights, columns)
    if joint is not None:
        first, second = joint.sum(1), joint.sum(0)
    whole = None if joint is None else _whole(joint)
    return OperandCounts(mul, depth, _whole(first), _whole(second), whole)


def _bound(mul: Multiplier, *formats: Any) -> Multiplier:
    if mul.bits is not None:
        return mul
    ranges = [code_range(fmt) for fmt in formats]
    signed = any(low < 0 for low, _ in ranges)
    return mul.bind(max(max(-low - 1, high).bit_length() for low, high in ranges) + signed, signed)


def _counts(values: Tensor, size: int) -> Tensor:
    """``[len(values), size]``: how often each code occurs in each row."""
    rows = torch.arange(len(values))[:, None] * size
    index = (rows + (values & (size - 1))).flatten()
    return torch.bincount(index, minlength=len(values) * size).view(-1, size).double()


def _whole(counts: Tensor) -> Counts:
    return counts.to(torch.int64).numpy()
