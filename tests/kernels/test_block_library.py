"""The ops of products of block formats: gradients, fakes, compile, vmap."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.arithmetic import Arithmetic
from dovetail.kernels import block_library

MX = Arithmetic(input=dv.format("mxfp4(block=4)"), weight=dv.format("mxint8(block=4)"))


def leaf(*shape: int, seed: int) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3
    return x.requires_grad_()


def through_casts(x, w, clip, axes=(-1, -1)):
    return (
        dv.cast(x, MX.input, axis=axes[0], clip=clip),
        dv.cast(w, MX.weight, axis=axes[1], clip=clip),
    )


def check(y, expected, tensors):
    torch.testing.assert_close(y, expected)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    for got, want in zip(
        torch.autograd.grad(y, tensors, grad),
        torch.autograd.grad(expected, tensors, grad),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("clip", [True, False])
def test_linear_gradient(clip):
    x, w, b = leaf(2, 3, 10, seed=0), leaf(5, 10, seed=1), leaf(5, seed=2)
    rule = MX.with_({"grad": "ste" if clip else "ste(unclipped)"})
    y = block_library.block_linear(x, w, b, rule.spelling)
    check(y, F.linear(*through_casts(x, w, clip), b), (x, w, b))


@pytest.mark.parametrize("groups", [1, 2])
def test_conv_gradient(groups):
    x, w, b = leaf(2, 12, 5, 6, seed=0), leaf(4, 12 // groups, 3, 3, seed=1), leaf(4, seed=2)
    window = ([2, 1], [1, 1, 0, 2], [1, 1], groups)
    y = block_library.block_conv(x, w, b, *window, MX.spelling)
    # Blocks end with a group.
    parts = [through_casts(p, w, True, (1, 1))[0] for p in x.chunk(groups, 1)]
    xq, wq = torch.cat(parts, 1), dv.cast(w, MX.weight, axis=1)
    check(y, F.conv2d(F.pad(xq, [0, 2, 1, 1]), wq, b, (2, 1), groups=groups), (x, w, b))


def test_matmul_gradient():
    x, y = leaf(2, 1, 3, 10, seed=0), leaf(3, 10, 4, seed=1)
    got = block_library.block_matmul(x, y, MX.spelling)
    left, right = through_casts(x, y, True, (-1, -2))
    check(got, left @ right, (x, y))


@pytest.mark.parametrize("name", ["nvfp4(block=4)", "mxfp8_e5m2(block=8)"])
def test_gradients_of_other_formats(name):
    fmt = dv.format(name)
    rule = Arithmetic(input=fmt, weight=fmt)
    x, w, b = leaf(2, 3, 10, seed=0), leaf(5, 10, seed=1), leaf(5, seed=2)
    y = block_library.block_linear(x, w, b, rule.spelling)
    check(y, F.linear(dv.cast(x, fmt), dv.cast(w, fmt), b), (x, w, b))


def test_ops_are_well_formed():
    x, w, b = leaf(3, 10, seed=0), leaf(5, 10, seed=1), leaf(5, seed=2)
    torch.library.opcheck(block_library.block_linear.default, (x, w, b, MX.spelling))
    torch.library.opcheck(block_library.block_matmul.default, (x, leaf(10, 5, seed=5), MX.spelling))
    image, kernel = leaf(2, 6, 5, 5, seed=3), leaf(5, 6, 3, 3, seed=4)
    args = (image, kernel, None, [1, 1], [1, 1, 1, 1], [1, 1], 1, MX.spelling)
    torch.library.opcheck(block_library.block_conv.default, args)


def test_vmap():
    x, w = leaf(4, 3, 10, seed=0).detach(), leaf(4, 5, 10, seed=1).detach()
    got = torch.func.vmap(lambda a, b: block_library.block_linear(a, b, None, MX.spelling))(x, w)
    expected = [
        block_library.block_linear(a, b, None, MX.spelling) for a, b in zip(x, w, strict=True)
    ]
    assert torch.equal(got, torch.stack(expected))
