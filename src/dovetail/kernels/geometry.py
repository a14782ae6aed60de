"""The shape of a multiply-accumulate: which operand elements meet in which output.

Every MAC op is a convolution seen as a sum over taps; a linear layer is the case of no spatial
dimension. The reference, the torch and the native realisations all read this one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from dovetail.errors import DovetailError

__all__ = ["LINEAR", "Geometry"]


@dataclass(frozen=True)
class Geometry:
    """``spatial`` dimensions (0 for linear) and, one entry per dimension, how the window moves.

    ``padding`` holds a (low, high) pair per dimension, in pixels.

    >>> Geometry.conv(2, padding=1, stride=2).out_size((7, 8), (3, 3))
    (4, 4)
    """

    spatial: int = 0
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def conv(
        cls,
        spatial: int,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | Sequence[tuple[int, int]] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Geometry:
        """A convolution's geometry, arguments spelled as in ``torch.nn.functional``."""
        return cls(
            spatial,
            tuple(int(s) for s in _per_dim("stride", stride, spatial)),
            tuple(_pair(p) for p in _per_dim("padding", padding, spatial)),
            tuple(int(d) for d in _per_dim("dilation", dilation, spatial)),
            int(groups),
        ).checked()

    def checked(self) -> Geometry:
        """This geometry, or a :class:`DovetailError` that names the impossible field."""
        if any(s < 1 for s in self.stride) or any(d < 1 for d in self.dilation):
            raise DovetailError(f"stride {self.stride} and dilation {self.dilation} must be >= 1")
        if any(p < 0 for pair in self.padding for p in pair):
            raise DovetailError(f"padding {self.padding} must not be negative")
        if self.groups < 1:
            raise DovetailError(f"groups {self.groups} must be >= 1")
        return self

    def out_size(self, in_spatial: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Output pixels per dimension; refuses a window larger than the padded input."""
        sizes = []
        for i, (size, k) in enumerate(zip(in_spatial, kernel, strict=True)):
            lo, hi = self.padding[i]
            span = self.dilation[i] * (k - 1) + 1
            if size + lo + hi < span:
                raise DovetailError(
                    f"the kernel spans {span} pixels in dimension {i}, "
                    f"more than the padded input has ({size} + {lo} + {hi})"
                )
            sizes.append((size + lo + hi - span) // self.stride[i] + 1)
        return tuple(sizes)

    def out_shape(self, a: Sequence[int], w: Sequence[int]) -> tuple[int, ...]:
        """The result's shape for operands of shapes ``a`` and ``w``, checked against each other."""
        if self.spatial == 0:
            if len(w) != 2 or len(a) < 1 or a[-1] != w[-1] * self.groups:
                raise DovetailError(
                    f"linear takes a [..., K] and w [N, K]; got a {tuple(a)} and w {tuple(w)}"
                )
            return (*a[:-1], w[0])
        if len(a) != self.spatial + 2 or len(w) != self.spatial + 2:
            raise DovetailError(
                f"conv{self.spatial}d takes a [B, C, *spatial] and w [O, C/groups, *kernel] of "
                f"{self.spatial + 2} dimensions; got a {tuple(a)} and w {tuple(w)}"
            )
        if a[1] != w[1] * self.groups or w[0] % self.groups:
            raise DovetailError(
                f"groups={self.groups} does not fit: a has {a[1]} channels, w {tuple(w)} takes "
                f"{w[1]} per group and makes {w[0]} outputs"
            )
        return (a[0], w[0], *self.out_size(a[2:], w[2:]))

    def reduction(self, w: Sequence[int]) -> int:
        """How many products are summed into one output, for a weight of shape ``w``."""
        return prod(w[1:])


LINEAR = Geometry()


def _per_dim(name: str, value: Any, spatial: int) -> list[Any]:
    if isinstance(value, int):
        return [value] * spatial
    items = list(value)
    if len(items) == 1:
        return items * spatial
    if len(items) != spatial:
        raise DovetailError(f"{name} {tuple(items)} needs 1 or {spatial} entries")
    return items


def _pair(padding: Any) -> tuple[int, int]:
    low, high = (padding, padding) if isinstance(padding, int) else padding
    return int(low), int(high)
