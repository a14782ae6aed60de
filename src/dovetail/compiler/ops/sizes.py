"""Numbers that are known at the call, such as a mean's divisor under a dynamic batch size."""

from __future__ import annotations

from collections.abc import Callable

import sympy

from dovetail.errors import DovetailError

__all__ = ["size_code"]


def size_code(value: sympy.Expr) -> str:
    """``value``, an expression of sizes, in a tasklet: computed in float64.

    Sizes below 2**53 are exact in it, sums, products and floored quotients of them too.

    Raises
    ------
    DovetailError
        For a function of sizes that has no code here.

    >>> size_code(sympy.Symbol("n", integer=True) * 5 + 1)
    '(1.0 + (5.0 * dace.float64(n)))'
    """
    if isinstance(value, sympy.Symbol):
        return f"dace.float64({value.name})"
    if value.is_number:
        return repr(float(value))
    made = _FUNCTIONS.get(type(value).__name__)
    if made is None:
        raise DovetailError(f"{value}, a number made of sizes, has no code: {type(value).__name__}")
    return made(*map(size_code, value.args))


def _chain(sign: str) -> Callable[..., str]:
    return lambda *words: "(" + f" {sign} ".join(words) + ")"


def _folded(function: str) -> Callable[..., str]:
    def made(first: str, *rest: str) -> str:
        for word in rest:
            first = f"{function}({first}, {word})"
        return first

    return made


def _power(base: str, exponent: str) -> str:
    return f"(1.0 / {base})" if exponent == "-1.0" else f"dv_pow({base}, {exponent})"


#: By the names of sympy's and torch.utils._sympy's classes.
_FUNCTIONS: dict[str, Callable[..., str]] = {
    "Add": _chain("+"),
    "Mul": _chain("*"),
    "Pow": _power,
    "PowByNatural": _power,
    "FloatPow": _power,
    "FloatTrueDiv": _chain("/"),
    "IntTrueDiv": _chain("/"),
    "FloorDiv": lambda a, b: f"dv_floor({a} / {b})",
    "CleanDiv": lambda a, b: f"dv_floor({a} / {b})",
    "Mod": lambda a, b: f"dv_remainder({a}, {b})",
    "PythonMod": lambda a, b: f"dv_remainder({a}, {b})",
    "Min": _folded("dv_min"),
    "Max": _folded("dv_max"),
    "ToFloat": lambda a: a,
    "floor": lambda a: f"dv_floor({a})",
    "FloorToInt": lambda a: f"dv_floor({a})",
    "ceiling": lambda a: f"dv_ceil({a})",
    "CeilToInt": lambda a: f"dv_ceil({a})",
    "OpaqueUnaryFn_sqrt": lambda a: f"dv_sqrt({a})",
}
