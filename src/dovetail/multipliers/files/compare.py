"""One description of a multiplier checked against another, on every pair that can be."""

from __future__ import annotations

import numpy as np

from dovetail.errors import DovetailError
from dovetail.multipliers.base import Multiplier
from dovetail.multipliers.operands import IntArray, operand_values

__all__ = ["compare"]

_SAMPLES = 1 << 20


def compare(made: Multiplier, reference: Multiplier, what: str) -> None:
    """Refuse ``made`` unless it gives the reference's product for every operand pair.

    Above 12 + 12 bits: for every pair of edges, and 2**20 random ones.

    >>> from dovetail.multipliers.registry import multiplier
    >>> compare(multiplier("drum(k=8)"), multiplier("exact"), "drum with a full core")
    """
    if reference.bits is None and made.bits is not None:
        reference = reference.bind(made.bits, made.signed)
    if (made.bits, made.signed) != (reference.bits, reference.signed):
        raise DovetailError(
            f"{what} multiplies {made._operands()} operands, check={reference!r} "
            f"{reference._operands()} ones"
        )
    values = [operand_values(bits, made.signed) for bits in made._width()]
    first, second = np.broadcast_arrays(values[0][:, None], values[1][None])
    if made._tabulable():
        ours, theirs, among = made._products, reference._products, ""
    else:
        first, second = _sampled(values)
        ours, theirs, among = made(first, second), reference(first, second), " sampled"
    wrong = ours != theirs
    if not wrong.any():
        return
    at = tuple(np.argwhere(wrong)[0])
    message = (
        f"{what} differs from {reference!r} in {int(wrong.sum())} of {wrong.size}{among} products, "
        f"first for ({first[at]}, {second[at]}): {ours[at]} instead of {theirs[at]}"
    )
    if made.signed:
        shares = (
            f"{signs} {wrong[((first < 0) == (signs[0] == '-')) & quarter].mean():.1%}"
            for signs in ("++", "+-", "-+", "--")
            for quarter in [(second < 0) == (signs[1] == "-")]
        )
        message += f"; share wrong by operand signs: {', '.join(shares)}"
    raise DovetailError(message)


def _sampled(values: list[IntArray]) -> tuple[IntArray, IntArray]:
    """Random pairs, and all pairs of edges: powers of two and their neighbours, negated too."""
    rng = np.random.default_rng(0)
    edges = []
    for side in values:
        powers = 1 << np.arange(side.size.bit_length(), dtype=np.int64)
        near = np.concatenate([powers - 1, powers, powers + 1])
        near = np.concatenate([near, -near])
        edges.append(np.unique(near[(near >= side.min()) & (near <= side.max())]))
    pairs = [grid.ravel() for grid in np.meshgrid(*edges, indexing="ij")]
    first, second = (
        np.concatenate([edge, rng.choice(side, _SAMPLES)])
        for edge, side in zip(pairs, values, strict=True)
    )
    return first, second
