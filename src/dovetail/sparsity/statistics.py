"""What a mask looks like to hardware: how much it keeps, how evenly, and in what shapes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Statistics", "statistics"]

_TILES = ((16, 4), (16, 64))
_RUNS = (4, 8, 16)


@dataclass(frozen=True)
class Statistics:
    """Of a mask seen as a matrix, outputs down and inputs to the right.

    ``kept`` of ``size`` weights are; an output keeps ``least`` to ``most`` of its, ``mean`` on
    average (``mean / most`` is how busy units are that each work on one output). ``empty_outputs``
    keep nothing, ``empty_inputs`` are used by none. ``n_of_m`` is the tightest n for each m: no run
    of m neighbours along the input axis keeps more (m of those that divide it). ``empty_tiles`` is
    the share of tiles (outputs x inputs) that a kernel working on such tiles can pass over.
    """

    size: int
    kept: int
    least: int
    mean: float
    most: int
    empty_outputs: int
    empty_inputs: int
    n_of_m: dict[int, int]
    empty_tiles: dict[str, float]

    @property
    def density(self) -> float:
        """The share kept."""
        return self.kept / max(1, self.size)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "density": self.density}


def statistics(mask: Tensor, axis: int = -1) -> Statistics:
    """The :class:`Statistics` of a mask whose inputs run along ``axis``.

    >>> found = statistics(torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0]]) == 1)
    >>> found.density, found.n_of_m, found.empty_outputs, found.empty_inputs
    (0.25, {4: 2}, 1, 2)
    """
    whole = mask.detach()
    rows = whole.shape[0] if whole.dim() > 1 else 1
    matrix = whole.reshape(rows, whole.numel() // max(1, rows))
    each = matrix.sum(1)
    lines = whole.movedim(axis, -1) if whole.dim() else whole.reshape(1)
    runs = {
        m: int(lines.reshape(-1, m).sum(1).max())
        for m in _RUNS
        if lines.shape[-1] and lines.shape[-1] % m == 0 and whole.numel()
    }
    filled = bool(whole.numel())
    return Statistics(
        whole.numel(),
        int(whole.sum()),
        int(each.min()) if filled else 0,
        float(each.double().mean()) if filled else 0.0,
        int(each.max()) if filled else 0,
        int((each == 0).sum()),
        int((matrix.sum(0) == 0).sum()),
        runs,
        {f"{down}x{across}": _empty(matrix, down, across) for down, across in _TILES},
    )


def _empty(matrix: Tensor, down: int, across: int) -> float:
    """The share of tiles without a kept weight; those at the edges are smaller."""
    if matrix.numel() == 0:
        return 0.0
    short = [-matrix.shape[0] % down, -matrix.shape[1] % across]
    padded = torch.nn.functional.pad(matrix.to(torch.uint8), (0, short[1], 0, short[0]))
    tiles = padded.view(padded.shape[0] // down, down, padded.shape[1] // across, across)
    return float((tiles.amax((1, 3)) == 0).double().mean())
