"""Softmax step by step: the largest subtracted, exponentials, their sum, and the quotients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.approximations.base import Approximation, Unary, check_gradient
from dovetail.approximations.chunks import row_by_row
from dovetail.approximations.door import found
from dovetail.approximations.functions import function
from dovetail.approximations.steps import Steps, intermediate, tree_sum
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format

__all__ = ["Softmax"]

_LARGEST = ("subtract", "keep")


@dataclass(frozen=True, repr=False)
class Softmax(Approximation):
    """``softmax(exp=..., reciprocal=..., clamp=..., largest=..., format=..., acc=...)``.

    Steps, each result rounded to ``format``: the row's largest value is subtracted
    (``largest=keep`` leaves it in); differences below ``clamp`` become it; ``exp`` computes the
    exponentials; they are summed in pairs, every sum rounded to ``acc`` (default: ``format``); each
    is divided by the sum, or multiplied with its ``reciprocal``. Without ``exp`` exponentials are
    torch's, in float64.

    Of a log_softmax, which has no use for a ``reciprocal``, the differences less the logarithm of
    the sum, which is torch's, in float64: the exponentials and their sum are approximated.

    Scores of minus infinity weigh exactly 0, as do those below half the lowest number of the dtype
    in a row that has others: clamping does not reach what a mask hides. A row with NaN or +infinity
    becomes NaN, and one that is all minus infinity, as torch has it.

    >>> from dovetail.approximations import approximation
    >>> scores = {"input": torch.tensor([[0.0, 1.0, -math.inf]])}
    >>> approximation("poly2").compute("softmax", scores, {"dim": -1})
    tensor([[0.2688, 0.7312, 0.0000]])
    """

    exp: Approximation | None = None
    reciprocal: Approximation | None = None
    clamp: float | None = None
    largest: str = "subtract"
    format: Format | None = None
    acc: Format | None = None
    grad: str = "exact"

    name = "softmax"
    summary = "step by step, with parts to choose"
    kinds = ("softmax", "log_softmax")

    def __post_init__(self) -> None:
        for slot, of in (("exp", "exp"), ("reciprocal", "reciprocal")):
            check_part(getattr(self, slot), slot, of, self.name)
        intermediate(self.format, self.name)
        intermediate(self.acc, f"{self.name}: acc")
        if self.clamp is not None:
            if not self.clamp < 0:
                raise DovetailError(
                    f"softmax: clamp={self.clamp} would change the largest score; it is negative, "
                    f"such as {-abs(self.clamp) or -16:g}"
                )
            object.__setattr__(self, "clamp", float(self.clamp))
        if self.largest not in _LARGEST:
            raise unknown("treatment of the largest score", str(self.largest), _LARGEST)
        check_gradient(self.grad)

    def check(self, kind: str) -> None:
        super().check(kind)
        if kind == "log_softmax" and self.reciprocal is not None:
            raise DovetailError(
                f"fn={self}: a log_softmax divides by nothing; leave reciprocal={self.reciprocal} "
                "out"
            )

    def compute(
        self, kind: str, operands: Mapping[str, Tensor], attributes: Mapping[str, Any]
    ) -> Tensor:
        x = operands["input"]
        x = x if attributes.get("dtype") is None else x.to(attributes["dtype"])
        dim = attributes.get("dim")
        if dim is None:
            raise DovetailError(f"fn={self}: give softmax its dim")
        if x.numel() == 0 or x.dim() == 0:
            return torch.softmax(x, dim) if kind == "softmax" else torch.log_softmax(x, dim)
        moved = x.movedim(dim, -1)
        rows = moved.reshape(-1, moved.shape[-1])
        if kind == "log_softmax":
            y = row_by_row(self._logarithms, rows)
        elif (faster := found(self, rows, None)) is None:
            y = row_by_row(self._rows, rows)
        else:
            y = faster
        return y.reshape(moved.shape).movedim(-1, dim)

    def _rows(self, narrow: Tensor) -> Tensor:
        e, _, total, finite = self._sums(narrow)
        steps = Steps(self.format)
        if self.reciprocal is None:
            y = steps(e / total)
        else:
            y = steps(e * evaluated(self.reciprocal, "reciprocal", total, steps))
        return torch.where(finite, y, math.nan).to(narrow.dtype)

    def _logarithms(self, narrow: Tensor) -> Tensor:
        _, z, total, finite = self._sums(narrow)
        steps = Steps(self.format)
        y = steps(z - steps(torch.log(total)))
        return torch.where(finite, y, math.nan).to(narrow.dtype)

    def _sums(self, narrow: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Exponentials, the differences that they are of, their sum, and whether a row is
        finite."""
        x, low = narrow.to(torch.float64), torch.finfo(narrow.dtype).min / 2
        steps = Steps(self.format)
        largest = x.detach().amax(-1, keepdim=True)
        hidden = (x == -math.inf) | ((x <= low) & (largest > low))
        z = steps(x - largest if self.largest == "subtract" else x)
        if self.clamp is not None:
            z = z.clamp(min=self.clamp)
        e = evaluated(self.exp, "exp", z, steps)
        e = torch.where(hidden & ~z.isnan(), torch.zeros_like(e), e)
        total = tree_sum(e, Steps(self.acc or self.format))
        return e, torch.where(hidden, x, z), total, torch.isfinite(largest)


def check_part(part: Approximation | None, slot: str, name: str, owner: str) -> None:
    """Refuse a part that does not compute the function it is there for.

    >>> from dovetail.approximations import approximation
    >>> check_part(approximation("newton"), "exp", "exp", "softmax")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: softmax: exp=newton ... does not compute exp, but ...
    """
    if part is None:
        return
    if not isinstance(part, Unary):
        raise DovetailError(f"{owner}: {slot}={part} is no approximation of {name} alone")
    try:
        part.check_function(function(name))
    except DovetailError as error:
        raise DovetailError(f"{owner}: {slot}={error}") from None


def evaluated(part: Approximation | None, name: str, x: Tensor, steps: Steps) -> Tensor:
    """A function by its approximation, or exactly and then rounded."""
    known = function(name)
    if part is None:
        return steps(known.exact(x))
    assert isinstance(part, Unary)
    return steps(part.evaluate(known, x))
