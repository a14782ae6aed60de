"""Loops that the generator marks as parallel say so to the C++ compiler.

DaCe writes maps as plain loops. Those over the parameter ``v`` are, by how groups are emitted, over
independent elements: one of them that threads share becomes a SIMD loop, any other is told to have
no dependence between its iterations.
"""

from __future__ import annotations

import re

__all__ = ["vectorised"]

_LOOP = re.compile(r"^(\s*)for \((?:auto|int|long long|int64_t|dace::int64) v = ", re.MULTILINE)
_PARALLEL = re.compile(r"#pragma omp parallel for\n(\s*)#pragma GCC ivdep\n", re.MULTILINE)


def vectorised(code: str) -> str:
    """``code`` with a pragma before each loop over ``v``.

    >>> print(vectorised("for (int v = 0; v < 8; v += 1) {"))
    #pragma GCC ivdep
    for (int v = 0; v < 8; v += 1) {
    """
    marked = _LOOP.sub(lambda m: f"{m[1]}#pragma GCC ivdep\n{m[0]}", code)
    return _PARALLEL.sub(lambda m: f"#pragma omp parallel for simd\n{m[1]}", marked)
