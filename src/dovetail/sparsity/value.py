"""The frozen value that says which weights are kept, by which score, and what training sees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dovetail._spelling import spell_call
from dovetail.errors import DovetailError, unknown
from dovetail.sparsity.pattern import Pattern
from dovetail.sparsity.patterns import Dense
from dovetail.sparsity.scores import score_names

__all__ = ["BACKWARD", "Sparsity"]

#: What the backward pass may use; see :class:`Sparsity`.
BACKWARD = ("ste", "masked", "supermask", "joint")
_TRAINING_SCORES = ("supermask", "joint")


@dataclass(frozen=True, repr=False)
class Sparsity:
    """A pattern, the score that chooses the weights, and the gradient.

    ``score``: ``magnitude``, ``wanda``, ``gradient``, ``movement``, ``learned``, or one that was
    registered (:func:`dovetail.sparsity.register_score`). ``backward``, for a result ``w * mask``
    with gradient ``g``:

    ========== ================== ==================
    mode       gradient of w      gradient of scores
    ========== ================== ==================
    ste        g, pruned ones too none
    masked     g * mask           none
    supermask  none               g * w
    joint      g * mask           g * w
    ========== ================== ==================

    ``kept_scores``: the scores' gradient only where the weight is kept (the d-Matrix flag ``M``).
    ``fixed``: the mask is chosen once, and stays when the weight changes.

    >>> from dovetail.sparsity import NofM
    >>> Sparsity(NofM(2, 4)), Sparsity(NofM(2, 4), "learned", "joint")
    (2:4, 2:4(score=learned, backward=joint))
    """

    pattern: Pattern
    score: str = "magnitude"
    backward: str = "ste"
    fixed: bool = False
    kept_scores: bool = False

    def __post_init__(self) -> None:
        if self.score not in score_names():
            raise unknown("score", self.score, score_names())
        if self.backward not in BACKWARD:
            raise unknown("backward mode", self.backward, BACKWARD)
        if self.trains_scores and not self.learned:
            raise DovetailError(
                f"backward={self.backward} trains scores, and score={self.score} has none to "
                "train: say 'score=learned', or 'backward=ste'"
            )
        if self.learned and not self.trains_scores:
            raise DovetailError(
                f"score=learned with backward={self.backward} would train no scores: say "
                "'backward=joint' or 'backward=supermask'"
            )
        if self.fixed and (self.learned or self.pattern.draws):
            raise DovetailError(
                "a fixed mask follows neither learned scores nor a draw at every call: leave out "
                "'fixed'"
            )
        if self.kept_scores and not self.trains_scores:
            raise DovetailError("kept_scores speaks of the gradient of scores: say score=learned")

    @property
    def is_dense(self) -> bool:
        """Whether it keeps every weight."""
        return isinstance(self.pattern, Dense)

    @property
    def learned(self) -> bool:
        """Whether the scores are parameters."""
        return self.score == "learned"

    @property
    def trains_scores(self) -> bool:
        """Whether the backward pass reaches the scores."""
        return self.backward in _TRAINING_SCORES

    @property
    def density(self) -> float | None:
        """The share of the weights that it keeps; ``None`` where the scores decide.

            >>> from dovetail.sparsity import NofM
        >>> Sparsity(NofM(2, 4)).density
            0.5
        """
        return self.pattern.density

    def at_density(self, density: float) -> Sparsity:
        """The same with more weights kept, for a schedule.

            >>> from dovetail.sparsity import NofM
        >>> Sparsity(NofM(2, 8)).at_density(0.6)
            5:8
        """
        return replace(self, pattern=self.pattern.at_density(density))

    @property
    def spelling(self) -> str:
        """The canonical spelling, as written in a recipe."""
        name, args, named = self.pattern.call
        flags = [f for f in ("fixed", "kept_scores") if getattr(self, f)]
        words: dict[str, Any] = dict(named)
        if self.score != "magnitude":
            words["score"] = self.score
        if self.backward != "ste":
            words["backward"] = self.backward
        return spell_call(name, *args, *flags, **words)

    def __repr__(self) -> str:
        return self.spelling

    __str__ = __repr__
