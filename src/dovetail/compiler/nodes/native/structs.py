"""The native core's structures as C++: their declarations, and values of them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dovetail.kernels import native
from dovetail.kernels.cast_structs import (
    Blocks,
    Element,
    Integers,
    Octaves,
    Posit,
    ReportStruct,
    Scaled,
    Steps,
    TensorStruct,
)
from dovetail.kernels.native_block import BlockCodes, BlockRule
from dovetail.kernels.native_structs import Input, Multiplier, Output

__all__ = ["array", "declarations", "value"]

_NAMES: dict[type[ctypes.Structure], str] = {
    ReportStruct: "dv_report",
    TensorStruct: "dv_tensor",
    Element: "dv_element",
    Integers: "dv_integers",
    Posit: "dv_posit",
    Octaves: "dv_octaves",
    Steps: "dv_steps",
    Blocks: "dv_blocks",
    Scaled: "dv_scaled",
    native.Shape: "dv_shape",
    Multiplier: "dv_multiplier",
    Input: "dv_input",
    Output: "dv_output",
    BlockRule: "dv_block_format",
    BlockCodes: "dv_block_codes",
}
_WORDS = {
    ctypes.c_int32: "int32_t",
    ctypes.c_int64: "int64_t",
    ctypes.c_uint64: "uint64_t",
    ctypes.c_float: "float",
    ctypes.c_double: "double",
    ctypes.c_void_p: "const void*",
}


def declarations() -> str:
    """Every structure that casts and layers take.

    >>> "struct dv_posit { int32_t mode; int32_t width; int32_t es; };" in declarations()
    True
    """
    return "\n".join(f"struct {name} {{ {_members(kind)} }};" for kind, name in _NAMES.items())


def _members(kind: type[ctypes.Structure]) -> str:
    members = []
    for name, word, *_ in kind._fields_:
        if issubclass(word, ctypes.Array):
            members.append(f"{_word(word._type_)} {name}[{word._length_}];")
        else:
            members.append(f"{_word(word)} {name};")
    return " ".join(members)


def _word(kind: Any) -> str:
    return _WORDS.get(kind, "const void*")


def value(struct: ctypes.Structure, pointers: Mapping[str, str] | None = None) -> str:
    """A variable's initial value; ``pointers`` says what those members point to.

    >>> value(Posit(0, 8, 1))
    'dv_posit{0, 8, 1}'
    """
    known = pointers or {}
    words = []
    for name, kind, *_ in struct._fields_:
        if _word(kind) == "const void*" and not issubclass(kind, ctypes.Array):
            words.append(known.get(name, "nullptr"))
        elif issubclass(kind, ctypes.Array):
            words.append("{" + ", ".join(_number(v) for v in getattr(struct, name)) + "}")
        else:
            words.append(_number(getattr(struct, name)))
    return f"{_NAMES[type(struct)]}{{{', '.join(words)}}}"


def array(name: str, values: np.ndarray[Any, Any]) -> str:
    """The definition of a table of constants.

    >>> array("steps", np.array([1, -2], dtype=np.int32))
    'static const int32_t steps[] = {1, -2};'
    """
    word = {"float32": "float"}.get(values.dtype.name, f"{values.dtype.name}_t")
    return f"static const {word} {name}[] = {{{_listed(values)}}};"


def _listed(values: np.ndarray[Any, Any]) -> str:
    items: Iterable[Any] = values.ravel().tolist()
    return ", ".join(map(_number, items))


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NAN"
    return value.hex() if math.isfinite(value) else ("INFINITY" if value > 0 else "-INFINITY")
