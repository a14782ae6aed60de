"""Which weights a sparsity can keep by their scores: patterns, frozen values that make masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.sparsity.order import largest
from dovetail.sparsity.pattern import Pattern, share_count, share_of

__all__ = ["Blocks", "Dense", "NofM", "TopK"]


@dataclass(frozen=True)
class Dense(Pattern):
    """Every weight.

    >>> Dense().mask(torch.zeros(2))
    tensor([True, True])
    """

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "dense", (), {}

    @property
    def density(self) -> float:
        return 1.0

    def kept(self, shape: Sequence[int], axis: int = -1) -> int:
        del axis
        return math.prod(shape)

    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        del axis, stream
        return torch.ones_like(scores, dtype=torch.bool)


@dataclass(frozen=True)
class TopK(Pattern):
    """The largest scores of the whole tensor, ``ceil(density * size)`` of them, wherever they are.

    ``per_output``: as many in each slice of the first axis instead. The product is exact:
    ``density`` is taken as the decimal number that it is written as.

    >>> TopK(0.5).mask(torch.tensor([[4.0, 3.0], [2.0, 1.0]])).int().tolist()
    [[1, 1], [0, 0]]
    >>> TopK(0.5, per_output=True).mask(torch.tensor([[4.0, 3.0], [2.0, 1.0]])).int().tolist()
    [[1, 0], [1, 0]]
    """

    share: float
    per_output: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", share_of(self.share))

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "topk", (self.share, *(["per_output"] if self.per_output else [])), {}

    @property
    def density(self) -> float:
        return self.share

    def at_density(self, density: float) -> TopK:
        return TopK(density, self.per_output)

    def kept(self, shape: Sequence[int], axis: int = -1) -> int:
        del axis
        size = math.prod(shape)
        if not self.per_output or not size:
            return share_count(self.share, size)
        return shape[0] * share_count(self.share, size // shape[0])

    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        del axis, stream
        lines = scores.flatten(1) if self.per_output and scores.dim() > 1 else scores.flatten()
        if scores.numel() == 0:
            return torch.zeros_like(scores, dtype=torch.bool)
        return largest(lines, share_count(self.share, lines.shape[-1])).view(scores.shape)


@dataclass(frozen=True)
class NofM(Pattern):
    """The ``keep`` largest scores of each run of ``of`` neighbours along ``axis``.

    ``axis=None`` is the input axis of the weight. The axis must divide into whole runs.

    >>> NofM(2, 4).mask(torch.tensor([[1.0, 4.0, 3.0, 2.0]])).int().tolist()
    [[0, 1, 1, 0]]
    """

    keep: int
    of: int
    axis: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.of, int) and isinstance(self.keep, int) and self.of >= 1):
            raise DovetailError(f"'{self.keep}:{self.of}' is no whole number of a whole number")
        if not 1 <= self.keep <= self.of:
            near = min(max(self.keep, 1), self.of)
            raise DovetailError(
                f"'{self.keep}:{self.of}' would keep {self.keep} of every {self.of}; the nearest "
                f"that can be is '{near}:{self.of}'"
            )

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        named = {} if self.axis is None else {"axis": self.axis}
        return f"{self.keep}:{self.of}", (), named

    @property
    def density(self) -> float:
        return self.keep / self.of

    def at_density(self, density: float) -> NofM:
        return NofM(min(self.of, max(self.keep, share_count(density, self.of))), self.of, self.axis)

    def check(self, shape: Sequence[int], axis: int = -1) -> None:
        along = self._axis(shape, axis)
        length = shape[along]
        if length % self.of:
            fits = [m for m in range(1, length + 1) if length % m == 0 and m >= self.keep]
            near = min(fits, key=lambda m: (abs(m - self.of), m)) if fits else None
            hint = f"; the nearest that divides it is '{self.keep}:{near}'" if near else ""
            raise DovetailError(
                f"'{self.keep}:{self.of}' runs along axis {along} of the weight {tuple(shape)}, "
                f"whose length {length} is no multiple of {self.of}{hint}"
            )

    def kept(self, shape: Sequence[int], axis: int = -1) -> int:
        self.check(shape, axis)
        return math.prod(shape) // self.of * self.keep

    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        del stream
        self.check(scores.shape, axis)
        along = self._axis(scores.shape, axis)
        lines = scores.movedim(along, -1)
        runs = lines.reshape(*lines.shape[:-1], lines.shape[-1] // self.of, self.of)
        return largest(runs, self.keep).reshape(lines.shape).movedim(-1, along).contiguous()

    def _axis(self, shape: Sequence[int], axis: int) -> int:
        along = axis if self.axis is None else self.axis
        if not -len(shape) <= along < len(shape):
            raise DovetailError(
                f"'{self.keep}:{self.of}' runs along axis {along}, which a weight {tuple(shape)} "
                f"has not; the nearest is axis {len(shape) - 1 if along > 0 else -len(shape)}"
            )
        return along % len(shape)


@dataclass(frozen=True)
class Blocks(Pattern):
    """Whole blocks of ``rows x columns``: those ``ceil(share * blocks)`` with the largest sums.

    The weight is seen as a matrix whose rows are its outputs, and its columns all other axes in
    their order. Scores are added in row-major order in float64.

    >>> Blocks(2, 1, 0.5).mask(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).int().tolist()
    [[0, 1], [0, 1]]
    """

    rows: int
    columns: int
    share: float

    def __post_init__(self) -> None:
        for size in (self.rows, self.columns):
            if not isinstance(size, int) or size < 1:
                raise DovetailError(f"blocks of {self.rows} x {self.columns}: sizes are 1 or more")
        object.__setattr__(self, "share", share_of(self.share))

    @property
    def call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        return "blocks", (self.rows, self.columns, self.share), {}

    @property
    def density(self) -> float:
        return self.share

    def at_density(self, density: float) -> Blocks:
        return Blocks(self.rows, self.columns, density)

    def check(self, shape: Sequence[int], axis: int = -1) -> None:
        del axis
        matrix = _matrix(shape)
        for size, length, what in zip(
            (self.rows, self.columns), matrix, ("rows", "columns"), strict=True
        ):
            if length % size:
                fits = [n for n in range(1, length + 1) if length % n == 0]
                near = min(fits, key=lambda n: (abs(n - size), n))
                raise DovetailError(
                    f"blocks of {self.rows} x {self.columns} do not tile a weight {tuple(shape)}, "
                    f"a matrix of {matrix[0]} x {matrix[1]}: its {length} {what} are no multiple "
                    f"of {size}; the nearest that is, is {near}"
                )

    def kept(self, shape: Sequence[int], axis: int = -1) -> int:
        self.check(shape, axis)
        size = self.rows * self.columns
        return share_count(self.share, math.prod(shape) // size) * size

    def mask(self, scores: Tensor, axis: int = -1, stream: int = 0) -> Tensor:
        del stream
        self.check(scores.shape, axis)
        if scores.numel() == 0:
            return torch.zeros_like(scores, dtype=torch.bool)
        down, across = _matrix(scores.shape)
        tiles = scores.to(torch.float64).reshape(
            down // self.rows, self.rows, across // self.columns, self.columns
        )
        sums = torch.zeros_like(tiles[:, 0, :, 0])
        for r in range(self.rows):
            for c in range(self.columns):
                sums = sums + tiles[:, r, :, c]
        kept = largest(sums.flatten(), share_count(self.share, sums.numel())).view(sums.shape)
        return kept[:, None, :, None].expand(tiles.shape).reshape(scores.shape)


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Outputs, and all other axes together."""
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])
