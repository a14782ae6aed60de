"""Pooling, resizing, joining and dropout: operators that choose, average or move values."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.operators.base import Operator, family

__all__ = ["MODULES", "OPERATORS", "UNCOVERED"]

_WINDOW = ("kernel_size", "stride", "padding")


def _max_pool(n: int) -> dict[Any, Operator]:
    """Without the indices of the largest values: those are no numbers to be cast."""
    name = f"max_pool{n}d"
    attributes = (*_WINDOW, "dilation", "ceil_mode")
    return family(
        "max_pool",
        getattr(F, name),
        [getattr(F, name), getattr(torch, name)],
        attributes=attributes,
        order=dict.fromkeys(("input", *attributes)) | {"return_indices": False},
        aten=[name],
    )


def _avg_pool(n: int) -> dict[Any, Operator]:
    name = f"avg_pool{n}d"
    divisor = () if n == 1 else ("divisor_override",)
    return family(
        "avg_pool",
        getattr(F, name),
        {getattr(F, name), *([torch.avg_pool1d] if n == 1 else [])},
        attributes=(*_WINDOW, "ceil_mode", "count_include_pad", *divisor),
        aten=[name],
    )


def _adaptive(n: int) -> dict[Any, Operator]:
    average, largest = f"adaptive_avg_pool{n}d", f"adaptive_max_pool{n}d"
    return {
        **family(
            "avg_pool",
            getattr(F, average),
            {getattr(F, average), *([torch.adaptive_avg_pool1d] if n == 1 else [])},
            attributes=("output_size",),
            aten=[average],
        ),
        **family(
            "max_pool",
            getattr(F, largest),
            [getattr(F, largest)],
            attributes=("output_size",),
            order=dict.fromkeys(("input", "output_size")) | {"return_indices": False},
        ),
    }


def _cat(dim: int = 0, **tensors: Tensor) -> Tensor:
    return torch.cat(list(tensors.values()), dim)


_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")

OPERATORS: dict[Any, Operator] = {
    **{
        f: o
        for n in (1, 2, 3)
        for make in (_max_pool, _avg_pool, _adaptive)
        for f, o in make(n).items()
    },
    **family(
        "interpolate",
        F.interpolate,
        [F.interpolate, F.upsample],
        attributes=(
            "size",
            "scale_factor",
            "mode",
            "align_corners",
            "recompute_scale_factor",
            "antialias",
        ),
    ),
    **family(
        "cat",
        _cat,
        [torch.cat, torch.concat, torch.concatenate],
        attributes=("dim",),
        aten=["cat"],
        renamed={"tensors": "input", "axis": "dim"},
    ),
    **{
        f: o
        for name in _DROPOUTS
        for f, o in family(
            "dropout", getattr(F, name), [getattr(F, name)], attributes=("p", "training")
        ).items()
    },
    **family(
        "dropout",
        F.dropout,
        [torch.dropout],
        attributes=("p", "training"),
        aten=["dropout"],
        renamed={"train": "training"},
    ),
}

#: The modules that exist for one of these.
MODULES: dict[type[nn.Module], str] = {
    **dict.fromkeys(
        (
            *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
            *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        ),
        "max_pool",
    ),
    **dict.fromkeys(
        (
            *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
            *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        ),
        "avg_pool",
    ),
    nn.Upsample: "interpolate",
    **dict.fromkeys(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout), "dropout"
    ),
}

#: Functions that give the places of the largest values as well: no rule reaches them.
UNCOVERED: dict[Any, str] = {
    getattr(F, name): name
    for n in (1, 2, 3)
    for name in (f"max_pool{n}d_with_indices", f"adaptive_max_pool{n}d_with_indices")
}
