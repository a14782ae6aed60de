"""What is done to a network, and what is done to mend it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

import dovetail as dv
from benchmarks.recovery.networks import Data, Network
from dovetail.errors import DovetailError

#: From mild to damaging, with int8 operands; each is one circuit or family.
MULTIPLIERS = (
    "mul8s_1KVQ",
    "mul8s_1KX5",
    "mul8s_1L2N",
    "drum(k=2)",
    "broken_array(bits=8, drop_columns=8)",
    "truncate(bits=8, drop_first=4, drop_second=4)",
    "mul8s_1L12",
)
#: Of input and weight, with exact products.
FORMATS = ("int8", "int6", "int5", "int4", "int3")
#: What a network approximates, beside products of int8 codes: of which operations, and how.
FUNCTIONS = {
    "digits transformer": ("softmax", "softmax(exp=pwl(2), clamp=-2)"),
    "character LSTM": ("sigmoid tanh", "pwl(4, domain=(-8, 8))"),
}
#: Post-training recipes by their name in dovetail; each takes the model and batches of inputs.
RECIPES = ("equalise", "smoothquant", "awq", "rotate", "gptq", "adaround")
CORRECTIONS = ("correct_bias", "control_variate", "remap_weights")
GRADIENTS = ("ste", "lut1d", "lut2d", "poly", "noise", "approx")
FITS = tuple(f"fit {grad}" for grad in GRADIENTS)
AFTER = tuple(f"correct_bias + {fit}" for fit in FITS[:3])
LEARNED = "fit ste(lsq)"
LEARNED = "fit ste(lsq)"
#: One, or several joined by " + ", carried out from left to right.
METHODS = (
    "before",
    *RECIPES,
    *CORRECTIONS,
    "tune_functions",
    *FITS[:3],
    *AFTER,
    LEARNED,
    *FITS[3:],
)


def arithmetics(network: str) -> list[str]:
    """All that is done to a network, by name."""
    functions = [fn for _, fn in [FUNCTIONS[network]]] if network in FUNCTIONS else []
    return [*MULTIPLIERS, *FORMATS, *functions]


def asked(arithmetic: str, method: str) -> bool:
    """Whether a method can change what an arithmetic does.

    Exact products have one gradient, and no multiplier to correct; they have scales to learn.
    """
    if arithmetic in MULTIPLIERS:
        return method not in ("tune_functions", LEARNED)
    if arithmetic in FORMATS:
        return method in ("before", *RECIPES, "correct_bias", "fit ste", LEARNED)
    return method in ("before", "correct_bias", "tune_functions", "fit ste")


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
            dv.fit(emulated, data.retrain, **again, **network.retrain)
            continue
        try:
            getattr(dv, part)(emulated, _inputs(data.calibration))
        except DovetailError as error:
            return str(error)
    return network.measure(emulated, data.test)


def _emulated(model: nn.Module, data: Data, arithmetic: str, grad: str = "ste") -> nn.Module:
    inputs = _inputs(data.calibration)
    emulated = copy.deepcopy(model)
    dv.apply_(emulated, dv.Recipe(*_rules(arithmetic, grad)), next(iter(inputs)))
    with dv.calibrate(emulated):
        for x in inputs:
            emulated(x)
    return emulated


def _rules(arithmetic: str, grad: str) -> list[dv.Rule]:
    """For the products, and for the functions that are approximated."""
    fields: dict[str, Any] = {"input": "int8", "weight": "int8", "grad": grad}
    if arithmetic in MULTIPLIERS:
        fields["mul"] = arithmetic
    elif arithmetic in FORMATS:
        fields |= {"input": arithmetic, "weight": arithmetic}
    approximated = [op for op, fn in FUNCTIONS.values() if fn == arithmetic]
    return [
        dv.rule("*", **fields),
        *(dv.rule("*", op=op, fn=arithmetic) for op in approximated),
    ]


def _inputs(batches: Iterable[Any]) -> list[Any]:
    return [x for x, _ in batches]
