"""Native casts to block formats against the pure-torch form, bit for bit, at every level."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import dovetail as dv
from dovetail.formats import reference
from dovetail.formats.base import Format
from dovetail.formats.block import SCALE_MODES, BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.realise import in_torch
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.tables import NF4, TableFormat
from dovetail.kernels import native
from dovetail.kernels.native_casts import cast_into, supports
from native_cast_values import DTYPES, E2M1, E4M3, MODES, UNSIGNED, blocks, check, same

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


@pytest.fixture(autouse=True)
def restore():
    threads = torch.get_num_threads()
    yield
    native.set_isa(None)
    torch.set_num_threads(threads)


def _block_formats() -> list[Format]:
    found: list[Format] = []
    for i, mode in enumerate(MODES):
        scaling = SCALE_MODES[i % 4], SCALE_MODES[(i + 1) % 4]
        found += [
            BlockFloat(8, 64, rounding=mode),
            BlockFloat(4, 16, symmetric=False, rounding=mode),
            BlockFloat(24, 7, rounding=mode),
            MXFormat(replace(E4M3, rounding=mode), 32, scaling[0]),
            MXFormat(replace(E2M1, rounding=mode), 32, scaling[1]),
            MXFormat(FixedFormat(8, 6, symmetric=True, rounding=mode), 32, scaling[1]),
            MXFormat(FixedFormat(8, 6, rounding=mode), 5, scaling[0]),
            NVFP4(16, rounding=mode),
            ScaledBlock(FixedFormat(4, 0, symmetric=True, rounding=mode), UNSIGNED, 16),
        ]
    nearest = [
        MXFormat(element, 8, mode)
        for mode in SCALE_MODES
        for element in (FloatFormat(5, 2), FixedFormat(30, 28), FixedFormat(4, 2))
    ]
    book = ScaledBlock(TableFormat(NF4), FloatFormat(8, 23), 64)
    return [*found, *nearest, book, BlockFloat(2, 33)]


@pytest.mark.parametrize(
    "count", [pytest.param(24, id="few"), pytest.param(60, id="many", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks(dtype, axis, count):
    x = blocks(dtype, count)
    for fmt in _block_formats():
        if dtype == torch.float64 and not isinstance(fmt, (BlockFloat, MXFormat)):
            assert not supports(fmt, dtype)
            continue
        check(x, fmt, axis)


def test_blocks_longer_than_a_chunk():
    x = blocks(torch.float32).flatten()[:9000]
    x = x.nan_to_num(0.0, 1.0, 1.0)
    for shape in ((9000,), (2, 4500), (9000, 1), (3000, 3), (1, 2250, 4)):
        for fmt in (BlockFloat(8, 2500), MXFormat(E4M3, 4000), NVFP4(3000)):
            for axis in range(len(shape)):
                check(x.view(shape), fmt, axis)


def test_elements_without_mantissa_in_blocks():
    """The parity of an exponent code is that of the scaled element: against the definition."""
    x = blocks(torch.float32)[1:6].contiguous()
    for mode in MODES[:6]:
        fmt = MXFormat(FloatFormat(3, 0, specials="finite", rounding=mode), 8, "EVEN")
        expected = reference.round_values(x, fmt)
        for level in native.levels():
            native.set_isa(level)
            assert same(cast_into(x, fmt), expected)


def test_tiny_tensors_in_nvfp4():
    x = torch.tensor([-9.1835e-41, 0.0, 1e-36])
    fmt = dv.format("nvfp4")
    for values in (x, x[:1], x[:2]):
        native_cast, portable = cast_into(values, fmt), in_torch(values, fmt)
        assert torch.equal(native_cast.view(torch.int32), portable.view(torch.int32))
