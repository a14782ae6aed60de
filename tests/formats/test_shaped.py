"""Formats applied to a tensor seen in another shape."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv


@pytest.mark.parametrize(
    ("spelling", "shape"),
    [
        ("shaped(mxfp4(block=4), permute=(0, 2, 1))", lambda x: x.permute(0, 2, 1)),
        ("shaped(mxfp4(block=4), flatten=(1, 2))", lambda x: x.flatten(1, 2)),
        ("shaped(bfp(m=6, block=5), view=(-1, 12))", lambda x: x.reshape(-1, 12)),
    ],
)
def test_the_shape_is_taken_and_undone(spelling, shape):
    x = torch.randn(3, 4, 6)
    fmt = dv.format(spelling)
    assert dv.format(repr(fmt)) == fmt
    y = dv.cast(x, fmt)
    assert y.shape == x.shape
    assert torch.equal(shape(y), dv.cast(shape(x).contiguous(), fmt.inner))


def test_shapings_follow_one_another():
    x = torch.randn(2, 3, 4)
    y = dv.cast(x, "shaped(mxfp4(block=4), permute=(2, 0, 1), flatten=(1, 2), view=(3, 8))")
    flat = x.permute(2, 0, 1).flatten(1, 2).reshape(3, 8)
    assert torch.equal(y.permute(2, 0, 1).reshape(3, 8), dv.cast(flat, "mxfp4(block=4)"))


def test_a_slice_is_kept_and_gets_the_whole_gradient():
    x = (torch.randn(4, 8) * 9).requires_grad_()
    y = dv.cast(x, "shaped(fp4_e2m1fn, keep=(1, 2, 5))")
    assert torch.equal(y[:, 2:5], x[:, 2:5])
    assert torch.equal(y[:, 5:], dv.cast(x, "fp4_e2m1fn")[:, 5:])
    y.sum().backward()
    assert bool((x.grad[:, 2:5] == 1).all())
    assert bool((x.grad[x.abs() > 7] == 1).all()) is False


def test_a_format_before_the_format():
    x = torch.randn(4, 8)
    assert torch.equal(
        dv.cast(x, "shaped(mxfp4, before=bf16)"), dv.cast(dv.cast(x, "bf16"), "mxfp4")
    )


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("shaped(int8)", "'int8' needs a calibrated range"),
        ("shaped(int8)", "'int8(dynamic)'"),
        ("shaped(mxfp4, permut=(0, 1))", "did you mean 'permute'"),
        ("shaped(mxfp4, permute=1)", "whole numbers in parentheses"),
        ("shaped(mxfp4, keep=(1, 2))", "an axis, a start and a stop"),
    ],
)
def test_refusals(spelling, message):
    with pytest.raises(dv.DovetailError) as caught:
        dv.format(spelling)
    assert message in str(caught.value)


def test_a_shape_that_does_not_fit_is_named():
    with pytest.raises(dv.DovetailError, match=r"view=\(5, 5\) does not fit \(4, 8\)"):
        dv.cast(torch.ones(4, 8), "shaped(mxfp4, view=(5, 5))")
    with pytest.raises(dv.DovetailError, match="the shaped tensor has 2 axes"):
        dv.cast(torch.ones(4, 8), "shaped(mxfp4, keep=(3, 0, 1))")


@pytest.mark.parametrize(
    ("keep", "near"),
    [("(0, 0, 9)", "(0, 0, 4)"), ("(1, -9, 2)", "(1, 0, 2)"), ("(-1, 3, 2)", "(-1, 2, 3)")],
)
def test_a_slice_beyond_the_tensor_is_refused_by_name(keep, near):
    with pytest.raises(dv.DovetailError) as caught:
        dv.cast(torch.ones(4, 8), f"shaped(mxfp4, keep={keep})")
    assert f"keep={keep}" in str(caught.value)
    assert f"the nearest slice that it has is keep={near}" in str(caught.value)


def test_slices_count_from_the_end_as_in_python():
    x = torch.full((4, 8), 0.3)
    y = dv.cast(x, "shaped(mxfp4, keep=(0, -1, 4))")
    assert y[:, 0].tolist() == [0.25, 0.25, 0.25, x[0, 0].item()]
    nothing = dv.cast(x, "shaped(mxfp4, keep=(0, 4, 4))")
    assert torch.equal(nothing, dv.cast(x, "mxfp4"))


def test_in_a_recipe():
    layer, x = nn.Linear(8, 4, bias=False), torch.randn(2, 8)
    fmt = "shaped(int4(group=2), permute=(1, 0))"
    expected = F.linear(x, dv.cast(layer.weight.detach().mT, "int4(group=2)").mT)
    dv.apply_(layer, dv.Recipe(dv.rule("*", weight=fmt)), x)
    with torch.no_grad():
        assert torch.allclose(layer(x), expected)
