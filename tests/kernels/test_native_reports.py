"""What native casts say of the values that they left out: masks and counts of the torch form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import dovetail as dv
from dovetail.formats.base import Format
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.realise import Report, inside
from dovetail.kernels import native
from dovetail.kernels.native_casts import cast_into, supports
from native_cast_values import ALL_KINDS, DTYPES, SEED, blocks, numbers, same

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


@pytest.fixture(autouse=True)
def restore():
    threads = torch.get_num_threads()
    yield
    native.set_isa(None)
    torch.set_num_threads(threads)


REPORTED = [*ALL_KINDS, "SBFP12_16", "fp8_e5m2", "float(e=8, m=3, bias=140)", "mxint8"]
REPORTED += ["mxfp8_e4m3(mode=EVEN)", "fixed(8, 2, clamp=False)", "log(4, 3)", "fp4_e2m1fn"]


def _report_in_torch(x: Tensor, fmt: Format, axis: int, clip: bool) -> Report:
    report = Report(clip, count=True)
    report.fill(x, lambda v: inside(v, fmt, axis))
    return report


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reports_are_those_of_the_torch_form(dtype):
    """Mask and counts from the pass that rounds, which itself gives the same bits."""
    x = torch.cat(
        [blocks(dtype)[:9].flatten(), numbers(dtype)[:: 977 if dtype.itemsize > 2 else 7]]
    )
    x = x[: x.numel() // 60 * 60].view(-1, 6, 10)
    for name in REPORTED:
        fmt = dv.format(name)
        if not supports(fmt, dtype):
            continue
        for axis, clip in ((2, True), (0, True), (1, False)):
            expected = _report_in_torch(x, fmt, axis, clip)
            plain = cast_into(x, fmt, axis, SEED)
            for i, level in enumerate(native.levels()):
                native.set_isa(level)
                torch.set_num_threads(1 + i % 2)
                report, place = Report(clip, count=True), x.clone()
                assert same(cast_into(place, fmt, axis, SEED, place, report=report), plain), name
                assert torch.equal(report.inside, expected.inside), (name, level, axis, clip)
                assert torch.equal(report.counts, expected.counts), (name, level, axis, clip)


def test_a_report_lies_as_the_tensor_does():
    x, fmt = blocks(torch.float32)[2:8].mT, dv.format("mxfp4")
    report = Report()
    cast_into(x, fmt, 1, report=report)
    assert torch.equal(report.inside, inside(x, fmt, 1))
    cast_into(x[:0], fmt, 1, report=report)
    assert report.inside.shape == x[:0].shape


def test_bounds_between_two_floats():
    """Limits that no float32 is: bounds of blocks are those of real numbers."""
    x = torch.tensor([[1.0, 0.9999999, -1.0, 0.99999994, 0.25]]) * 2.0**100
    for fmt in (BlockFloat(24, 5), BlockFloat(2, 5), MXFormat(FixedFormat(30, 28), 5)):
        if not supports(fmt):
            continue
        report = Report()
        cast_into(x, fmt, report=report)
        assert torch.equal(report.inside, inside(x, fmt)), fmt
