"""Elementwise operators: an expression each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy
import torch

from dovetail.compiler.groups.layout import Layout
from dovetail.compiler.ops.builder import Builder, Value
from dovetail.compiler.ops.scalars import is_computed
from dovetail.compiler.ops.table import LOWERINGS, lowers

__all__ = ["like_result"]

#: Operators whose result has the type that their operands are computed in.
ARITHMETIC = {
    "mul.Tensor": "({0} * {1})",
    "mul.Scalar": "({0} * {1})",
    "div.Tensor": "({0} / {1})",
    "div.Scalar": "({0} / {1})",
    "neg.default": "(-{0})",
    "relu.default": "dv_relu({0})",
    "abs.default": "dv_abs({0})",
    "sign.default": "dv_sign({0})",
    "minimum.default": "dv_min({0}, {1})",
    "maximum.default": "dv_max({0}, {1})",
    "clamp_min.default": "dv_max({0}, {1})",
    "clamp_max.default": "dv_min({0}, {1})",
    "clamp_min.Tensor": "dv_max({0}, {1})",
    "clamp_max.Tensor": "dv_min({0}, {1})",
    "square.default": "({0} * {0})",
    "reciprocal.default": "(1 / {0})",
    "floor.default": "dv_floor({0})",
    "ceil.default": "dv_ceil({0})",
    "round.default": "dv_round({0})",
    "trunc.default": "dv_trunc({0})",
    "fmod.Scalar": "dv_fmod({0}, {1})",
    "fmod.Tensor": "dv_fmod({0}, {1})",
    "remainder.Scalar": "dv_remainder({0}, {1})",
    "remainder.Tensor": "dv_remainder({0}, {1})",
    "bitwise_not.default": "dv_not({0})",
    "bitwise_and.Tensor": "({0} & {1})",
    "bitwise_or.Tensor": "({0} | {1})",
    "bitwise_xor.Tensor": "({0} ^ {1})",
    "bitwise_and.Scalar": "({0} & {1})",
    "bitwise_or.Scalar": "({0} | {1})",
    "bitwise_left_shift.Tensor_Scalar": "({0} << {1})",
    "bitwise_right_shift.Tensor_Scalar": "({0} >> {1})",
    "bitwise_left_shift.Tensor": "({0} << {1})",
    "bitwise_left_shift.Scalar_Tensor": "({0} << {1})",
    "bitwise_right_shift.Scalar_Tensor": "({0} >> {1})",
    "bitwise_right_shift.Tensor": "({0} >> {1})",
    "__lshift__.Scalar": "({0} << {1})",
    "__rshift__.Scalar": "({0} >> {1})",
}

#: Functions of a floating-point number, each some tens of operations.
FUNCTIONS = """
    exp expm1 log log1p log2 log10 sqrt rsqrt sin cos tan asin acos atan sinh cosh asinh acosh
    atanh tanh sigmoid erf erfc
"""

#: Those so cheap that computing them twice is better than keeping them.
_CHEAP = ("sqrt", "rsqrt")

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

LOGIC = {
    "logical_and.default": "({0} and {1})",
    "logical_or.default": "({0} or {1})",
    "logical_xor.default": "({0} != {1})",
    "logical_not.default": "(not {0})",
}

TESTS = {
    "isnan.default": "dv_isnan({0})",
    "isinf.default": "dv_isinf({0})",
    "isfinite.default": "dv_isfinite({0})",
}


def like_result(b: Builder) -> Layout:
    """The layout that torch gives the node's result: dense, in the order of its strides."""
    wanted = Layout(b.result.shape, b.result.strides)
    return wanted if wanted.is_dense else Layout.dense(wanted.shape)


def apply(
    b: Builder,
    code: str,
    operands: list[Any],
    computed: torch.dtype | list[torch.dtype] | None = None,
    **cost: Any,
) -> Value:
    """``code`` over broadcast operands, its result as the node's."""
    dtype = b.result.dtype
    shape = tuple(b.result.shape)
    return b.elementwise(code, operands, shape, dtype, computed, layout=like_result(b), **cost)


def promoted(x: Any, y: Any) -> torch.dtype:
    """The type in which torch compares ``x`` and ``y``, where numbers give way to tensors."""
    return torch.result_type(_example(x), _example(y))


def _example(operand: Any) -> Any:
    if isinstance(operand, (bool, int, float)):
        return operand
    if isinstance(operand, sympy.Expr):
        return 1 if operand.is_integer else 1.0
    return torch.empty((0,) * min(len(operand.shape), 1), dtype=operand.dtype)


def _arithmetic(code: str) -> Callable[..., Value]:
    return lambda b, *operands: apply(b, code, list(operands))


def _function(name: str) -> Callable[..., Value]:
    dear = name not in _CHEAP
    return lambda b, x: apply(b, f"dv_{name}({{0}})", [x], flops=10 if dear else 1, dear=dear)


def _comparison(sign: str) -> Callable[..., Value]:
    def lower(b: Builder, x: Any, y: Any) -> Value:
        return apply(b, f"({{0}} {sign} {{1}})", [x, y], promoted(x, y))

    return lower


def _test(code: str) -> Callable[..., Value]:
    return lambda b, x: apply(b, code, [x], x.dtype)


for _key, _code in ARITHMETIC.items():
    LOWERINGS[f"aten.{_key}"] = _arithmetic(_code)
for _name in FUNCTIONS.split():
    LOWERINGS[f"aten.{_name}.default"] = _function(_name)
for _name, _sign in COMPARISONS.items():
    LOWERINGS[f"aten.{_name}.Tensor"] = _comparison(_sign)
    LOWERINGS[f"aten.{_name}.Scalar"] = _comparison(_sign)
for _key, _code in LOGIC.items():
    LOWERINGS[f"aten.{_key}"] = _arithmetic(_code)
for _key, _code in TESTS.items():
    LOWERINGS[f"aten.{_key}"] = _test(_code)


@lowers("add.Tensor", "add.Scalar")
def add(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Value:
    """x + alpha y."""
    return apply(b, "({0} + {1})" if alpha == 1 else "({0} + {2} * {1})", [x, y, alpha])


@lowers("sub.Tensor", "sub.Scalar")
def sub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Value:
    """x - alpha y."""
    return apply(b, "({0} - {1})" if alpha == 1 else "({0} - {2} * {1})", [x, y, alpha])


@lowers("rsub.Scalar", "rsub.Tensor")
def rsub(b: Builder, x: Any, y: Any, alpha: Any = 1) -> Value:
    """y - alpha x."""
    return apply(b, "({1} - {0})" if alpha == 1 else "({1} - {2} * {0})", [x, y, alpha])


@lowers("div.Tensor_mode", "div.Scalar_mode")
def div_mode(b: Builder, x: Any, y: Any, rounding_mode: str | None = None) -> Value:
    """x / y, rounded."""
    if b.result.dtype.is_floating_point:
        code = {None: "({0} / {1})", "floor": "dv_floor_div({0}, {1})"}
        return apply(b, code.get(rounding_mode, "dv_trunc({0} / {1})"), [x, y])
    code = {"floor": "dv_floor_div({0}, {1})", "trunc": "({0} / {1})"}
    return apply(b, code[str(rounding_mode)], [x, y])


_POWERS = {2: "({0} * {0})", 3: "({0} * {0} * {0})", 1: "{0}", 0.5: "dv_sqrt({0})"}


@lowers("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def power(b: Builder, x: Any, y: Any) -> Value:
    """x to the power of y."""
    if isinstance(y, (int, float)) and y in _POWERS:
        return apply(b, _POWERS[y], [x])
    return apply(b, "dv_pow({0}, {1})", [x, y], flops=20, dear=True)


@lowers("clamp.default", "clamp.Tensor", "hardtanh.default")
def clamp(b: Builder, x: Any, low: Any = None, high: Any = None) -> Value:
    """x between low and high; NaN stays."""
    code, operands = "{0}", [x]
    for bound, name in ((low, "dv_max"), (high, "dv_min")):
        if bound is not None:
            code = f"{name}({code}, {{{len(operands)}}})"
            operands.append(bound)
    return apply(b, code, operands)


@lowers("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def where(b: Builder, condition: Any, x: Any, y: Any) -> Value:
    """x where the condition holds, else y."""
    dtype = b.result.dtype
    return apply(b, "({1} if {0} else {2})", [condition, x, y], [torch.bool, dtype, dtype])


@lowers("_to_copy.default", any_type=True)
def to_copy(b: Builder, x: Any, **_: Any) -> Value:
    """x as another type; where only memory would change it is copied."""
    if x.dtype == b.result.dtype:
        return b.copied(x, like_result(b))
    if not (is_computed(x.dtype) and is_computed(b.result.dtype)):
        return b.cast(x, b.result.dtype)
    return apply(b, "{0}", [x])


@lowers("prims.convert_element_type.default", "prims.device_put.default", any_type=True)
def convert(b: Builder, x: Any, *_: Any) -> Value:
    """x as another type."""
    return b.cast(x, b.result.dtype)


_BITS = {
    (torch.float32, torch.int32): "dv_bits({0})",
    (torch.int32, torch.float32): "dv_of_bits({0})",
    (torch.float64, torch.int64): "dv_long_bits({0})",
    (torch.int64, torch.float64): "dv_of_long_bits({0})",
}


@lowers("view.dtype", any_type=True)
def view_dtype(b: Builder, x: Any, dtype: torch.dtype) -> Value:
    """The same bits as another type: in a loop where a group may use it, else by a call."""
    if x.dtype == dtype:
        return x  # type: ignore[no-any-return]
    if (x.dtype, dtype) in _BITS:
        return apply(b, _BITS[x.dtype, dtype], [x], x.dtype)
    made = b.former.allocate(Layout.dense(b.result.shape), dtype)
    b.former.call("aten.view_copy.dtype", [b.tensor(x)], [made], dtype=dtype)
    return made
