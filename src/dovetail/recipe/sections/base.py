"""What every section of an experiment file is: a frozen model that knows its keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Spec", "Target"]


class Spec(BaseModel):
    """A section: unknown keys are refused, and no type is guessed into another."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


#: A function of the user's.
Target = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
