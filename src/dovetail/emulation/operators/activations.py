"""Activations: functions of one tensor, element by element, and softmax."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.operators.base import Operator, family

__all__ = ["MODULES", "OPERATORS"]

OPERATORS: dict[Any, Operator] = {
    **family(
        "relu",
        F.relu,
        [F.relu, torch.relu, Tensor.relu],
        inplace=[torch.relu_, Tensor.relu_],
        aten=["relu"],
    ),
    **family("relu6", F.relu6, [F.relu6], aten=["relu6"]),
    **family("gelu", F.gelu, [F.gelu], attributes=("approximate",), aten=["gelu"]),
    **family("silu", F.silu, [F.silu], aten=["silu"]),
    **family(
        "elu", F.elu, [F.elu], attributes=("alpha",), inplace=[torch._C._nn.elu_], aten=["elu"]
    ),
    **family("elu", F.selu, [F.selu, torch.selu], inplace=[torch.selu_], aten=["selu"]),
    **family(
        "elu",
        F.celu,
        [F.celu, torch.celu],
        attributes=("alpha",),
        inplace=[torch.celu_],
        aten=["celu"],
    ),
    **family(
        "leaky_relu",
        F.leaky_relu,
        [F.leaky_relu],
        attributes=("negative_slope",),
        inplace=[torch._C._nn.leaky_relu_],
        aten=["leaky_relu"],
    ),
    **family(
        "prelu",
        F.prelu,
        [F.prelu, torch.prelu, Tensor.prelu],
        slots=("input", "weight"),
        aten=["prelu"],
    ),
    **family("mish", F.mish, [F.mish], aten=["mish"]),
    **family(
        "sigmoid",
        torch.sigmoid,
        [torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit],
        inplace=[torch.sigmoid_, Tensor.sigmoid_],
        aten=["sigmoid"],
    ),
    **family(
        "tanh",
        torch.tanh,
        [torch.tanh, Tensor.tanh, F.tanh],
        inplace=[torch.tanh_, Tensor.tanh_],
        aten=["tanh"],
    ),
    **family(
        "softplus", F.softplus, [F.softplus], attributes=("beta", "threshold"), aten=["softplus"]
    ),
    **family(
        "hardtanh",
        F.hardtanh,
        [F.hardtanh],
        attributes=("min_val", "max_val"),
        inplace=[torch._C._nn.hardtanh_],
        aten=["hardtanh"],
        narrow=("relu6", {"min_val": 0.0, "max_val": 6.0}),  # as nn.ReLU6 calls it
    ),
    **family("hardsigmoid", F.hardsigmoid, [F.hardsigmoid], aten=["hardsigmoid"]),
    **family("hardswish", F.hardswish, [F.hardswish], aten=["hardswish"]),
    **family(
        "exp",
        torch.exp,
        [torch.exp, Tensor.exp],
        inplace=[torch.exp_, Tensor.exp_],
        aten=["exp"],
    ),
    **{
        function: operator
        for name in ("reciprocal", "rsqrt", "sin", "cos")
        for function, operator in family(
            name,
            getattr(torch, name),
            [getattr(torch, name), getattr(Tensor, name)],
            inplace=[getattr(torch, name + "_"), getattr(Tensor, name + "_")],
            aten=[name],
        ).items()
    },
    **{
        function: operator
        for kind, exact, functions in (
            ("softmax", F.softmax, [F.softmax, torch.softmax, Tensor.softmax]),
            ("log_softmax", F.log_softmax, [F.log_softmax, torch.log_softmax, Tensor.log_softmax]),
        )
        for function, operator in family(
            kind,
            exact,
            functions,
            attributes=("dim", "dtype"),
            aten=[kind],
            ignored=["_stacklevel"],
        ).items()
    },
}

#: The modules that exist for one of these.
MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.ELU: "elu",
    nn.SELU: "elu",
    nn.CELU: "elu",
    nn.LeakyReLU: "leaky_relu",
    nn.PReLU: "prelu",
    nn.Mish: "mish",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Softplus: "softplus",
    nn.Hardtanh: "hardtanh",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Hardswish: "hardswish",
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log_softmax",
}
