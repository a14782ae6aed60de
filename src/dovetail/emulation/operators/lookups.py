"""Tables of vectors, and the bilinear form: operators that hold a weight."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.emulation.operators.base import Operator, family

__all__ = ["MODULES", "OPERATORS"]


def _bilinear(input: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.bilinear(input, other, weight, bias)


def _embedding(weight: Tensor, input: Tensor, padding_idx: int = -1, **options: bool) -> Tensor:
    """As aten has it: -1 means that no row is padding, and not that the last one is."""
    return torch.embedding(weight, input, padding_idx, **options)


OPERATORS: dict[Any, Operator] = {
    # With a max_norm it writes to its weight: that stays torch's own.
    **family(
        "embedding",
        F.embedding,
        [F.embedding],
        slots=("weight",),
        attributes=("input", "padding_idx", "scale_grad_by_freq", "sparse"),
        ignored=["norm_type"],
    ),
    **family(
        "embedding",
        _embedding,
        [torch.embedding],
        slots=("weight",),
        attributes=("input", "padding_idx", "scale_grad_by_freq", "sparse"),
        aten=["embedding"],
        renamed={"indices": "input"},
    ),
    **family(
        "embedding_bag",
        F.embedding_bag,
        [F.embedding_bag],
        slots=("weight",),
        attributes=(
            "input",
            "offsets",
            "scale_grad_by_freq",
            "mode",
            "sparse",
            "per_sample_weights",
            "include_last_offset",
            "padding_idx",
        ),
        ignored=["norm_type"],
    ),
    **family(
        "bilinear",
        _bilinear,
        [F.bilinear, torch.bilinear],
        slots=("input", "other", "weight", "bias"),
        aten=["bilinear"],
        renamed={"input1": "input", "input2": "other"},
    ),
}

#: The modules that exist for one of these.
MODULES: dict[type[nn.Module], str] = {
    nn.Embedding: "embedding",
    nn.EmbeddingBag: "embedding_bag",
    nn.Bilinear: "bilinear",
}
