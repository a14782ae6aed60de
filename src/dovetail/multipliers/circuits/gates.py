"""Gates of one and two inputs, and what is built of them: adders, shifters, comparisons.

A net is a number; 0 and 1 are the constants. Words are lists of nets, the lowest bit first.
"""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["AND", "NOT", "OPEN", "OR", "WIRE", "XOR", "Gates", "Word"]

Word: TypeAlias = list[int]

OPEN, WIRE, NOT, AND, OR, XOR = range(6)


class Gates:
    """A netlist that grows; equal gates are made once, gates of constants not at all.

    ``driven[net]`` is (kind, first input, second input); kind ``OPEN`` has no driver (yet).

    >>> gates = Gates()
    >>> a, b = gates.net(), gates.net()
    >>> gates.xor(a, b) == gates.xor(b, a), gates.both(a, 0), gates.both(a, 1) == a
    (True, 0, True)
    """

    def __init__(self) -> None:
        self.driven: list[tuple[int, int, int]] = [(OPEN, 0, 0), (OPEN, 0, 0)]
        self._known: dict[tuple[int, int, int], int] = {}

    def net(self) -> int:
        """A new net without a driver."""
        self.driven.append((OPEN, 0, 0))
        return len(self.driven) - 1

    def inverse(self, a: int) -> int:
        """not a"""
        return 1 - a if a < 2 else self._gate(NOT, a, a)

    def both(self, a: int, b: int) -> int:
        """a and b"""
        if a == 0 or b == 0:
            return 0
        return self._gate(AND, a, b) if a != 1 and b != 1 and a != b else max(a, b)

    def either(self, a: int, b: int) -> int:
        """a or b"""
        if a == 1 or b == 1:
            return 1
        return self._gate(OR, a, b) if a and b and a != b else max(a, b)

    def xor(self, a: int, b: int) -> int:
        """a exclusive-or b"""
        if a == b:
            return 0
        low, high = min(a, b), max(a, b)
        if low == 0:
            return high
        return self.inverse(high) if low == 1 else self._gate(XOR, a, b)

    def choose(self, condition: int, yes: int, no: int) -> int:
        """yes where the condition holds, else no"""
        return self.xor(no, self.both(condition, self.xor(yes, no)))

    def add(self, left: Word, right: Word, carry: int = 0) -> tuple[Word, int]:
        """The sum of two words of one width and a carry, as (word, carry out)."""
        total = []
        for a, b in zip(left, right, strict=True):
            half = self.xor(a, b)
            total.append(self.xor(half, carry))
            carry = self.either(self.both(a, b), self.both(half, carry))
        return total, carry

    def subtract(self, left: Word, right: Word) -> tuple[Word, int]:
        """left - right modulo the width, and whether left >= right, both read as unsigned."""
        return self.add(left, [self.inverse(bit) for bit in right], 1)

    def multiply(self, left: Word, right: Word) -> Word:
        """The product modulo the width, the same for unsigned and two's complement words."""
        total = [0] * len(left)
        for shift, bit in enumerate(right):
            row = [self.both(a, bit) for a in left[: len(left) - shift]]
            total[shift:] = self.add(total[shift:], row)[0]
        return total

    def shift(self, word: Word, by: Word, left: bool, fill: int) -> Word:
        """The word shifted by as much as another says; ``fill`` comes in from the right end's
        other side."""
        for place, bit in enumerate(by):
            count = min(1 << place, len(word)) if place < 32 else len(word)
            pad = [fill] * count
            moved = pad + word[: len(word) - count] if left else word[count:] + pad
            word = [self.choose(bit, yes, no) for yes, no in zip(moved, word, strict=True)]
        return word

    def all_of(self, word: Word) -> int:
        """Whether every bit is 1."""
        found = 1
        for bit in word:
            found = self.both(found, bit)
        return found

    def any_of(self, word: Word) -> int:
        """Whether some bit is 1."""
        found = 0
        for bit in word:
            found = self.either(found, bit)
        return found

    def parity(self, word: Word) -> int:
        """Whether an odd number of bits is 1."""
        found = 0
        for bit in word:
            found = self.xor(found, bit)
        return found

    def _gate(self, kind: int, a: int, b: int) -> int:
        key = (kind, min(a, b), max(a, b))
        if key not in self._known:
            self.driven.append(key)
            self._known[key] = len(self.driven) - 1
        return self._known[key]
