"""The ``pure`` implementation of pools, beside torch's own."""

from __future__ import annotations

import torch

from dovetail.compiler.nodes import NODES, Call, Operand
from node_graphs import Compared

MAX, AVG = "aten.max_pool2d_with_indices", "aten.avg_pool2d"


def image(*shape):
    """Values that repeat, NaN, infinities and zeros of both signs among them."""
    torch.manual_seed(2)
    x = torch.randint(-4, 5, shape).float() / 2
    x.view(-1)[5:10] = torch.tensor([torch.nan, -torch.inf, torch.inf, -0.0, torch.nan])
    x[..., -2:, -2:] = -torch.inf
    return x


def test_pools_written_out_are_torchs():
    both = Compared("pure")
    x = image(2, 3, 9, 7)
    windows = [([2, 2], [], [0, 0], [1, 1], False), ([3, 2], [2, 1], [1, 1], [1, 2], False)]
    for window in [*windows, ([3, 3], [2, 2], [1, 1], [1, 1], True)]:
        y, places = both.call(f"{MAX}.default", x, *window)
        given = (window[0], window[1] or window[0], *window[2:])
        grad = torch.randn(y.shape)
        both.call(f"{MAX}_backward.default", grad, x, *given, places)
    both.call(f"{MAX}.default", image(3, 6, 6).double(), [2, 2])
    x = torch.randn(2, 3, 9, 7)
    kinds = [
        ([2, 2], [2, 2], [0, 0], False, True, None),
        ([3, 2], [2, 1], [1, 1], True, False, None),
    ]
    for kind in [
        *kinds,
        ([3, 3], [2, 3], [1, 0], True, True, None),
        ([2, 2], [1, 1], [0, 0], False, True, 3),
    ]:
        y = both.call(f"{AVG}.default", x, *kind)
        both.call(f"{AVG}_backward.default", torch.randn(y.shape), x, *kind)
    both.check(rtol=1e-6, atol=1e-6)


def test_pools_of_integers_are_not_written_out():
    x = Operand("x", (1, 4, 4), (16, 4, 1), 0, torch.int64)
    call = Call(f"{MAX}.default", (x,), (x, x), {"kernel_size": [2, 2]})
    reason = NODES[call.key].refusal(call, "pure")
    assert reason == "pooling is written out for float32 and float64, not torch.int64"
