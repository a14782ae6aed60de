"""Operators through the boxed dispatcher, each against torch's own call."""

from __future__ import annotations

import torch

import dovetail as dv
from dovetail.arithmetic import Arithmetic
from dovetail.multipliers import multiplier
from node_graphs import Compared


def rule_of(first, second, **others):
    return Arithmetic(input=dv.format(first), weight=dv.format(second), **others).spelling


def test_operators_of_networks_give_what_torch_gives():
    torch.manual_seed(0)
    both = Compared()
    x, w = torch.randn(2, 4, 9, 8), torch.randn(6, 4, 3, 3)
    window = ([1, 2], [1, 1], [1, 1], False, [0, 0], 1)
    y = both.call("aten.convolution.default", x, w, torch.randn(6), *window)
    grad = torch.randn_like(y)
    for mask in ([True, True, True], [False, True, False]):
        both.call("aten.convolution_backward.default", grad, x, w, [6], *window, mask)
    y, where = both.call("aten.max_pool2d_with_indices.default", x, [3, 3], [2, 2], [1, 1])
    back = "aten.max_pool2d_with_indices_backward.default"
    both.call(back, torch.ones_like(y), x, [3, 3], [2, 2], [1, 1], [1, 1], False, where)
    both.call("aten.avg_pool2d.default", x, [2, 2], [2, 1], [0, 1], False, True, None)
    both.call("aten.avg_pool2d.default", x, [2], [], [0], True, False, 3)
    both.call("aten._adaptive_avg_pool2d.default", x, [3, 3])
    both.call("aten.adaptive_max_pool2d.default", x, [2, 5])
    table, index = torch.randn(10, 4), torch.tensor([[1, 9], [0, 1]])
    y = both.call("aten.embedding.default", table, index)
    both.call("aten.embedding_dense_backward.default", torch.ones_like(y), index, 10, -1, False)
    mean, variance = torch.randn(4), torch.rand(4)
    both.call(
        "aten._native_batch_norm_legit_no_training.default",
        *(x, mean, mean, mean, variance, 0.1, 1e-5),
    )
    both.call(
        "aten._native_batch_norm_legit_functional.default",
        x,
        mean,
        mean,
        mean,
        variance,
        True,
        0.1,
        1e-5,
    )
    both.call("aten.cat.default", [x, x[:, :1], x], 1)
    both.call("aten.index.Tensor", table, [index])
    both.call("aten.index.Tensor", x, [None, torch.tensor([0, 3])])
    both.call("aten._softmax.default", x.transpose(1, 3), -1, False)
    both.call("aten.native_layer_norm.default", x, [8], torch.randn(8), None, 1e-5)
    both.call("aten.gelu.default", x[..., ::2], approximate="tanh")
    both.call("aten.sum.dim_IntList", x, [1, 2], True, dtype=torch.float64)
    both.call("aten.cumsum.default", x, -1)
    both.call("aten.cat.default", [torch.empty(0), torch.ones(2)], 0)
    _attention(both)
    both.check()


def _attention(both):
    q, k, v = (torch.randn(2, 5, 3, 8).transpose(1, 2) for _ in range(3))
    key = "aten._scaled_dot_product_flash_attention_for_cpu"
    y, log = both.call(f"{key}.default", q, k, v, 0.0, True, scale=0.3)
    both.call(f"{key}_backward.default", torch.ones_like(y), q, k, v, y, log, 0.0, True, scale=0.3)
    both.call(f"{key}.default", q, q, q, attn_mask=torch.randn(5, 5))


def test_operators_of_dovetail_keep_every_bit():
    torch.manual_seed(0)
    both = Compared()
    x, w, b = torch.randn(4, 6), torch.randn(3, 6), torch.randn(3)
    scale, zero = torch.tensor(0.02), torch.tensor(0, dtype=torch.int32)
    rule = rule_of("int8", "int8", mul=multiplier("mul8s_1L2H@v1.1"))
    both.call("dovetail.linear.default", x, w, b, scale, zero, None, None, rule)
    blocks = rule_of("mxfp8_e4m3", "mxfp4")
    both.call("dovetail.block_linear.default", x, w, None, blocks)
    both.check(rtol=0, atol=0)
