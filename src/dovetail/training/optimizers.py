"""Torch's optimizers by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.optim import Optimizer

from dovetail._spelling import parse_call
from dovetail.errors import DovetailError, unknown

__all__ = ["named_optimizer"]


def _known() -> dict[str, type[Optimizer]]:
    found = (value for value in vars(torch.optim).values() if isinstance(value, type))
    return {c.__name__.lower(): c for c in found if issubclass(c, Optimizer) and c != Optimizer}


def named_optimizer(text: str) -> Callable[..., Optimizer]:
    """The optimizer of ``torch.optim`` that a text names in lower case, with its options.

    >>> sgd = named_optimizer("sgd(momentum=0.9)")
    >>> sgd([torch.zeros(1, requires_grad=True)], lr=0.1).param_groups[0]["momentum"]
    0.9
    >>> named_optimizer("adamm")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown optimizer 'adamm'; did you mean 'adam'? ...
    >>> named_optimizer("sgd(momentun=0.9)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: optimizer 'sgd(momentun=0.9)': SGD.__init__() got ...
    """
    name, args, named = parse_call(text)
    known = _known()
    if name not in known:
        raise unknown("optimizer", name, known)
    if args:
        raise DovetailError(f"optimizer '{text}': name its arguments, as in sgd(momentum=0.9)")
    try:
        known[name]([torch.zeros(1, requires_grad=True)], **({"lr": 1e-3} | named))
    except (TypeError, ValueError) as error:
        raise DovetailError(f"optimizer '{text}': {error}") from None
    return partial(known[name], **named)
