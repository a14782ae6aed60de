"""What every accumulator is: a register, the order in which it takes products, and when it rounds.

The products of one output come in order of k: of a linear layer or a matmul, k ascending; of a
convolution, the order of the flattened weight ``[C/groups, *kernel]``; products of padded pixels
are products like any other. Of two block formats with integer elements it is not products that come
but the dots of two blocks: exact integer sums, scaled, rounded once to float32; by ascending k, in
a convolution tap by tap, and for each tap block after block of channels.

With ``chunk=n`` the register takes the sums of n successive products instead, each summed wide:
integers exactly, floating-point products in float64, in order. Then ``order`` says how these terms
are added, every sum passing through the register:

``sequential``
    onto one register that starts at zero.
``tree``
    neighbours in pairs, then the sums in pairs; an odd one out goes up as it is, and a single term
    is added to zero.
``chunk(n)``
    each run of n terms onto a register of its own, these registers in turn onto one more.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown

__all__ = ["ORDERS", "Accumulator", "check_order"]

ORDERS = ("sequential", "tree", "chunk(64)")
_RUN = re.compile(r"chunk\((\d+)\)")


class Accumulator(ABC):
    """A frozen, hashable value; ``dv.accumulator(repr(a)) == a``.

    >>> from dovetail.accumulators import accumulator
    >>> accumulator("fp16(order=chunk(8))").run
    8
    """

    when: str
    order: str
    chunk: int | None

    @property
    def run(self) -> int | None:
        """The n of ``order=chunk(n)``."""
        match = _RUN.fullmatch(self.order)
        return int(match[1]) if match else None

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What :meth:`add` computes in: int64 or float64."""

    def dtype_for(self, term: int | None) -> torch.dtype:
        """What :meth:`add` may compute in, if no integer term's magnitude is above ``term``."""
        del term
        return self.dtype

    @abstractmethod
    def holds(self, bound: int) -> bool:
        """Whether integer sums of magnitude up to ``bound`` all pass through unchanged."""

    def most(self, bound: int) -> int | None:
        """The largest magnitude that an integer register ends with, of sums of up to ``bound``.

        ``None``: the register holds a floating-point number.
        """
        del bound
        return None

    @abstractmethod
    def takes_sum(self, bound: int) -> bool:
        """Whether the end follows from the exact integer sum, if that is at most ``bound``."""

    @abstractmethod
    def reduce(self, exact: Tensor) -> Tensor:
        """What the register holds in the end, from the exact int64 sum of the products."""

    @abstractmethod
    def add(self, first: Tensor, second: Tensor) -> Tensor:
        """One addition: the register's content after it. Operands and result are in `dtype`."""

    @abstractmethod
    def exceeds(self, first: Tensor, second: Tensor) -> Tensor:
        """Where the exact sum of finite operands lies beyond what the register can hold."""

    @abstractmethod
    def result_dtype(self, bound: int) -> torch.dtype:
        """The narrowest of int32, int64, float32, float64 that holds sums of up to ``bound``."""

    @property
    @abstractmethod
    def spelling(self) -> str:
        """The canonical spelling."""

    def __repr__(self) -> str:
        return self.spelling

    __str__ = __repr__

    def _order_words(self) -> dict[str, int | str]:
        """Order and chunk as the spelling gives them, where they differ from the default."""
        words: dict[str, int | str] = {}
        if self.chunk is not None:
            words["chunk"] = self.chunk
        if self.order != "sequential":
            words["order"] = self.order
        return words


def check_order(order: str, chunk: int | None) -> None:
    """Refuse what is no order, and chunks without products.

    >>> check_order("trees", None)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown accumulator order 'trees'; did you mean 'tree'? ...
    """
    run = _RUN.fullmatch(order)
    if order not in ("sequential", "tree") and run is None:
        raise unknown("accumulator order", order, ORDERS)
    for value, name in ((run and int(run[1]), "order=chunk({})"), (chunk, "chunk={}")):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise DovetailError(
                f"accumulator {name.format(value)}: a chunk has 1 or more products, such as "
                f"{name.format(64)}"
            )
