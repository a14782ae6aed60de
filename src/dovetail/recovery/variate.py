"""Control variates: what an approximate multiplier errs by is predicted, and subtracted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.analysis.operands import OperandCounts
from dovetail.emulation import PlannedOp
from dovetail.emulation.transforms import add_transform
from dovetail.emulation.variate import term_sums
from dovetail.recovery.batches import Batches
from dovetail.recovery.code_products import (
    CodeCall,
    by_output,
    code_operations,
    counted_operands,
    tabulated,
    watch_codes,
)
from dovetail.recovery.handle import Recovery, Work
from dovetail.recovery.operations import Operation, Select

__all__ = ["control_variate"]


def control_variate(model: nn.Module, batches: Iterable[Any], *, select: Select = "*") -> Recovery:
    """Subtract from each output of the selected products what their multiplier is predicted to err
    by: of ``sum_k f(a_k, w_nk)`` over codes the line ``slope[n] * S + level[n]`` in the control
    variate ``S = sum_k term[a_k]``.

    ``term`` is a table of integers from -127 to 127 over the input's codes: in the best product
    ``term[a] * v[w]`` for the error ``f(a, w) - a * w`` of the codes that meet in the layer (least
    squares), the first factor, with the common divisor taken out; a multiplier that drops low bits
    of the input has those bits. ``slope[n]`` and ``level[n]`` make the mean square of what is left
    over ``batches`` least: ``cov(error, S) / var(S)`` and the mean that is left. For dropped bits
    and evenly spread inputs that is the source's mean weight. Hardware adds the table (or its
    gates), one accumulator of ``S`` for all outputs that share their inputs, and after the last
    product one multiplication and two additions for each output; the subtraction here is exact,
    after the accumulator and the bias and before the output's cast, and ``acc=`` does not see it.

    The objective is the squared error of the multiplier's sums over ``batches``, as the model
    makes them before any of it is corrected, relative to the exact sums of the same codes. It
    never grows: an operation that would not gain is left as it is. Source: Zervakis and others,
    arXiv 2102.09642.

    >>> import dovetail as dv
    >>> net, x = nn.Sequential(nn.Linear(2, 1)), torch.tensor([[1.0, 0.5], [0.1, -0.3]])
    >>> _ = nn.init.constant_(net[0].weight, 1.0)
    >>> rule = dv.rule("*", input="int8", weight="int8", mul="mul8s_1KVM")  # (a & ~1) * w
    >>> _ = dv.apply_(net, dv.Recipe(rule), x)
    >>> done = dv.control_variate(net, [x])
    >>> done["0"].before > 0, done["0"].after
    (True, 0.0)
    """
    inputs = Batches(batches, model)
    chosen = code_operations("control_variate", model, inputs, select)
    with Work("control_variate", "squared error of the multiplier") as work:
        counts = counted_operands("control_variate", model, inputs, chosen)
        fits = {op: _Fit(counts[op], op) for op in chosen}

        def see(op: Operation, _: PlannedOp, call: CodeCall) -> None:
            fits[op].see(call)

        watch_codes(model, inputs, chosen, see, "control_variate: fit")
        for op in chosen:
            _settle(work, op, fits[op])
    return work.result


def _settle(work: Work, op: Operation, fit: _Fit) -> None:
    slope, level = fit.line()
    before, after = fit.error(None, None), fit.error(slope, level)
    if not after < before:
        work.note(op.key, "left as it is", before, before)
        return
    assert op.site is not None
    work.journal.save(op.module)
    parts = {
        "term": fit.term.to(torch.int8),
        "slope": slope * fit.scale,
        "level": level * fit.scale,
    }
    add_transform(op.site, op.module, "variate", parts)
    work.note(op.key, "error predicted and subtracted", before, after)


class _Fit:
    """Sums over all samples of what a least-squares line for each output needs."""

    def __init__(self, counts: OperandCounts, op: Operation) -> None:
        assert op.site is not None
        self.mul = counts.mul
        self.term = _term(counts)
        self.samples = 0
        self.moments: dict[str, Tensor] = {}
        self.scale = torch.empty(0)

    def see(self, call: CodeCall) -> None:
        exact = call.sums("exact")
        error = call.sums(self.mul) - exact
        term = self.term.to(error.device)
        sums = term_sums(call.call, call.input.codes, call.input.zeros, term)
        s = by_output(sums, call.call.geometry.spatial).expand_as(error)
        found = {
            "s": s.sum(1),
            "ss": (s * s).sum(1),
            "e": error.sum(1),
            "es": (error * s).sum(1),
            "ee": (error * error).sum(1),
            "exact": (exact * exact).sum(1),
        }
        for name, value in found.items():
            before = self.moments.get(name)
            self.moments[name] = value if before is None else before + value
        self.samples += error.shape[1]
        self.scale = call.weight_scale

    def line(self) -> tuple[Tensor, Tensor]:
        """Slope and level of each output."""
        m, n = self.moments, self.samples
        spread = n * m["ss"] - m["s"] ** 2
        together = n * m["es"] - m["e"] * m["s"]
        # Integers: what is no spread is exactly zero, up to 2**53.
        slope = torch.where(spread > 0, together / spread.clamp_min(1), torch.zeros_like(spread))
        return slope, (m["e"] - slope * m["s"]) / n

    def error(self, slope: Tensor | None, level: Tensor | None) -> float:
        """The squared error that a line leaves, relative to the exact sums."""
        m = self.moments
        left = m["ee"]
        if slope is not None and level is not None:
            left = left - 2 * slope * m["es"] - 2 * level * m["e"] + slope**2 * m["ss"]
            left = left + 2 * slope * level * m["s"] + self.samples * level**2
        worth = self.scale**2
        power = float((m["exact"] * worth).sum())
        return max(0.0, float((left * worth).sum())) / max(power, 1e-300)


def _term(counts: OperandCounts) -> Tensor:
    """For every code of the input what it adds to ``S``."""
    products, inputs, weights = tabulated(counts.mul)
    error = products - inputs[:, None] * weights
    first, second = (torch.from_numpy(c).double().sqrt() for c in (counts.first, counts.second))
    _, size, right = torch.linalg.svd(first[:, None] * error * second)
    if not float(size[0]) > 0:
        return torch.zeros(len(error), dtype=torch.int64)
    term = error @ (second * right[0])
    seen = term.abs() * (first > 0)
    largest = int(seen.argmax())
    whole: Tensor = (term * (127 / term[largest])).round().clamp(-127, 127).to(torch.int64)
    divisor = math.gcd(*whole.tolist())
    return torch.div(whole, divisor, rounding_mode="floor")
