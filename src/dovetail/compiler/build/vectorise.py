"""Loops that the generator marks as parallel say so to the C++ compiler.

DaCe writes maps as plain loops. Those over the parameter ``v`` are, by how groups are emitted, over
independent elements: one of them that threads share becomes a SIMD loop, any other is told to have
no dependence between its iterations. Masks are read and written as bytes: of a ``bool`` in memory
g++ makes no vectors.
"""

from __future__ import annotations

import re

__all__ = ["vectorised"]

_LOOP = re.compile(r"^(\s*)for \((?:auto|int|long long|int64_t|dace::int64) v = ", re.MULTILINE)
_PARALLEL = re.compile(r"#pragma omp parallel for\n(\s*)#pragma GCC ivdep\n", re.MULTILINE)
_MASKS = re.compile(r"\bbool ?\* ?(?:__restrict__ )?(\w+)")
_READ = re.compile(r"^(\s*bool \w+ = )(\w+)(\[.*\]);$", re.MULTILINE)
_WRITTEN = re.compile(r"^(\s*)(\w+)(\[.*\] = \w+;)$", re.MULTILINE)


def vectorised(code: str) -> str:
    """``code`` with a pragma before each loop over ``v``, and with masks as bytes.

    >>> print(vectorised("for (int v = 0; v < 8; v += 1) {"))
    #pragma GCC ivdep
    for (int v = 0; v < 8; v += 1) {
    """
    marked = _LOOP.sub(lambda m: f"{m[1]}#pragma GCC ivdep\n{m[0]}", code)
    shared = _PARALLEL.sub(lambda m: f"#pragma omp parallel for simd\n{m[1]}", marked)
    return _bytes(shared)


def _bytes(code: str) -> str:
    masks = set(_MASKS.findall(code))

    def read(m: re.Match[str]) -> str:
        return f"{m[1]}((const uint8_t *){m[2]}){m[3]} != 0;" if m[2] in masks else m[0]

    def written(m: re.Match[str]) -> str:
        return f"{m[1]}((uint8_t *){m[2]}){m[3]}" if m[2] in masks else m[0]

    return _WRITTEN.sub(written, _READ.sub(read, code))
