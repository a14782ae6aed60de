"""What one emulated operation was given, multiplied and gave: the contents of its vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dovetail.accumulators import IntAccumulator
from dovetail.emulation import tap
from dovetail.emulation.planned import PlannedOp
from dovetail.emulation.taps import MacCall, Watched
from dovetail.errors import DovetailError
from dovetail.formats import IntFormat
from dovetail.interchange.golden.sums import code_sums
from dovetail.kernels.library import conv_window

__all__ = ["Vector", "array_of", "vectors_of"]


@dataclass(frozen=True, eq=False)
class Vector:
    """One call of one operation: ``arrays`` by name, and what the manifest tells of it.

    ``images`` are the arrays that also become memory images: width in bits, and whether signed.
    """

    name: str
    arrays: dict[str, Tensor]
    entry: dict[str, Any]
    images: dict[str, tuple[int, bool]]


def vectors_of(model: nn.Module, args: Any, kwargs: Any) -> tuple[list[Vector], Any]:
    """A vector for each planned call of an emulated ``model``, in order, and its output."""
    found: list[Vector] = []

    def watch(op: PlannedOp, call: Watched) -> None:
        found.append(_vector(op, call, len(found)))

    with torch.no_grad(), tap(model, watch):
        output = model(*args, **kwargs)
    return found, output


def _vector(op: PlannedOp, call: Watched, number: int) -> Vector:
    words = "".join(c if c.isalnum() else "_" for c in op.key).strip("_") or "model"
    name = f"{number:03d}_{words}"
    entry: dict[str, Any] = {
        "operation": op.key,
        "kind": op.kind,
        "arithmetic": op.arithmetic.describe(),
        "computed_in": str(call.output.dtype).removeprefix("torch."),
    }
    if isinstance(call, MacCall) and op.arithmetic.multiplies_codes:
        return _product(op, call, name, entry)
    raw = call.output if call.raw is None else call.raw
    arrays = {**call.operands, "raw": raw, "output": call.output}
    return Vector(name, {key: t.detach() for key, t in arrays.items()}, entry, {})


def _product(op: PlannedOp, call: MacCall, name: str, entry: dict[str, Any]) -> Vector:
    arithmetic = op.arithmetic
    _check(op, call)
    first, second = call.coded()
    a, w = first.codes, second.codes
    sums = code_sums(op.kind, a, w, arithmetic, call.geometry, first.zero)
    assert call.raw is not None
    arrays = {
        "input_codes": a,
        "weight_codes": w,
        "sums": sums,
        "input_scale": first.scale,
        "input_zero": first.zeros,
        "weight_scale": second.scale,
        "weight_zero": second.zeros,
        "raw": call.raw,
        "output": call.output,
    }
    bias = call.added
    if bias is not None:
        arrays["bias"] = bias
    if call.geometry.spatial:
        stride, padding, dilation, groups = conv_window(call.geometry)
        entry["window"] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "pad_code": first.zero,
        }
    images = {"input_codes": _width(arithmetic.input), "weight_codes": _width(arithmetic.weight)}
    if not sums.dtype.is_floating_point:
        images["sums"] = (_sum_bits(arithmetic.acc, sums), True)
    kept = {key: tensor.detach() for key, tensor in arrays.items()}
    return Vector(name, kept, entry, images)


def _check(op: PlannedOp, call: MacCall) -> None:
    if op.arithmetic.with_nearest_codes() is not None:
        raise DovetailError(
            f"{op.key}: its codes are drawn at random, so that no testbench finds them again; "
            "give its formats rounding=NearestTiesToEven"
        )
    if "variate" in call.site.transforms:
        raise DovetailError(
            f"{op.key}: its output is corrected by a control variate, which golden vectors do not "
            "hold; export it before dv.control_variate"
        )


def _width(fmt: object) -> tuple[int, bool]:
    assert isinstance(fmt, IntFormat)
    return fmt.bits, fmt.signed


def _sum_bits(acc: object, sums: Tensor) -> int:
    if isinstance(acc, IntAccumulator):
        return acc.bits
    return 32 if sums.dtype == torch.int32 else 64


def array_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as NumPy holds it: bfloat16, which that has not, as the float32 of its values."""
    held = tensor.cpu()
    return (held.float() if held.dtype == torch.bfloat16 else held).numpy()
