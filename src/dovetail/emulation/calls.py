"""A multiply-accumulate as it was called, in the one form that calls are brought into."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.kernels.geometry import Geometry
from dovetail.kernels.weight_cache import cached

__all__ = ["Call", "Spread", "flipped", "kept"]

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One multiply-accumulate as it was called, in normal form.

    ``linear``: x [..., K], weight [N, K]; ``conv``: x [B, C, *spatial], weight
    [O, C/groups, *kernel]; ``conv_transpose``: the same, the weight being the flipped one and
    ``geometry`` that of the plain convolution that it is (see ``spread``); ``matmul``:
    x [..., M, K], weight [..., K, N]. ``finish`` brings the result into the shape that the caller
    expects.
    """

    kind: str
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    squeeze: tuple[int, ...] = ()
    spread: Spread | None = None

    def exact(self) -> Tensor:
        """The result that torch itself computes, in normal form."""
        if self.kind == "matmul":
            return torch.matmul(self.x, self.weight)
        if self.kind == "linear":
            return F.linear(self.x, self.weight, self.bias)
        g = self.geometry
        if self.spread is not None:
            transposed = _CONV_TRANSPOSE[g.spatial]
            weight = flipped(self.weight, g.groups)
            window = (self.spread.stride, self.spread.padding, self.spread.output_padding)
            return transposed(self.x, weight, self.bias, *window, g.groups, g.dilation)
        x, padding = self.x, [low for low, _ in g.padding]
        if any(low != high for low, high in g.padding):
            x = F.pad(x, [p for pair in reversed(g.padding) for p in pair])
            padding = [0] * g.spatial
        conv = _CONV[g.spatial]
        return conv(x, self.weight, self.bias, g.stride, padding, g.dilation, g.groups)

    @property
    def operands(self) -> dict[str, Tensor]:
        """Its tensors by slot."""
        given = {"input": self.x, "weight": self.weight, "bias": self.bias}
        return {slot: t for slot, t in given.items() if t is not None}

    def with_operands(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Call:
        """The same call on other operands of the same shapes."""
        return replace(self, x=x, weight=weight, bias=bias)

    @property
    def plain(self) -> Call:
        """This call; a transposed convolution as the plain one that computes it."""
        if self.spread is None:
            return self
        return replace(self, kind="conv", x=self.spread.insert(self.x), spread=None)

    def finish(self, y: Tensor) -> Tensor:
        """``y`` in the shape that the caller expects."""
        for dim in self.squeeze:
            y = y.squeeze(dim)
        return y

    @property
    def reduction(self) -> int:
        """How many products are summed into one output."""
        return self.weight.shape[-2] if self.kind == "matmul" else self.weight[0].numel()


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Spread:
    """How a transposed convolution's input is spread out, one entry per dimension.

    ``stride - 1`` zeros stand between neighbouring pixels, and the window then moves by one over a
    ``border`` of ``dilation * (kernel - 1) - padding`` zeros, on the high side ``output_padding``
    more; a negative one cuts pixels off.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    border: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls, spatial: int, plain: Geometry, padding: Any, output_padding: Any, kernel: Sequence[int]
    ) -> Spread | None:
        """``None`` for padding that torch refuses."""
        pads, outer = (
            tuple([p] * spatial if isinstance(p, int) else p) for p in (padding, output_padding)
        )
        pads, outer = (p * spatial if len(p) == 1 else p for p in (pads, outer))
        allowed = [max(s, d) for s, d in zip(plain.stride, plain.dilation, strict=True)]
        if any(not 0 <= o < m for o, m in zip(outer, allowed, strict=True)) or min(pads) < 0:
            return None
        spans = [d * (k - 1) for d, k in zip(plain.dilation, kernel, strict=True)]
        border = tuple(
            (span - p, span - p + o) for span, p, o in zip(spans, pads, outer, strict=True)
        )
        return cls(plain.stride, pads, outer, border)

    def insert(self, x: Tensor) -> Tensor:
        """``x`` with the zeros between its pixels, and without those that a border cuts off."""
        for axis, step in enumerate(self.stride, start=2):
            if step > 1:
                x = torch.stack([x, *[torch.zeros_like(x)] * (step - 1)], axis + 1)
                x = x.flatten(axis, axis + 1)
                x = x.narrow(axis, 0, x.shape[axis] - (step - 1))
        cut = [min(0, p) for pair in reversed(self.border) for p in pair]
        return F.pad(x, cut) if any(cut) else x


def flipped(weight: Tensor, groups: int) -> Tensor:
    """``[C, O/groups, *kernel]`` as a plain convolution's ``[O, C/groups, *kernel]``, or back."""

    def flip() -> Tensor:
        size = weight.shape[0] // groups
        parts = weight.reshape(groups, size, *weight.shape[1:]).transpose(1, 2)
        return parts.flatten(0, 1).flip(list(range(2, weight.dim())))

    return kept(weight, ("flipped", groups), flip)


def kept(weight: Tensor, key: Hashable, make: Callable[[], T]) -> T:
    """``make()``: while nothing records, the same object as long as ``weight`` does not change, so
    that what the kernels make of it in turn is kept as well."""
    recorded = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    real = type(weight) in (Tensor, nn.Parameter) and weight.device.type != "meta"
    if recorded or not real or torch.is_grad_enabled():
        return make()
    return cached(weight, key, make)
