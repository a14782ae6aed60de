"""The largest of windows by our own loops, bit for bit torch's."""

from __future__ import annotations

import torch

from dovetail.compiler.nodes import Call, Operand
from dovetail.compiler.nodes.aten.pools import is_pooled
from node_graphs import Compared

KEY = "aten.max_pool2d_with_indices.default"
WINDOWS = [
    ([2, 2], [], [0, 0], [1, 1], False),
    ([3, 2], [2, 1], [1, 1], [1, 2], False),
    ([3, 3], [2, 2], [1, 1], [1, 1], True),
    ([2, 3], [3, 2], [1, 0], [2, 1], True),
    ([5], [1], [2], [1], False),
]


def image(*shape):
    """Values that repeat, NaN, infinities and zeros of both signs among them."""
    torch.manual_seed(2)
    x = torch.randint(-4, 5, shape).float() / 2
    x.view(-1)[5:10] = torch.tensor([torch.nan, -torch.inf, torch.inf, -0.0, torch.nan])
    x[..., -4:, -4:] = -torch.inf
    x[..., 0, :3] = torch.tensor([0.0, -0.0, 0.0])
    return x


def test_the_largest_of_windows_and_its_place_are_torchs():
    both = Compared()
    for x in (image(2, 3, 9, 7), image(3, 8, 10).double(), image(1, 2, 6, 530)):
        for window in WINDOWS:
            both.call(KEY, x, *window)
    both.check(rtol=0, atol=0)


def call_of(x, y, where, **attributes):
    return Call(KEY, (x,), (y, where), {"kernel_size": [2, 2], **attributes})


def operand(*shape, strides=None, dtype=torch.float32):
    steps = strides or torch.empty(shape).stride()
    return Operand("x", shape, tuple(steps), 0, dtype)


def test_other_images_are_torchs_own():
    y, where = operand(1, 2, 2, 2), operand(1, 2, 2, 2, dtype=torch.int64)
    assert is_pooled(call_of(operand(1, 2, 4, 4), y, where))
    assert is_pooled(call_of(operand(1, 2, 4, 4), y, None))
    assert not is_pooled(call_of(operand(1, 2, 4, 4), None, where))
    assert not is_pooled(call_of(operand(1, 2, 4, 4, strides=(32, 1, 8, 2)), y, where))
    assert not is_pooled(call_of(operand(1, 2, 4, 4, dtype=torch.int32), y, where))
