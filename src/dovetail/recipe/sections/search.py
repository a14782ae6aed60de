"""What may stand under `search`: a space of designs, what is wanted of them, and how to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from dovetail.recipe.sections.base import Spec
from dovetail.recipe.sections.measure import Condition

__all__ = ["SearchSpec"]

Choices = Mapping[str, Sequence[Any]]


class SearchSpec(Spec):
    """A search for the designs that no other beats: the arguments of `dv.search`."""

    over: Choices = Field({}, description='{"conv*.mul": [...]}: one choice for all that match')
    each: Choices = Field({}, description='{"*.mul": [...]}: a choice for each that matches')
    share: Mapping[str, Sequence[str | Sequence[str]]] = Field(
        {}, description="tiles: {mul: [[conv1, conv2], head]}, one choice for all on a tile"
    )
    distinct: Mapping[str, int] = Field(
        {}, description="how many different values at most: {mul: 2}"
    )
    objectives: Mapping[str, Literal["max", "min"]] = Field(
        {"accuracy": "max", "energy": "min"}, min_length=1, description="figures and directions"
    )
    constraints: Mapping[str, Condition] = Field(
        {}, description='bounds of figures, such as {accuracy: ">=0.95"}'
    )
    trials: int = Field(60, ge=1, description="designs to evaluate; exhaustive evaluates all")
    strategy: Literal["nsga2", "tpe", "greedy", "exhaustive", "mcts"] = Field(
        "nsga2", description="how to choose the next design"
    )
    surrogate: bool = Field(
        False, description="pass over designs that first-order attribution predicts to lose"
    )
    evaluate: Literal["test", "calibration", "validation"] = Field(
        "test", description="data that designs are measured on"
    )

    @model_validator(mode="after")
    def _has_a_space(self) -> SearchSpec:
        if not self.over and not self.each:
            raise ValueError(
                "it needs a space: over or each, such as over: {conv*.mul: [exact, mul8s_1L2H]}"
            )
        return self
