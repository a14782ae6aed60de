"""The ``torch.library`` ops of floating-point multipliers; operands are cast values.

``dovetail::float_mac`` is a linear layer where ``stride`` is empty, else a convolution, whose
padding is flat: low, high, low, high, ... Multiplier and accumulator travel as text, ``""`` being
no accumulator. Results are float32 and have no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, register_fake, register_vmap

from dovetail.accumulators import Accumulator, accumulator
from dovetail.errors import DovetailError
from dovetail.kernels import float_mac as kernels
from dovetail.kernels.batching import one_by_one
from dovetail.kernels.library import conv_geometry, owned
from dovetail.multipliers import FloatMultiplier, any_multiplier

__all__ = ["float_mac", "float_matmul"]

_library = Library("dovetail", "FRAGMENT")
_library.define(
    "float_mac(Tensor x, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, "
    "int groups, str mul, str acc) -> Tensor"
)
_library.define("float_matmul(Tensor x, Tensor weight, str mul, str acc) -> Tensor")


@lru_cache(maxsize=256)
def _parsed(mul: str, acc: str) -> tuple[FloatMultiplier, Accumulator | None]:
    made = any_multiplier(mul)
    if not isinstance(made, FloatMultiplier):
        raise DovetailError(f"mul={mul} multiplies codes; the nearest is '{made.name}(format=...)'")
    return made, accumulator(acc) if acc else None


def _mac(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    mul: str,
    acc: str,
) -> Tensor:
    geometry = conv_geometry(stride, padding, dilation, groups)
    return owned(kernels.emulate(x, weight, bias, *_parsed(mul, acc), geometry))


def _matmul(x: Tensor, weight: Tensor, mul: str, acc: str) -> Tensor:
    return owned(kernels.matmul(x, weight, *_parsed(mul, acc)))


def _mac_fake(x: Tensor, weight: Tensor, _bias: Any, *window: Any) -> Tensor:
    shape = conv_geometry(*window[:4]).out_shape(x.shape, weight.shape)
    return x.new_empty(shape, dtype=torch.float32)


def _matmul_fake(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    batch = torch.broadcast_shapes(x.shape[:-2], weight.shape[:-2])
    return x.new_empty(*batch, x.shape[-2], weight.shape[-1], dtype=torch.float32)


for _name, _impl, _fake in (
    ("float_mac", _mac, _mac_fake),
    ("float_matmul", _matmul, _matmul_fake),
):
    _library.impl(_name, _impl, "CompositeExplicitAutograd")
    register_fake(f"dovetail::{_name}", _fake, lib=_library)
    register_vmap(f"dovetail::{_name}", one_by_one(_name), lib=_library)

float_mac = torch.ops.dovetail.float_mac
float_matmul = torch.ops.dovetail.float_matmul
