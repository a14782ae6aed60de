"""The ``aten`` implementation against torch itself: products and convolutions."""

from __future__ import annotations

import pytest
import torch

from dovetail.compiler.nodes import NODES
from node_graphs import Graph

aten = torch.ops.aten


def test_products_and_convolutions_are_torchs_own():
    torch.manual_seed(0)
    graph, expected = Graph(), []

    def check(key, inputs, **attributes):
        packet, overload = key.removeprefix("aten.").split(".")
        op = getattr(getattr(aten, packet), overload)
        arguments = [a.name for a in op._schema.arguments]
        tensors = dict(zip([n for n in arguments if n not in attributes], inputs, strict=False))
        value = op(**tensors, **attributes)
        expected.append(list(value) if isinstance(value, tuple) else [value])
        graph.add(key, inputs, expected[-1], **attributes)

    x, w = torch.randn(5, 7), torch.randn(3, 7)
    check("aten.mm.default", [x, w.t()])
    check("aten.mm.default", [x[1:3, ::2], w.t()[::2]])
    check("aten.mm.default", [x, x.t()])
    check("aten.addmm.default", [torch.randn(3), x, w.t()])
    check("aten.addmm.default", [torch.randn(5, 3), x, w.t()], beta=0.5, alpha=-2)
    check("aten.bmm.default", [torch.randn(4, 5, 6), torch.randn(4, 3, 6).mT])
    image, kernel = torch.randn(2, 4, 9, 8), torch.randn(6, 2, 3, 3)
    window = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2], "transposed": False}
    window |= {"output_padding": [0, 0], "groups": 2}
    check("aten.convolution.default", [image, kernel, torch.randn(6)], **window)
    check("aten.convolution.default", [image, kernel, None], **window)
    for got, want in zip(graph.run(), expected, strict=True):
        for g, e in zip(got, want, strict=True):
            torch.testing.assert_close(g, e)


def test_what_torch_cannot_be_asked_for_is_refused_by_name():
    with pytest.raises(KeyError, match=r"no operator 'aten.matmull.default'"):
        NODES["aten.matmull.default"]
    with pytest.raises(KeyError, match=r"aten.hardtanh.default takes 'min_val', a number"):
        NODES["aten.hardtanh.default"]
    assert "aten.add_.Tensor" not in NODES
