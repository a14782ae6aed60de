"""The experiment file: its sections put together, and its defaults.

One YAML file is one experiment. The model below is the whole of its grammar; `dovetail show
schema` prints it as a JSON schema. A recipe file is an experiment file that has only rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from dovetail.recipe.document import describe
from dovetail.recipe.sections.base import Spec
from dovetail.recipe.sections.calibrate import CalibrateSpec
from dovetail.recipe.sections.cost import CostSpec
from dovetail.recipe.sections.export import ExportSpec
from dovetail.recipe.sections.fit import FitSpec
from dovetail.recipe.sections.measure import Measures, RequireSpec
from dovetail.recipe.sections.recover import Recipes
from dovetail.recipe.sections.rules import RuleSpec
from dovetail.recipe.sections.search import SearchSpec
from dovetail.recipe.sections.source import DataSpec, ModelSpec

__all__ = ["Experiment", "keys_under"]


def _version(value: Any) -> Any:
    if value == 1 and not isinstance(value, bool):
        return value
    raise ValueError(f"this dovetail reads version 1 of the experiment file, not {describe(value)}")


Version = Annotated[
    Literal[1], BeforeValidator(_version), Field(description="version of this file's grammar")
]


class Experiment(Spec):
    """One experiment: a model, its data, the arithmetic it gets, and what is measured."""

    dovetail: Version
    seed: int = Field(0, ge=0, description="of everything random in the run")
    threads: int | None = Field(
        None, ge=1, description="to compute with; training sums in another order for another number"
    )
    model: ModelSpec | None = None
    data: DataSpec | None = None
    rules: Sequence[RuleSpec] = Field(min_length=1, description="later wins, field by field")
    calibrate: CalibrateSpec = CalibrateSpec()
    recover: Recipes = Field(
        (), description="post-training recipes, by name or {name: {option: value}}, in their order"
    )
    fit: FitSpec | None = Field(None, description="retraining; left out: none")
    measure: Measures = Field(
        ("accuracy", "sqnr", "energy"), description="what the report shows; accuracy always"
    )
    cost: CostSpec = CostSpec()
    search: SearchSpec | None = Field(None, description="designs to look for; left out: none")
    export: Sequence[ExportSpec] = Field(
        (), description="forms that the finished network is written in"
    )
    require: RequireSpec = RequireSpec()
    report: str | None = Field(None, min_length=1, description="folder for the run's files")

    @model_validator(mode="after")
    def _required_is_measured(self) -> Experiment:
        for name in self.require.model_dump(exclude_none=True):
            if name not in self.measure:
                raise ValueError(f"require.{name} needs '{name}' in the list 'measure'")
        return self


def keys_under(path: Sequence[str | int]) -> Iterable[str]:
    """The keys that may stand at a place of an experiment file, for messages.

    >>> list(keys_under(("recover", 0, "rotate")))
    ['select', 'block', 'seed']
    """
    model: type[BaseModel] = Experiment
    for step in path:
        if step in model.model_fields:
            model = _section(model.model_fields[str(step)].annotation) or model
    return model.model_fields


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model inside an optional value or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)
