"""Approximated functions as d-Matrix configurations of every generation spell them.

poly2softmax, base2softmax                         2022
SOFTMAX(poly2,float16), LAYERNORM(quake3,4,float16)   2023: algorithm, number format
SOFTMAX[vsimd]{input_clamp=-100}(max_adjust=0.1)   2025: the algorithms of a closed package
"""

from __future__ import annotations

import re
from typing import Any

from dovetail.errors import DovetailError, unknown

__all__ = ["approximation"]

_FORMATS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int": "fixed(24, 14)",  # 14 fraction bits
}
#: What each algorithm is in dovetail's spelling; ``{f}`` is the number format.
_ALGORITHMS = {
    ("SOFTMAX", "poly2"): "softmax(exp=poly2({f}), format={f})",
    ("SOFTMAX", "base2"): "softmax(exp=base2({f}), format={f})",
    ("SOFTMAX", "base2quake3"): "softmax(exp=base2({f}), reciprocal=newton(1, fp16), format={f})",
    ("GELU", "poly2"): "poly2({f})",
    ("LAYERNORM", "fallback"): "norm(variance=moments, scale={s}, format={f}, acc=fp32)",
    ("LAYERNORM", "legacy"): "norm(format={f}, acc=fp32)",
    ("LAYERNORM", "quake3"): "norm(rsqrt=newton(1, {f}), scale={s}, format={f}, acc=fp32)",
}
_OLDEST = re.compile(r"(poly2|base2quake3|base2)(softmax|gelu)")
_OLD = re.compile(r"(SOFTMAX|GELU|LAYERNORM)\(([^()]*)\)")
_NEW = re.compile(r"([A-Z_]+)\[(\w+)\].*")


def approximation(value: Any) -> str:
    """What ``fn=`` says for one of their spellings; ``NONE`` is ``exact``.

    Only the public algorithms of 2022 and 2023 are known, by their definitions, each computed with
    one rounding a step; those of ``vsimd`` are closed.

    >>> approximation("SOFTMAX(poly2,float16)"), approximation("NONE")
    ('softmax(exp=poly2(fp16), format=fp16)', 'exact')
    >>> approximation("LAYERNORM(quake3,3,float16)")
    'norm(rsqrt=newton(1, fp16), scale=0.125, format=fp16, acc=fp32)'
    """
    text = re.sub(r"\s", "", str(value))
    if text == "NONE":
        return "exact"
    oldest = _OLDEST.fullmatch(text)
    if oldest:
        return _spelled(oldest[2].upper(), oldest[1], "float32", "0")
    new = _NEW.fullmatch(text)
    if new:
        raise DovetailError(
            f"'{value}': the algorithms of {new[2]} are not public; the nearest are "
            f"{', '.join(sorted({f for _, f in _ALGORITHMS}))}, such as 'SOFTMAX(poly2,float16)'"
        )
    old = _OLD.fullmatch(text)
    if old is None:
        raise DovetailError(f"'{value}' is no function; write it as 'SOFTMAX(poly2,float16)'")
    algorithm, *rest = old[2].split(",")
    if algorithm == "vsimd":
        return approximation(f"{old[1]}[vsimd]")
    norm = rest.pop(0) if old[1] == "LAYERNORM" and len(rest) == 2 else "0"
    if len(rest) > 1 or not re.fullmatch(r"-?\d+", norm):
        raise DovetailError(
            f"'{value}': after the algorithm comes the number format, before it in LAYERNORM the "
            f"power of two that inputs are divided by"
        )
    return _spelled(old[1], algorithm, rest[0] if rest else "float32", norm)


def _spelled(function: str, algorithm: str, form: str, norm: str) -> str:
    if (function, algorithm) not in _ALGORITHMS:
        known = [a for f, a in _ALGORITHMS if f == function]
        raise unknown(f"algorithm of {function}", algorithm, known)
    if form not in _FORMATS:
        raise unknown("number format", form, _FORMATS)
    scale = f"{2.0 ** -int(norm):g}"
    return _ALGORITHMS[function, algorithm].format(f=_FORMATS[form], s=scale)
