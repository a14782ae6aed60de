"""Layer and RMS normalisation step by step: sums, variance, reciprocal root, scale and shift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.approximations.base import Approximation, check_gradient
from dovetail.approximations.chunks import is_plain, row_by_row
from dovetail.approximations.door import NormOf, found
from dovetail.approximations.softmax import check_part, evaluated
from dovetail.approximations.steps import Steps, intermediate, tree_sum
from dovetail.errors import DovetailError, unknown
from dovetail.formats import Format

__all__ = ["Norm"]

_VARIANCES = ("centred", "moments")


@dataclass(frozen=True, repr=False)
class Norm(Approximation):
    """``norm(rsqrt=..., variance=..., scale=..., format=..., acc=...)``.

    Steps, each result rounded to ``format``: x times ``scale`` (a positive number; ``eps`` is
    scaled by its square, so that only the range of the sums changes); for a layer norm the mean;
    the variance as the mean square of the ``centred`` values or, from ``moments``, as
    ``E[x^2] - E[x]^2`` (not below 0); ``rsqrt`` of variance plus eps; the product with it, with the
    weight (of Gemma's norms with 1 + weight, rounded once), and the sum with the bias. Sums run in
    pairs, every one rounded to ``acc`` (default: ``format``). Without ``rsqrt`` it is 1 / sqrt, in
    float64.

    >>> from dovetail.approximations import approximation
    >>> x = {"input": torch.tensor([[1.0, 2.0, 3.0]])}
    >>> approximation("newton").compute("layer_norm", x, {"normalized_shape": (3,), "eps": 0.0})
    tensor([[-1.2227,  0.0000,  1.2227]])
    """

    rsqrt: Approximation | None = None
    variance: str = "centred"
    scale: float = 1.0
    format: Format | None = None
    acc: Format | None = None
    grad: str = "exact"

    name = "norm"
    summary = "step by step, with parts to choose"
    kinds = ("layer_norm", "rms_norm")

    def __post_init__(self) -> None:
        check_part(self.rsqrt, "rsqrt", "rsqrt", self.name)
        intermediate(self.format, self.name)
        intermediate(self.acc, f"{self.name}: acc")
        if self.variance not in _VARIANCES:
            raise unknown("variance", str(self.variance), _VARIANCES)
        if not (0 < self.scale < math.inf):
            raise DovetailError(f"norm: scale={self.scale} is a positive number such as 0.125")
        object.__setattr__(self, "scale", float(self.scale))
        check_gradient(self.grad)

    def compute(
        self, kind: str, operands: Mapping[str, Tensor], attributes: Mapping[str, Any]
    ) -> Tensor:
        x = operands["input"]
        shape = tuple(attributes["normalized_shape"])
        eps = attributes.get("eps")
        default = 1e-5 if kind == "layer_norm" else torch.finfo(x.dtype).eps
        if x.numel() == 0:
            return x.clone()
        steps = Steps(self.format)
        affine = [operands.get(name) for name in ("weight", "bias")]
        wide = [None if t is None else t.to(torch.float64).flatten() for t in affine]
        offset = attributes.get("offset", 0.0)
        if offset and wide[0] is not None:
            wide[0] = wide[0] + offset
        wide = [None if t is None else steps(t) for t in wide]
        of = NormOf(kind == "layer_norm", default if eps is None else eps, *wide)
        flat = x.reshape(-1, math.prod(shape))
        plain = all(t is None or is_plain(t) for t in wide)
        y = found(self, flat, of) if plain else None
        if y is None:
            y = row_by_row(lambda part: self._whole(part, of), flat)
        return y.reshape(x.shape)

    def _whole(self, x: Tensor, of: NormOf) -> Tensor:
        steps = Steps(self.format)
        y = self._rows(x.to(torch.float64), of.eps, of.centred)
        y = y if of.weight is None else steps(y * of.weight)
        y = y if of.bias is None else steps(y + of.bias)
        return y.to(x.dtype)

    def _rows(self, x: Tensor, eps: float, centred: bool) -> Tensor:
        steps, sums = Steps(self.format), Steps(self.acc or self.format)
        count = x.shape[-1]

        def mean(values: Tensor) -> Tensor:
            return steps(tree_sum(values, sums) / count)

        x = steps(x * self.scale)
        d = x
        if centred:
            middle = mean(x)
            d = steps(x - middle)
        if centred and self.variance == "moments":
            variance = steps(mean(steps(x * x)) - steps(middle * middle))
            variance = torch.where(variance < 0, torch.zeros_like(variance), variance)
        else:
            variance = mean(steps(d * d))
        total = steps(variance + eps * self.scale**2)
        return steps(d * evaluated(self.rsqrt, "rsqrt", total, steps))
