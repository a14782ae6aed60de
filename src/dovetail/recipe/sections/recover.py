"""What may stand under `recover` in an experiment file: post-training recipes in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, model_validator

from dovetail.recipe.document import describe
from dovetail.recipe.sections.base import Spec

__all__ = ["BEFORE_EMULATION", "Recipes", "RecoverSpec", "recoveries_known"]

#: Those that change the model before the rules are applied to it, and so come first.
BEFORE_EMULATION = ("fold_batch_norm",)

Fuse = Literal["auto", "only", "never"]
Patterns = Annotated[
    str | Sequence[str],
    Field(description="one or several patterns, as rules have them", min_length=1),
]


class _Options(Spec):
    select: Patterns = "*"


class FoldBatchNormOptions(_Options):
    """Batch norms folded into the layers that feed them; comes first."""


class ReestimateBatchNormOptions(_Options):
    """The running statistics of batch norms estimated anew under the emulated arithmetic."""


class EqualiseOptions(_Options):
    """Weight ranges shared out between layers that follow one another."""


class CorrectBiasOptions(_Options):
    """The mean that emulation takes from each output channel added to its bias."""


class SmoothquantOptions(_Options):
    """Outlying channels of inputs moved into weights."""

    alpha: float = Field(0.5, ge=0, le=1, description="how much of them is moved")
    fuse: Fuse = Field("auto", description="into what feeds an operation, where that is proven")
    dynamic: bool = Field(False, description="the scale of each call's own input")
    po2: bool = Field(False, description="scales rounded to powers of two")


class AwqOptions(_Options):
    """Weights that meet large inputs scaled up before they are rounded."""

    grid: int = Field(20, ge=1, description="exponents that are tried")
    clip: bool = Field(False, description="look for the best bound of the weights, too")
    fuse: Fuse = Field("auto", description="into what feeds an operation, where that is proven")


class GptqOptions(_Options):
    """Weights rounded column by column, each error made up for by the columns after it."""

    act_order: bool = Field(False, description="columns of large inputs first")
    damp: float = Field(0.01, gt=0, description="share of the mean square added to the squares")
    block: int = Field(128, ge=1, description="columns brought up to date at a time")


class AdaroundOptions(_Options):
    """Every weight rounded down or up, as its layer's output needs it."""

    steps: int = Field(500, ge=1, description="steps of the optimiser")
    rate: float = Field(0.03, gt=0, description="its learning rate")
    press: float = Field(1.0, gt=0, description="how strongly weights are made to choose")


class RotateOptions(_Options):
    """Inputs and weights turned by a Hadamard matrix."""

    block: int | None = Field(None, ge=2, description="channels that are turned together; all")
    seed: int = Field(0, ge=0, description="of the matrix, where no Hadamard matrix is known")


class SlancOptions(_Options):
    """The inputs of normalisations scaled so that their sums stay in range."""


class RemapWeightsOptions(_Options):
    """Each weight's code changed to the one with the nearest approximate products."""


class ControlVariateOptions(_Options):
    """A multiplier's error predicted from a sum over the input, and subtracted."""


class TuneFunctionsOptions(_Options):
    """The numbers of approximated functions searched for a smaller error."""

    trials: int = Field(50, ge=1, description="sets of numbers that are tried")
    seed: int = Field(0, ge=0, description="of the search")
    budget: float = Field(1.0, ge=1, description="how many times the segments, steps... may grow")


class RecoverSpec(Spec):
    """One recipe, by its name, with its options."""

    fold_batch_norm: FoldBatchNormOptions | None = None
    reestimate_batch_norm: ReestimateBatchNormOptions | None = None
    equalise: EqualiseOptions | None = None
    smoothquant: SmoothquantOptions | None = None
    awq: AwqOptions | None = None
    gptq: GptqOptions | None = None
    adaround: AdaroundOptions | None = None
    rotate: RotateOptions | None = None
    slanc: SlancOptions | None = None
    tune_functions: TuneFunctionsOptions | None = None
    remap_weights: RemapWeightsOptions | None = None
    control_variate: ControlVariateOptions | None = None
    correct_bias: CorrectBiasOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A recipe by its name alone has every default."""
        if isinstance(value, str):
            return {value: {}}
        if not isinstance(value, dict):
            raise ValueError(
                "expected the name of a recipe, or a mapping such as {smoothquant: {alpha: 0.5}}, "
                f"got {describe(value)}"
            )
        return {key: {} if options is None else options for key, options in value.items()}

    @model_validator(mode="after")
    def _one(self) -> RecoverSpec:
        if len(self.model_fields_set) != 1:
            raise ValueError(
                f"one recipe to an entry of the list, not {len(self.model_fields_set)}"
            )
        return self

    @property
    def name(self) -> str:
        """Which recipe it is."""
        (name,) = self.model_fields_set
        return name

    @property
    def options(self) -> dict[str, Any]:
        """What its function is called with, defaults included."""
        found: BaseModel = getattr(self, self.name)
        return found.model_dump()

    def spelled(self) -> dict[str, Any]:
        """The entry with every default spelled out.

        >>> RecoverSpec(equalise=EqualiseOptions()).spelled()
        {'equalise': {'select': '*'}}
        """
        options = {key: value for key, value in self.options.items() if value is not None}
        return {self.name: options}


def _in_order(value: Sequence[RecoverSpec]) -> Sequence[RecoverSpec]:
    later = False
    for item in value:
        if later and item.name in BEFORE_EMULATION:
            raise ValueError(f"{item.name} changes the model before the rules do: put it first")
        later |= item.name not in BEFORE_EMULATION
    return value


#: One after the other.
Recipes = Annotated[Sequence[RecoverSpec], AfterValidator(_in_order)]


def recoveries_known() -> list[dict[str, Any]]:
    """Every recipe with what it does and its options, for people to read.

    >>> recoveries_known()[3]["name"], [o["name"] for o in recoveries_known()[3]["options"]]
    ('smoothquant', ['alpha', 'fuse', 'dynamic', 'po2'])
    """
    rows = []
    for name, field in RecoverSpec.model_fields.items():
        options = next(arg for arg in get_args(field.annotation) if arg is not type(None))
        told = [
            {"name": key, "default": option.default, "what": option.description}
            for key, option in options.model_fields.items()
            if key != "select"
        ]
        rows.append({"name": name, "what": options.__doc__, "options": told})
    return rows
