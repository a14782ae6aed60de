"""Which casts draw random bits, and the words that they get."""

from __future__ import annotations

from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.formats.base import BlockFormat, ElementFormat, Format
from dovetail.formats.integer import IntFormat
from dovetail.formats.philox import random_words
from dovetail.formats.shaped import Shaped

__all__ = ["is_stochastic", "words_of"]


def is_stochastic(fmt: Format) -> bool:
    """Whether a cast to ``fmt`` needs a seed.

    >>> from dovetail.formats import format
    >>> is_stochastic(format("mxfp4")), is_stochastic(format("int8(rounding=Stochastic)"))
    (False, True)
    """
    if isinstance(fmt, Shaped):
        return is_stochastic(fmt.inner) or (fmt.before is not None and is_stochastic(fmt.before))
    if isinstance(fmt, (ElementFormat, BlockFormat, IntFormat)):
        return fmt.rounding.is_stochastic
    return False


def words_of(x: Tensor, fmt: Format, seed: Tensor | None) -> Tensor | None:
    """A random word for each element of ``x``, by its row-major index; None if none is needed.

    >>> import torch
    >>> words_of(torch.ones(3), IntFormat(8), None) is None
    True
    """
    if not is_stochastic(fmt):
        return None
    if seed is None:
        raise DovetailError(f"'{fmt}' rounds stochastically and needs a seed")
    return random_words(x.shape, seed)
