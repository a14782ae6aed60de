"""The ``pure`` implementation against torch: products, convolutions and their gradients."""

from __future__ import annotations

import torch

from node_graphs import Compared


def test_products_written_out():
    torch.manual_seed(0)
    both = Compared("pure")
    x, w = torch.randn(5, 7), torch.randn(3, 7)
    both.call("aten.mm.default", x, w.t())
    both.call("aten.mm.default", x[1:3, ::2], w.t()[::2])
    both.call("aten.mm.default", x, x.t())
    both.call("aten.mm.default", torch.ones(2, 0), torch.ones(0, 3))
    both.call("aten.addmm.default", torch.randn(3), x, w.t())
    both.call("aten.addmm.default", torch.randn(5, 1), x, w.t(), beta=0.5, alpha=-2)
    both.call("aten.addmm.default", torch.full((3,), torch.nan), x, w.t(), beta=0)
    both.call("aten.bmm.default", torch.randn(4, 5, 6), torch.randn(4, 3, 6).mT)
    both.call("aten.baddbmm.default", *(torch.randn(4, 5, 5) for _ in range(3)))
    both.call("aten.mm.default", x.double(), w.t().double())
    both.check(rtol=1e-5, atol=1e-5)


WINDOWS = [  # input, weight, stride, padding, dilation, transposed, output padding, groups
    ((2, 4, 9, 8), (6, 4, 3, 3), [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    ((2, 4, 9, 8), (6, 2, 3, 2), [2, 3], [0, 2], [1, 2], False, [0, 0], 2),
    ((1, 5, 11), (5, 1, 3), [2], [0], [1], False, [0], 5),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 1), [1, 2, 1], [0, 1, 0], [1, 1, 2], False, [0, 0, 0], 1),
    ((2, 4, 5, 6), (4, 3, 3, 2), [2, 1], [1, 0], [1, 2], True, [1, 0], 2),
    ((2, 4, 5), (4, 3, 1), [3], [0], [1], True, [2], 1),
]


def test_convolutions_and_their_gradients_written_out():
    torch.manual_seed(0)
    both = Compared("pure")
    for size, kernel, *window in WINDOWS:
        x, w = torch.randn(size), torch.randn(kernel)
        outputs = kernel[1] * window[-1] if window[3] else kernel[0]
        y = both.call("aten.convolution.default", x, w, torch.randn(outputs), *window)
        grad = torch.randn_like(y)
        key = "aten.convolution_backward.default"
        both.call(key, grad, x, w, [outputs], *window, [True, True, True])
    both.call(key, grad, x, w, [outputs], *window, [False, True, False])
    both.call("aten.convolution.default", x.transpose(0, 1), w[:2], None, *window)
    both.check(rtol=1e-4, atol=1e-4)
