"""What the approximations mean: one number after another, in Python's floats.

Every step is one operation of float64, its result rounded by :func:`round_value` to the format that
intermediate results have. The torch forms are tested equal to this, bit for bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from dovetail.approximations.base import Approximation, Unary
from dovetail.approximations.functions import function
from dovetail.approximations.integer import IBert
from dovetail.approximations.newton import IntegerRoot, Newton
from dovetail.approximations.norm import Norm
from dovetail.approximations.pieces import Pieces
from dovetail.approximations.piecewise import Piecewise
from dovetail.approximations.reductions import Direct, Exponential, Gate, Mantissa, Turn
from dovetail.approximations.softmax import Softmax
from dovetail.formats import ElementFormat, Format
from dovetail.formats.reference import round_value

__all__ = ["evaluate", "norm_row", "softmax_row"]

Rounding = Callable[[float], float]


def evaluate(approximation: Unary, name: str, x: float) -> float:
    """One value of a function of one variable.

    >>> from dovetail.approximations.registry import approximation
    >>> evaluate(approximation("base2(fp16)"), "exp", 0.0)
    0.95703125
    """
    if math.isnan(x):
        return math.nan
    if isinstance(approximation, Piecewise):
        return _piecewise(approximation, name, x)
    if isinstance(approximation, Newton):
        return _newton(approximation, name == "reciprocal", x)
    if isinstance(approximation, IntegerRoot):
        return _integer_root(approximation, x)
    assert isinstance(approximation, IBert)
    return _i_exp(approximation, x) if name == "exp" else _i_gelu(approximation, x)


def softmax_row(
    approximation: Softmax, row: list[float], lowest: float, logarithms: bool = False
) -> list[float]:
    """The weights of one row of scores, or their logarithms; ``lowest`` is the dtype's lowest
    finite number."""
    r, r_acc = _to(approximation.format), _to(approximation.acc or approximation.format)
    if any(math.isnan(x) or x == math.inf for x in row) or max(row) == -math.inf:
        return [math.nan] * len(row)
    largest = max(row)
    shift = largest if approximation.largest == "subtract" else 0.0
    weights, differences = [], []
    for x in row:
        z = r(x - shift)
        z = z if approximation.clamp is None else max(z, approximation.clamp)
        hidden = x == -math.inf or x <= lowest / 2 < largest
        weights.append(0.0 if hidden else _part(approximation.exp, "exp", z, r))
        differences.append(x if hidden else z)
    total = _sum(weights, r_acc)
    if logarithms:
        down = r(math.log(total) if total > 0 else -math.inf)
        return [r(z - down) for z in differences]
    if approximation.reciprocal is None:
        return [r(_quotient(e, total)) for e in weights]
    inverse = _part(approximation.reciprocal, "reciprocal", total, r)
    return [r(e * inverse) for e in weights]


def norm_row(approximation: Norm, row: list[float], eps: float, layer: bool) -> list[float]:
    """One row, normalised; a weight and a bias come after it."""
    r, r_acc = _to(approximation.format), _to(approximation.acc or approximation.format)

    def mean(values: list[float]) -> float:
        return r(_sum(values, r_acc) / len(values))

    x = [r(v * approximation.scale) for v in row]
    middle = mean(x) if layer else 0.0
    d = [r(v - middle) for v in x] if layer else x
    if layer and approximation.variance == "moments":
        moments = r(mean([r(v * v) for v in x]) - r(middle * middle))
        variance = 0.0 if moments < 0 else moments
    else:
        variance = mean([r(v * v) for v in d])
    total = r(variance + eps * approximation.scale**2)
    root = _part(approximation.rsqrt, "rsqrt", total, r)
    return [r(v * root) for v in d]


def _to(fmt: Format | None) -> Rounding:
    if fmt is None:
        return float
    assert isinstance(fmt, ElementFormat)
    element = fmt
    return lambda x: round_value(x, element)


def _part(part: Approximation | None, name: str, x: float, r: Rounding) -> float:
    if part is None:
        return r(_exact(name, x))
    assert isinstance(part, Unary)
    return r(evaluate(part, name, x))


def _exact(name: str, x: float) -> float:
    if math.isnan(x):
        return math.nan
    if name == "exp":
        return 0.0 if x == -math.inf else math.exp(x)
    if name == "reciprocal":
        return _quotient(1.0, x)
    return _quotient(1.0, math.sqrt(x)) if x >= 0 else math.nan


def _quotient(a: float, b: float) -> float:
    """As IEEE 754 divides: by zero, too."""
    if b == 0 or math.isnan(a) or math.isnan(b):
        same = math.isnan(a) or math.isnan(b) or a == 0
        return math.nan if same else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _sum(values: list[float], r: Rounding) -> float:
    while len(values) > 1:
        pairs = [r(a + b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2 :]
    return values[0]


def _polynomial(pieces: Pieces, t: float, r: Rounding) -> float:
    place = max([0, *(i for i, start in enumerate(pieces.starts) if start <= t)])
    *others, y = pieces.coefficients[place]
    if not others:
        return y
    d = r(t - pieces.starts[place])
    for c in reversed(others):
        y = r(r(y * d) + c)
    return y


def _piecewise(approximation: Piecewise, name: str, x: float) -> float:
    known = function(name)
    how, r = approximation.reduction(known), _to(approximation.steps_format)

    def core(t: float) -> float:
        return _polynomial(approximation.pieces(known), r(t), r)

    if isinstance(how, Direct):
        if x < how.low:
            return how.left
        if x > how.high:
            return r(x) if isinstance(how.right, str) else how.right
        return core(x)
    if isinstance(how, Gate):
        return _gate(how, core, x, r)
    if isinstance(how, Exponential):
        turned = min(max(x * math.log2(math.e), -2100.0), 2100.0)
        k = math.floor(turned)
        return r(_shifted(core(turned - k), k))
    if isinstance(how, Mantissa):
        return _mantissa(how, core, x, r)
    assert isinstance(how, Turn)
    if math.isinf(x):
        return math.nan
    quarters = x * (2 / math.pi)
    whole = math.floor(quarters)
    part, quarter = quarters - whole, (whole + how.quarters) % 4
    y = core(1.0 - part if quarter % 2 else part)
    return -y if quarter >= 2 else y


def _gate(how: Gate, core: Rounding, x: float, r: Rounding) -> float:
    gate = 1.0 if abs(x) > how.cut else core(abs(x))
    if x < 0:
        gate = -gate if how.odd else r(1.0 - gate)
    if not how.times_x:
        return gate
    return 0.0 if x < -how.cut else r(x * gate)


def _mantissa(how: Mantissa, core: Rounding, x: float, r: Rounding) -> float:
    if x == 0 or math.isinf(x) or (how.root == 2 and x < 0):
        root = x if how.root == 1 or x == 0 else math.sqrt(x) if x > 0 else math.nan
        return _quotient(1.0, root)
    k = math.floor((math.frexp(abs(x))[1] - 1) / how.root)
    y = _shifted(core(_shifted(abs(x), -how.root * k)), -k)
    return r(math.copysign(y, x))


def _shifted(x: float, k: int) -> float:
    try:
        return math.ldexp(x, k)
    except OverflowError:
        return math.copysign(math.inf, x)


#: struct's letters of the float and of its pattern, the constants for 1/x and 1/sqrt(x).
_MAGIC = {"fp32": ("f", "I", 0x7EF311C7, 0x5F3759DF), "fp16": ("e", "H", 0x77A8, 0x59BE)}


def _newton(approximation: Newton, reciprocal: bool, x: float) -> float:
    r = _to(approximation.format)
    x = r(x)
    if x == 0 or math.isinf(x) or (x < 0 and not reciprocal):
        root = x if reciprocal or x == 0 else math.sqrt(x) if x > 0 else math.nan
        return _quotient(1.0, root)
    size, is_bf16 = abs(x), str(approximation.format) == "bf16"
    letters = ("f", "I", 0x7EF3, 0x5F37) if is_bf16 else _MAGIC[str(approximation.format)]
    real, whole, of_reciprocal, of_root = letters
    pattern = struct.unpack(whole, struct.pack(real, size))[0] >> (16 if is_bf16 else 0)
    guess = max(of_reciprocal - pattern if reciprocal else of_root - (pattern >> 1), 0)
    y: float = struct.unpack(real, struct.pack(whole, guess << (16 if is_bf16 else 0)))[0]
    half = r(size * 0.5)
    for _ in range(approximation.steps):
        correction = 2.0 - r(size * y) if reciprocal else 1.5 - r(r(half * y) * y)
        y = r(y * r(correction))
    return -y if x < 0 else y


def _integer_root(approximation: IntegerRoot, x: float) -> float:
    if x == math.inf:
        return 0.0
    if x < 0:
        return math.nan
    whole = min(math.floor(x * 4.0**approximation.fraction), 2**52 - 1)
    return _to(approximation.format)(_quotient(2.0**approximation.fraction, math.isqrt(whole)))


def _code(approximation: IBert, x: float) -> int:
    return round(min(max(x, -(2.0**20)), 2.0**20) * 2.0**approximation.fraction)


def _i_gelu(approximation: IBert, x: float) -> float:
    if x == math.inf:
        return x
    scale = 2.0**-approximation.fraction
    q, inner = _code(approximation, x), scale / math.sqrt(2)
    unit = -0.2888 * inner * inner
    b, c = math.floor(-1.769 / inner), math.floor(1.0 / unit)
    erf = (min(abs(q), -b) + b) ** 2 + c
    erf = erf if q > 0 else -erf if q < 0 else 0
    return (0.0 - q * (erf + math.floor(1 / unit))) * (scale * -unit / 2)


def _i_exp(approximation: IBert, x: float) -> float:
    if x == math.inf:
        return x
    scale = 2.0**-approximation.fraction
    q, period, unit = _code(approximation, x), math.floor(math.log(2) / scale), 0.3585 * scale**2
    b, c = math.floor(1.353 / scale), math.floor(0.344 / unit)
    z = (-q) // period
    left = (q + z * period + b) ** 2 + c
    return float(left >> z) * unit if z > 0 else _shifted(left, -z) * unit
