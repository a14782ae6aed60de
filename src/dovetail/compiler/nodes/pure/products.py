"""Products of matrices, one multiplication and one addition at a time."""

from __future__ import annotations

from typing import Any

from dovetail.compiler.nodes.aten.schema import arguments
from dovetail.compiler.nodes.pure.body import Body, Tensor

__all__ = ["products"]


def products(body: Body) -> None:
    """``mm``, ``bmm``, ``addmm`` and ``baddbmm``."""
    scalars = [value for kind, value in arguments(body.call) if kind == "number"]
    added, first, second = [None, *body.inputs] if not scalars else body.inputs
    result: Tensor = body.outputs[0]
    names = ["b", "i", "j"][-len(result.shape) :]
    batch = names[:-2]
    finish, beside = "__y = __sum", {}
    if added is not None:
        beta, alpha = scalars
        finish = f"__y = {beta} * __c + {alpha} * __sum"
        beside = {"__c": added.at(*_broadcast(added, result, names))}
        if beta == 0:  # what is added then does not count, were it NaN
            finish, beside = f"__y = {alpha} * __sum", {}
    body.sums(
        "product",
        dict(zip(names, result.shape, strict=True)),
        {"k": first.shape[-1]},
        {"__a": first.at(*batch, "i", "k"), "__b": second.at(*batch, "k", "j")},
        "__v = __a * __b",
        result.at(*names),
        dtype=body.dtype(result),
        finish=finish,
        beside=beside,
    )


def _broadcast(tensor: Tensor, result: Tensor, names: list[str]) -> list[Any]:
    """Indices into a tensor that is broadcast against the result."""
    last = names[len(names) - len(tensor.shape) :]
    sizes = result.shape[len(names) - len(tensor.shape) :]
    return [
        "0" if own == 1 and size != 1 else name
        for own, size, name in zip(tensor.shape, sizes, last, strict=True)
    ]
