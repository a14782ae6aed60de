"""What may stand under `model` and `data`: what is built in, or what a function makes."""

from __future__ import annotations

from pydantic import Field, model_validator

from dovetail.recipe.sections.base import Spec, Target

__all__ = ["DataSpec", "ModelSpec"]


class _Source(Spec):
    """Something that is built in, or made by a function of the user's."""

    builtin: str | None = Field(None, description="the name of one that ships with dovetail")
    python: Target | None = Field(None, description="'package.module:function', called to make it")

    @model_validator(mode="after")
    def _one_of_both(self) -> _Source:
        if (self.builtin is None) == (self.python is None):
            raise ValueError("needs exactly one of the keys 'builtin' and 'python'")
        return self


class ModelSpec(_Source):
    """The network. A Python function takes no argument and returns a trained `nn.Module`."""


class DataSpec(_Source):
    """The data. A Python function takes `seed` and `batch_size` and returns `train`, `test` and,
    if it likes, `calibration` loaders, as a mapping or as an object's attributes.
    """

    seed: int = Field(0, ge=0, description="of the choice of calibration samples")
    batch_size: int = Field(64, ge=1, description="samples in a batch")
