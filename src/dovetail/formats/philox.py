"""Counter-based random words: the same for any split, stride, thread count and device.

Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011). Element ``i``
of a tensor in row-major order takes lane ``i & 3`` of counter ``i >> 2`` under the key ``seed``,
which are also the numbers of Triton's ``tl.randint4x(seed, i >> 2)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

import torch
from torch import Tensor

from dovetail.errors import DovetailError

__all__ = ["random_normals", "random_words", "seed_from"]

_LOW = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEYS = (0x9E3779B9, 0xBB67AE85)


def random_words(shape: Sequence[int], seed: Tensor) -> Tensor:
    """int64 tensor of ``shape`` with 32 random bits each; ``seed`` is an int64 scalar tensor.

    >>> [hex(word) for word in random_words((4,), torch.tensor(0)).tolist()]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    count = 1
    for size in shape:
        count *= size
    counter = torch.arange((count + 3) // 4, dtype=torch.int64, device=seed.device)
    c0, c1 = counter & _LOW, counter >> 32
    c2 = c3 = torch.zeros_like(counter)
    k0, k1 = seed & _LOW, (seed >> 32) & _LOW
    for _ in range(10):
        # int64 products wrap, but all 64 bits are right
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((b >> 32) & _LOW) ^ c1 ^ k0,
            b & _LOW,
            ((a >> 32) & _LOW) ^ c3 ^ k1,
            a & _LOW,
        )
        k0, k1 = (k0 + _KEYS[0]) & _LOW, (k1 + _KEYS[1]) & _LOW
    return torch.stack((c0, c1, c2, c3), -1).flatten()[:count].view(list(shape))


def random_normals(shape: Sequence[int], seed: Tensor) -> Tensor:
    """float32 tensor of ``shape``, normally distributed with mean 0 and variance 1 (Box and Muller
    1958); an element depends on the seed and its row-major index alone.

    >>> random_normals((3,), torch.tensor(0))
    tensor([ 0.9911, -0.6176, -0.1536])
    """
    pairs = (random_words((*shape, 2), seed).double() + 0.5) / 2**32
    radius, turn = torch.sqrt(-2 * torch.log(pairs[..., 0])), 2 * torch.pi * pairs[..., 1]
    return (radius * torch.cos(turn)).float()


def seed_from(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """A fresh key, drawn on the CPU from ``generator`` (None: torch's global one).

    >>> seed_from(torch.Generator().manual_seed(0), torch.device("cpu")).dtype
    torch.int64
    """
    if not isinstance(generator, (torch.Generator, NoneType)):
        raise DovetailError(
            f"generator={generator!r} is no torch.Generator; for a seed of your own give "
            "torch.Generator().manual_seed(seed)"
        )
    where = torch.device("cpu") if generator is None else generator.device
    seed = torch.randint(0, 1 << 62, (), dtype=torch.int64, generator=generator, device=where)
    return seed.to(device)
