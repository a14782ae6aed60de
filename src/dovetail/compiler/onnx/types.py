"""ONNX tensors and element types as torch has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail._optional import optional
from dovetail.errors import DovetailError

__all__ = ["FLOATS", "NARROW", "dtype_of", "element_type", "from_array", "limits", "type_name"]

#: Of the types that torch computes with.
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})

_DTYPES = {
    "FLOAT": torch.float32,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "UINT16": torch.uint16,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "BOOL": torch.bool,
    "FLOAT16": torch.float16,
    "DOUBLE": torch.float64,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "COMPLEX64": torch.complex64,
    "COMPLEX128": torch.complex128,
    "BFLOAT16": torch.bfloat16,
    "FLOAT8E4M3FN": torch.float8_e4m3fn,
    "FLOAT8E4M3FNUZ": torch.float8_e4m3fnuz,
    "FLOAT8E5M2": torch.float8_e5m2,
    "FLOAT8E5M2FNUZ": torch.float8_e5m2fnuz,
    "FLOAT8E8M0": torch.float8_e8m0fnu,
}
_ELEMENTS = {dtype: name for name, dtype in _DTYPES.items()}
#: Types below a byte, held by value in the next type that torch computes with, and their range.
NARROW: dict[str, tuple[torch.dtype, int, int]] = {
    "INT4": (torch.int8, -8, 7),
    "UINT4": (torch.uint8, 0, 15),
    "INT2": (torch.int8, -2, 1),
    "UINT2": (torch.uint8, 0, 3),
    "FLOAT4E2M1": (torch.float32, -6, 6),
}


def type_name(number: int) -> str:
    """The name of an ONNX element type.

    >>> type_name(1)
    'FLOAT'
    """
    name: str = optional("onnx", extra="onnx").TensorProto.DataType.Name(number)
    return name


def dtype_of(number: int) -> torch.dtype:
    """The torch type that holds ONNX's element type ``number``.

    >>> dtype_of(7), dtype_of(22)
    (torch.int64, torch.int8)
    >>> dtype_of(8)
    Traceback (most recent call last):
    dovetail.errors.DovetailError: element type STRING has no torch counterpart; ...
    """
    name = type_name(number)
    if name in NARROW:
        return NARROW[name][0]
    if name not in _DTYPES:
        raise DovetailError(
            f"element type {name} has no torch counterpart; supported are "
            f"{', '.join([*_DTYPES, *NARROW])}"
        )
    return _DTYPES[name]


def element_type(dtype: torch.dtype) -> int:
    """The number of the ONNX element type that a torch type is.

    >>> element_type(torch.float32), element_type(torch.int8)
    (1, 3)
    """
    number: int = optional("onnx", extra="onnx").TensorProto.DataType.Value(_ELEMENTS[dtype])
    return number


def limits(number: int) -> tuple[int, int] | None:
    """The least and greatest value of an integer element type, ``None`` for any other.

    >>> limits(3), limits(22), limits(1)
    ((-128, 127), (-8, 7), None)
    """
    name, dtype = type_name(number), dtype_of(number)
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        return None
    if name in NARROW:
        return NARROW[name][1:]
    facts = torch.iinfo(dtype)
    return int(facts.min), int(facts.max)


def from_array(array: np.ndarray[Any, Any], number: int) -> Tensor:
    """An ONNX tensor's values in the torch type of its element type: a copy of its own.

    >>> from_array(np.array([1, -8]), 22)
    tensor([ 1, -8], dtype=torch.int8)
    """
    dtype = dtype_of(number)
    if dtype == torch.bfloat16 or (dtype.is_floating_point and dtype.itemsize == 1):
        bits: Any = np.int16 if dtype.itemsize == 2 else np.uint8
        return torch.from_numpy(np.array(array).view(bits)).view(dtype)
    native: Any = torch.empty(0, dtype=dtype).numpy().dtype
    return torch.from_numpy(np.array(array).astype(native))
