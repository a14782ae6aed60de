"""Codes of any width in bytes without gaps: one rule for all widths.

Code ``i`` of ``w`` bits takes the bits ``i * w`` to ``(i + 1) * w - 1`` of the stream, its lowest
bit first, and bit ``j`` of the stream is bit ``j % 8`` of byte ``j // 8``. So a byte holds two
4-bit codes, the earlier one in the low nibble (as in ONNX and torch's ``float4_e2m1fn_x2``), three
bytes hold four 6-bit codes, and 16-bit codes are little endian. Bits behind the last code are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

import torch
from torch import Tensor

__all__ = ["code_dtype", "pack", "packed_size", "unpack"]

_CHUNK = 1 << 16  # groups at a time: what is worked on stays in the cache


def code_dtype(width: int) -> torch.dtype:
    """The dtype that unpacked codes of ``width`` bits have: uint8, int32 (to 16 bits) or int64.

    >>> code_dtype(4), code_dtype(12), code_dtype(24)
    (torch.uint8, torch.int32, torch.int64)
    """
    return torch.uint8 if width <= 8 else torch.int32 if width <= 16 else torch.int64


def packed_size(count: int, width: int) -> int:
    """How many bytes ``count`` codes of ``width`` bits take.

    >>> packed_size(5, 4), packed_size(5, 6), packed_size(0, 6)
    (3, 4, 0)
    """
    return -(-count * width // 8)


def pack(codes: Tensor, width: int) -> Tensor:
    """The bytes of ``codes`` (any shape, taken in row-major order), as a flat uint8 tensor.

    ``codes`` are integers whose low ``width`` bits (1 to 64) count and whose others are zero; the
    dtype is at least as wide as `code_dtype` says.

    >>> [hex(byte) for byte in pack(torch.tensor([0x1, 0x2, 0x3]), 4).tolist()]
    ['0x21', '0x3']
    >>> [bin(byte) for byte in pack(torch.tensor([0b111111, 0, 0b000001, 0]), 6).tolist()]
    ['0b111111', '0b10000', '0b0']
    """
    flat = codes.reshape(-1)
    size = packed_size(flat.numel(), width)
    if width == 8:
        return flat.to(torch.uint8, copy=True)
    if codes.dtype == torch.uint8 and width > 8:
        flat = flat.to(code_dtype(width))
    per_group, group_bytes = _group(width)
    groups = -(-flat.numel() // per_group)
    out = torch.empty((groups, group_bytes), dtype=torch.uint8, device=flat.device)
    for start, stop in _chunks(groups):
        part = flat[start * per_group : stop * per_group]
        missing = (stop - start) * per_group - part.numel()
        if missing:
            part = torch.cat([part, part.new_zeros(missing)])
        part = part.view(-1, per_group)
        for j in range(group_bytes):
            byte: Tensor | None = None
            for k in range(8 * j // width, -(-(8 * j + 8) // width)):
                bits = _moved(part[:, k], k * width - 8 * j)
                byte = bits if byte is None else byte | bits
            assert byte is not None
            out[start:stop, j] = byte & 0xFF
    return out.view(-1)[:size]


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """The first ``count`` codes in ``packed`` (flat, uint8), flat, in `code_dtype`.

    >>> unpack(torch.tensor([0x21, 0x03], dtype=torch.uint8), 4, 3)
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    dtype = code_dtype(width)
    if width == 8:
        return packed[:count].clone()
    per_group, group_bytes = _group(width)
    groups = -(-count // per_group)
    out = torch.empty((groups, per_group), dtype=dtype, device=packed.device)
    for start, stop in _chunks(groups):
        part = packed[start * group_bytes : stop * group_bytes]
        missing = (stop - start) * group_bytes - part.numel()
        if missing:
            part = torch.cat([part, part.new_zeros(missing)])
        part = part.view(-1, group_bytes).to(dtype)
        for k in range(per_group):
            code: Tensor | None = None
            for j in range(k * width // 8, -(-(k + 1) * width // 8)):
                bits = _moved(part[:, j], 8 * j - k * width)
                code = bits if code is None else code | bits
            assert code is not None
            out[start:stop, k] = code if width == 64 else code & ((1 << width) - 1)
    return out.view(-1)[:count]


def _group(width: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and those bytes."""
    common = gcd(width, 8)
    return 8 // common, width // common


def _chunks(groups: int) -> Iterator[tuple[int, int]]:
    return ((i, min(i + _CHUNK, groups)) for i in range(0, groups, _CHUNK))


def _moved(bits: Tensor, by: int) -> Tensor:
    """``bits`` shifted left by ``by``, or right by ``-by``; what leaves the dtype is dropped."""
    return bits << by if by >= 0 else bits >> -by
