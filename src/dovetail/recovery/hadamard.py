"""Orthogonal matrices that spread a vector's outliers over all of its numbers.

A Hadamard matrix of order n has entries +1 and -1 and orthogonal rows. Sylvester: the Kronecker
product of two is one. Paley: of order q + 1 for a prime q = 3 mod 4, and 2 (q + 1) for a prime
q = 1 mod 4, from the quadratic residues modulo q. So 12, 20, 28, 36, 44, 60 and many more times a
power of two.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["hadamard", "rotation"]

_LARGEST = 512  # known matrices beyond this are stored in full, and large


@lru_cache(maxsize=64)
def hadamard(order: int) -> Tensor | None:
    """A Hadamard matrix of this order, float64; ``None`` where neither construction gives one.

    >>> hadamard(4) @ hadamard(4).mT
    tensor([[4., 0., 0., 0.],
            [0., 4., 0., 0.],
            [0., 0., 4., 0.],
            [0., 0., 0., 4.]], dtype=torch.float64)
    >>> hadamard(12).shape, hadamard(92) is None
    (torch.Size([12, 12]), True)
    """
    if order == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if order == 2:
        return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    if order < 1 or order % 4:
        return None
    if _is_prime(order - 1):
        return _paley_one(order - 1)
    if _is_prime(order // 2 - 1) and (order // 2 - 1) % 4 == 1:
        return _paley_two(order // 2 - 1)
    half = hadamard(order // 2)
    return None if half is None else _product(_two(), half)


def rotation(width: int, seed: int = 0) -> tuple[Tensor, Tensor, str]:
    """Two orthogonal matrices ``[P, P]`` and ``[Q, Q]``, ``P * Q = width``, whose Kronecker product
    is the rotation, and what it is in words.

    Of ``width = 2**k * m`` the odd part ``m`` gets the smallest Hadamard matrix of order
    ``2**j * m`` up to 512, or, where there is none, a random orthogonal matrix drawn by ``seed``.

    >>> left, right, name = rotation(24)
    >>> name, len(left) * len(right)
    ('Hadamard', 24)
    >>> rotation(7)[2], rotation(2 * 23)[2]
    ('random orthogonal 7', 'Hadamard 2 x random orthogonal 23')
    """
    power = width & -width
    odd = width // power
    factors = [2**j for j in range(power.bit_length())]
    for factor in [f for f in factors if odd * f <= _LARGEST]:
        known = hadamard(odd * factor)
        if known is not None:
            left = power // factor
            return *_balanced(left, known / math.sqrt(len(known))), "Hadamard"
    name = f"random orthogonal {odd}"
    name = f"Hadamard {power} x {name}" if power > 1 else name
    return *_balanced(power, _random(odd, seed)), name


def _balanced(power: int, rest: Tensor) -> tuple[Tensor, Tensor]:
    """A Sylvester matrix of order ``power`` and ``rest`` as two factors of nearly equal size."""
    right = 1
    while len(rest) * right < power // right and right < power:
        right *= 2
    return _sylvester(power // right), _product(_sylvester(right), rest)


def _sylvester(order: int) -> Tensor:
    found = torch.ones(1, 1, dtype=torch.float64)
    while len(found) < order:
        found = _product(_two(), found)
    return found / math.sqrt(order)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product."""
    found: Tensor = torch.kron(one, other)
    return found


def _two() -> Tensor:
    two = hadamard(2)
    assert two is not None
    return two


def _random(order: int, seed: int) -> Tensor:
    """Drawn evenly from all orthogonal matrices: the Q of a normal matrix, signs by R's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(order, order, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    found: Tensor = q * torch.sign(torch.diagonal(r))
    return found.contiguous()


def _paley_one(q: int) -> Tensor:
    """For q = 3 mod 4: ``I + S`` with a skew ``S``, bordered by ones."""
    bordered = _bordered(q, -1.0)
    return bordered + torch.eye(q + 1, dtype=torch.float64)


def _paley_two(q: int) -> Tensor:
    """For q = 1 mod 4: every entry of the symmetric bordered matrix as a 2 x 2 block."""
    ones = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    zeros = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    identity = torch.eye(q + 1, dtype=torch.float64)
    return _product(_bordered(q, 1.0), ones) + _product(identity, zeros)


def _bordered(q: int, sign: float) -> Tensor:
    """The quadratic characters of all differences modulo q, in a border of ones."""
    places = torch.arange(q)
    squares = torch.zeros(q, dtype=torch.float64) - 1
    squares[(places * places) % q] = 1
    squares[0] = 0
    found = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    found[0, 1:], found[1:, 0] = 1, sign
    found[1:, 1:] = squares[(places[:, None] - places[None]) % q]
    return found


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))
