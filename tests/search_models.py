"""A small network, its data and a space of few designs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.search import Front, Space
from helpers import randn

MULS = ["exact", "mul8s_1KVM", "mul8s_1L2L@v2022"]
BASE = dv.Recipe(dv.rule("*", input="int8", weight="int8"))
SPACE = Space(each={"[ab].mul": MULS})


class Small(nn.Module):
    """Three layers; ``calls`` counts the batches that all copies in this process saw."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def batches() -> list[tuple[Tensor, Tensor]]:
    x = randn(64, 8, seed=3)
    return [(x, Small()(x).argmax(1))]


def found(**options: Any) -> Front:
    """The search of the small space; options replace its own."""
    usual: dict[str, Any] = {
        "space": SPACE,
        "evaluate": batches(),
        "example": batches()[0][0],
        "recipe": BASE,
        "calibration": batches(),
        "objectives": {"sqnr": "max", "energy": "min"},
        "trials": 9,
    }
    given = usual | options
    return dv.search(Small(), given.pop("space"), given.pop("evaluate"), **given)


def by_hand(recipe: dv.Recipe) -> float:
    """The SQNR of a recipe that is put into a fresh model."""
    model, (x, _) = Small(), batches()[0]
    exact = model(x)
    dv.apply_(model, recipe, x)
    with dv.calibrate(model):
        model(x)
    return dv.analysis.sqnr_db(exact, model(x))


def values(front: Front) -> set[tuple[float, ...]]:
    return {tuple(trial.values[n] for n in front.objectives.directions) for trial in front}


def slow_figures(model: nn.Module) -> float:
    """A figure that takes a while to find: time enough to be killed."""
    import time

    time.sleep(0.3)
    with torch.no_grad():
        return float(model(batches()[0][0]).double().square().mean())
