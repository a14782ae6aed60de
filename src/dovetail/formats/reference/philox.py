"""The random words of stochastic rounding, on Python integers."""

from __future__ import annotations

__all__ = ["philox"]


def philox(count: int, seed: int) -> list[int]:
    """Words 0..count-1 of Philox4x32-10 (Salmon et al., SC'11): word ``i`` is lane ``i & 3`` of
    counter ``i >> 2``, key ``seed``.

    >>> philox(5, 0)[0] == 0x6627E8D5, philox(5, 0)[3] == 0x9B00DBD8
    (True, True)
    """
    words: list[int] = []
    for counter in range((count + 3) // 4):
        c = [counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        k = [seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF]
        for _ in range(10):
            a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [
                (b >> 32) ^ c[1] ^ k[0],
                b & 0xFFFFFFFF,
                (a >> 32) ^ c[3] ^ k[1],
                a & 0xFFFFFFFF,
            ]
            k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
        words += c
    return words[:count]
