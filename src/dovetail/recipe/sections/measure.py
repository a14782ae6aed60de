"""What may stand under `measure` and `require`: what is looked at, and what it must be."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dovetail.recipe.document import describe
from dovetail.recipe.sections.base import Spec

__all__ = ["COMPARISONS", "Condition", "Measures", "RequireSpec", "condition_of"]

Measure = Literal["accuracy", "perplexity", "sqnr", "energy", "attribution"]


def _with_accuracy(value: Sequence[str]) -> Sequence[str]:
    if "accuracy" in value:
        return value
    raise ValueError("accuracy must be in the list: every stage of a run is judged by it")


#: What a report shows.
Measures = Annotated[Sequence[Measure], AfterValidator(_with_accuracy)]

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"(>=|<=|>|<)\s*(-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*(%?)")


def _condition(value: Any) -> Any:
    if isinstance(value, str) and _CONDITION.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f'expected a condition such as ">=0.95" or "<= 60%", got {describe(value)}')


def condition_of(text: str) -> tuple[str, float]:
    """The comparison and the number of a condition.

    >>> condition_of(">= 95%")
    ('>=', 0.95)
    """
    match = _CONDITION.fullmatch(_condition(text))
    assert match is not None
    return match[1], float(match[2]) / (100 if match[3] else 1)


Condition = Annotated[str, BeforeValidator(_condition)]


class RequireSpec(Spec):
    """Conditions on the last stage of a run; a missed one makes it end with exit code 1."""

    accuracy: Condition | None = Field(None, description='share of right answers, as ">=0.95"')
    perplexity: Condition | None = Field(None, description='of language data, as "<=6"')
    sqnr: Condition | None = Field(None, description='of the network\'s output in dB, as ">=20"')
    energy: Condition | None = Field(None, description='relative to exact, as "<=0.7"')

    def judge(self, measured: Mapping[str, float | None]) -> tuple[list[str], list[str]]:
        """What is as required, and what is not; one sentence for each condition.

        >>> RequireSpec(accuracy=">= 95%").judge({"accuracy": 0.94})
        ([], ['accuracy 0.94 misses >= 95%'])
        """
        met: list[str] = []
        missed: list[str] = []
        for name, condition in self.model_dump(exclude_none=True).items():
            comparison, bound = condition_of(condition)
            value = measured.get(name)
            if value is None or math.isnan(value):
                missed.append(f"{name} was not measured, so it misses {condition}")
            elif COMPARISONS[comparison](value, bound):
                met.append(f"{name} {value:.4g} meets {condition}")
            else:
                missed.append(f"{name} {value:.4g} misses {condition}")
        return met, missed
