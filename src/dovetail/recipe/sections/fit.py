"""What may stand under `fit`: retraining."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dovetail.recipe.sections.base import Spec, Target
from dovetail.sparsity import schedule

__all__ = ["FitSpec"]


def _prune(value: str) -> str:
    return str(schedule(value))


Prune = Annotated[str, AfterValidator(_prune)]


class FitSpec(Spec):
    """Retraining under the emulated arithmetic: the arguments of `dv.fit`."""

    epochs: int = Field(1, ge=1, description="passes over the training data")
    lr: float = Field(5e-4, gt=0, description="the highest learning rate")
    optimizer: str = Field(
        "adam", description="one of torch's, such as adamw(weight_decay=0.01) or sgd(momentum=0.9)"
    )
    schedule: str = Field(
        "cosine", description="of the learning rate: cosine, linear, constant; cosine(warmup=0.1)"
    )
    scheduler: Target | None = Field(
        None, description="instead of schedule, a function of the optimizer: a torch scheduler"
    )
    loss: Target | None = Field(
        None, description="a function of output and target; cross entropy if left out"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="what torch's autocast computes in"
    )
    accumulate: int = Field(1, ge=1, description="batches for one step")
    clip_norm: float | None = Field(None, gt=0, description="bound of the gradient's norm")
    evaluate: Literal["calibration", "validation", "test"] | None = Field(
        None, description="data on which the accuracy is measured before and after each epoch"
    )
    budget: float | None = Field(
        None, ge=0, description="stop as soon as the accuracy is so near the exact network's"
    )
    keep_best: bool = Field(True, description="end with the weights of the best epoch")
    distill: str | None = Field(
        None, description="learn from the exact network, too: exact(temperature=2, alpha=0.5)"
    )
    checkpoint: str | None = Field(
        None, min_length=1, description="folder from which an interrupted training goes on"
    )
    checkpoint_every: int | None = Field(None, ge=1, description="steps between two checkpoints")
    logger: str | None = Field(None, min_length=1, description="CSV file of loss and accuracy")
    seed: int | None = Field(None, ge=0, description="of the order; the experiment's if left out")
    prune: Prune | None = Field(
        None, description="how sparse weights are taken away: cubic, linear(begin=0.1, end=0.5)"
    )

    @model_validator(mode="after")
    def _together(self) -> FitSpec:
        for option, needed in (("budget", "evaluate"), ("checkpoint_every", "checkpoint")):
            if getattr(self, option) is not None and getattr(self, needed) is None:
                raise ValueError(f"'{option}' needs the key '{needed}'")
        return self
