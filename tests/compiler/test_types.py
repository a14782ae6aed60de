"""Element types in compiled code: 16-bit floats to the bit, unsigned integers, and calls."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.compiler.capture import capture
from dovetail.compiler.groups.model import Call
from dovetail.compiler.ops.graph import program_of
from helpers import Of, randn

pytest.importorskip("dace")


def calls(function, *args):
    made = program_of(capture(Of(function), args).forward, "forward")
    return [group.key for group in made.groups if isinstance(group, Call)]


def every_half(dtype):
    return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)


def around(halves):
    """Every value between two neighbours that rounding may take for another one, and themselves."""
    x = halves.float()
    x = x[x.isfinite()].sort().values
    middle = (x[1:].double() + x[:-1].double()).mul(0.5).float()
    up, down = (middle.nextafter(torch.tensor(s * torch.inf)) for s in (1, -1))
    special = torch.tensor(
        [torch.nan, torch.inf, -torch.inf, 65519.9, 65520.0, 3.4e38, 1e-45, -0.0]
    )
    return torch.cat([x, middle, up, down, special])


def computed(half, bfloat, wide, small, u):
    return (
        half.float(),
        bfloat.float(),
        wide.to(torch.float16),
        wide.to(torch.bfloat16),
        half * half + 1,
        (bfloat - 3).exp(),
        half > bfloat,
        half[: len(small)].sum(),
        small.softmax(-1),
        small.mean(0),
        small.var(0),
        u.to(torch.int64) * 3,
        u.to(torch.float64),
        wide[:64].to(torch.float8_e4m3fn).view(torch.uint8),
        wide[:64].view(torch.int16),
        small.unfold(1, 3, 2) * 2,
        small[:, :0].sum(0),
        small[:0].sum(0),
    )


def test_elements_of_every_type_are_those_of_eager():
    half, bfloat = (every_half(t) for t in (torch.float16, torch.bfloat16))
    wide = torch.cat([around(half), around(bfloat)])
    u = torch.tensor([0, 1, 65535, 2**32 - 1], dtype=torch.uint32)
    given = (half, bfloat, wide, randn(5, 7).half(), u)
    with torch.no_grad():
        found = dv.compile(Of(computed), given, backward=False, check=False)(*given)
        for number, (mine, eager) in enumerate(zip(found, computed(*given), strict=True)):
            assert mine.dtype == eager.dtype
            one, two = (torch.where(x.isnan(), 0, x) for x in (mine.double(), eager.double()))
            assert torch.equal(mine.double().isnan(), eager.double().isnan()), number
            torch.testing.assert_close(one, two, rtol=1e-6 if number == 5 else 0, atol=0)


def test_what_generated_code_does_not_compute_is_a_call():
    z = torch.ones(2, 2, dtype=torch.complex64)
    assert calls(lambda z: z * z, z) == ["aten.mul.Tensor"]
    assert calls(lambda x: x.to(torch.float8_e5m2), randn(3)) == ["aten._to_copy.default"]
    assert calls(torch.view_as_real, z) == ["aten.view_as_real_copy.default"]
    assert calls(lambda x: x.t().reshape(-1), torch.ones(2, 3).to(torch.float8_e5m2)) == []


def test_windows_that_overlap_are_a_view():
    assert calls(lambda x: x.unfold(0, 3, 1).sum(-1), randn(9)) == []
