"""What a weight is worth: the scores of which a pattern keeps the largest.

==========  ===================================================================================
magnitude   |w|
wanda       |w| times the Euclidean norm of the inputs that it multiplies, over the calibration
            data (Sun et al., A Simple and Effective Pruning Approach for LLMs, 2024)
gradient    |w * g|: the first-order change of the loss, g summed over the calibration data
            (Molchanov et al., Importance Estimation for Neural Network Pruning, 2019)
movement    -w * g, summed: large where training moves the weight away from zero
            (Sanh et al., Movement Pruning, 2020)
learned     a parameter of its own, which starts as |w|
==========  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dovetail.errors import DovetailError, unknown

__all__ = ["DATA_SCORES", "GRADIENT_SCORES", "register_score", "score", "score_names"]

Score = Callable[[Tensor], Tensor]

#: Scores that come of what calibration batches show, and those of backward passes among them.
GRADIENT_SCORES = ("gradient", "movement")
DATA_SCORES = ("wanda", *GRADIENT_SCORES)
_BUILT_IN = ("magnitude", *DATA_SCORES, "learned")
_registered: dict[str, Score] = {}


def register_score(name: str) -> Callable[[Score], Score]:
    """Decorator: make ``score(weight)``, a tensor of the weight's shape, known as ``score=name``.

    >>> @register_score("first_come")
    ... def first_come(weight):
    ...     return -torch.arange(weight.numel()).view(weight.shape)
    >>> score("first_come", torch.ones(3)).tolist()
    [0, -1, -2]
    >>> del _registered["first_come"]
    """

    def add(function: Score) -> Score:
        if not name.isidentifier() or name in _BUILT_IN:
            raise DovetailError(f"{name!r} cannot name a score: choose another word")
        if _registered.get(name, function) is not function:
            raise DovetailError(f"a score {name!r} exists already; choose another name")
        _registered[name] = function
        return function

    return add


def score_names() -> list[str]:
    """Every score that ``score=`` may name.

    >>> score_names()[:2]
    ['magnitude', 'wanda']
    """
    return [*_BUILT_IN, *_registered]


def score(name: str, weight: Tensor, data: Tensor | None = None) -> Tensor:
    """The scores of a weight; no gradient is recorded.

    ``data`` is what the calibration gathered: for ``wanda`` the norms of the inputs, broadcastable
    to the weight; for ``gradient`` and ``movement`` the scores themselves; for ``learned`` the
    parameter.

    >>> score("magnitude", torch.tensor([-2.0, 1.0]))
    tensor([2., 1.])
    >>> score("wanda", torch.tensor([[-2.0, 1.0]]), torch.tensor([1.0, 3.0]))
    tensor([[2., 3.]])
    """
    fixed = weight.detach()
    if name in _registered:
        found = _registered[name](fixed)
        if not isinstance(found, Tensor) or found.shape != weight.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else found
            raise DovetailError(
                f"score={name} of a weight {tuple(weight.shape)} gave {shape}, not one number for "
                "each weight"
            )
        return found.detach()
    if name == "magnitude":
        return fixed.abs()
    if name not in _BUILT_IN:
        raise unknown("score", name, score_names())
    if data is None:
        raise DovetailError(f"score={name} needs what the calibration data show")
    if name == "wanda":
        return fixed.abs().to(torch.float32) * data
    return data.detach()
