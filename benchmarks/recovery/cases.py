"""What is done to a network, and what is done to mend it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

import dovetail as dv
from benchmarks.recovery.networks import Data, Network
from dovetail.errors import DovetailError

#: From mild to damaging: with int8 operands; each is one circuit or family.
MULTIPLIERS = (
    "mul8s_1KVQ",
    "mul8s_1KX5",
    "drum(k=3)",
    "mul8s_1L2L",
    "mul8s_1KXF",
    "drum(k=2)",
    "mul8s_1L2N",
    "broken_array(bits=8, drop_columns=8)",
    "mul8s_1L12",
)
#: Of input and weight, with exact products.
FORMATS = ("int8", "int6", "int5", "int4", "int3")
#: Post-training recipes by their name in dovetail; each takes the model and batches of inputs.
RECIPES = ("smoothquant", "awq", "equalise", "rotate", "correct_bias")
GRADIENTS = ("ste", "lut1d", "lut2d")
FITS = tuple(f"fit {grad}" for grad in GRADIENTS)
#: One, or several joined by " + ", carried out from left to right.
METHODS = ("before", *RECIPES, *FITS, *(f"correct_bias + {fit}" for fit in FITS))


def arithmetics() -> list[str]:
    """All that is done to a network, by name."""
    return [*MULTIPLIERS, *FORMATS]


def asks_nothing(arithmetic: str, method: str) -> bool:
    """Exact products have one gradient: the others would repeat it."""
    return arithmetic in FORMATS and method.endswith(("lut1d", "lut2d"))


def measured(
    network: Network, model: nn.Module, data: Data, arithmetic: str, method: str, seed: int
) -> float | str:
    """The metric of a copy of ``model`` under an arithmetic, mended by a method of one gradient.

    Where a recipe finds nothing in the network that it could act on, what it says instead.
    """
    parts = [] if method == "before" else method.split(" + ")
    grads = [part.removeprefix("fit ") for part in parts if part.startswith("fit ")]
    emulated = _emulated(model, data, arithmetic, *grads)
    for part in parts:
        if part.startswith("fit "):
            again = {"loss": network.loss, "seed": seed, "progress": False}
            dv.fit(emulated, data.train, **again, **network.retrain)
            continue
        try:
            getattr(dv, part)(emulated, _inputs(data.calibration))
        except DovetailError as error:
            return str(error)
    return network.measure(emulated, data.test)


def _emulated(model: nn.Module, data: Data, arithmetic: str, grad: str = "ste") -> nn.Module:
    fields: dict[str, Any] = {"input": "int8", "weight": "int8", "mul": arithmetic, "grad": grad}
    if arithmetic in FORMATS:
        fields = {"input": arithmetic, "weight": arithmetic}
    emulated = copy.deepcopy(model)
    inputs = _inputs(data.calibration)
    dv.apply_(emulated, dv.Recipe(dv.rule("*", **fields)), next(iter(inputs)))
    with dv.calibrate(emulated):
        for x in inputs:
            emulated(x)
    return emulated


def _inputs(batches: Iterable[Any]) -> list[Any]:
    return [x for x, _ in batches]
