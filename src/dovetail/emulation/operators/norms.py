"""Normalisations. Running statistics are never cast; in training they follow the cast input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from dovetail.emulation.operators.base import Operator, family

__all__ = ["MODULES", "OPERATORS"]

_AFFINE = ("input", "weight", "bias")
_RUNNING = ("running_mean", "running_var")
_CUDNN = ("cudnn_enable", "cudnn_enabled")

OPERATORS: dict[Any, Operator] = {
    **family(
        "layer_norm",
        F.layer_norm,
        [F.layer_norm, torch.layer_norm],
        slots=_AFFINE,
        attributes=("normalized_shape", "eps"),
        aten=["layer_norm"],
        ignored=_CUDNN,
    ),
    **family(
        "rms_norm",
        F.rms_norm,
        [F.rms_norm, torch.rms_norm],
        slots=("input", "weight"),
        attributes=("normalized_shape", "eps"),
        aten=["rms_norm"],
    ),
    **family(
        "batch_norm",
        F.batch_norm,
        [F.batch_norm, torch.batch_norm],
        slots=_AFFINE,
        attributes=(*_RUNNING, "training", "momentum", "eps"),
        aten=["batch_norm"],
        ignored=_CUDNN,
        mutable=_RUNNING,
    ),
    **family(
        "group_norm",
        F.group_norm,
        [F.group_norm, torch.group_norm],
        slots=_AFFINE,
        attributes=("num_groups", "eps"),
        aten=["group_norm"],
        ignored=_CUDNN,
    ),
    **family(
        "instance_norm",
        F.instance_norm,
        [F.instance_norm, torch.instance_norm],
        slots=_AFFINE,
        attributes=(*_RUNNING, "use_input_stats", "momentum", "eps"),
        aten=["instance_norm"],
        ignored=_CUDNN,
        mutable=_RUNNING,
    ),
}

#: The modules that exist for one of these.
MODULES: dict[type[nn.Module], str] = {
    nn.LayerNorm: "layer_norm",
    nn.RMSNorm: "rms_norm",
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "batch_norm"),
    nn.GroupNorm: "group_norm",
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), "instance_norm"),
}
