"""oneDNN's convolutions as nodes: epilogues, channels-last images, and weights that are kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.compiler.nodes import NODES, Call, Operand
from node_graphs import Graph

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")

WINDOW = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2], "groups": 2}
PLAIN = "mkldnn._convolution_pointwise.default"
BINARY = "mkldnn._convolution_pointwise.binary"


def test_epilogues_layouts_and_kept_weights():
    torch.manual_seed(0)
    graph, expected = Graph(), []
    w, b = torch.randn(6, 2, 3, 3), torch.randn(6)
    for x in (torch.randn(2, 4, 9, 8), torch.randn(2, 9, 8, 4).permute(0, 3, 1, 2)):
        x[0, 0, 2, 2] = float("nan")
        y = F.conv2d(x, w, b, **WINDOW)
        last = y.contiguous(memory_format=torch.channels_last)
        other = torch.randn_like(y)
        for frozen in (False, True):
            rest = {**WINDOW, "frozen": frozen}
            graph.add(PLAIN, [x, w, b], y, attr="relu", scalars=[], algorithm="", **rest)
            graph.add(PLAIN, [x, w, b], y, attr="none", out=[last.clone()], **rest)
            bounds = {"unary_attr": "hardtanh", "unary_scalars": [-0.5, 0.5]}
            out = [last.clone()]
            graph.add(BINARY, [x, other, w, b], y, binary_attr="add", out=out, **bounds, **rest)
            graph.add(BINARY, [x, other, w, b], y, binary_attr="add", unary_attr="relu", **rest)
            graph.add(BINARY, [x, other, w, None], y, binary_attr="add", **rest)
            whole = {"transposed": False, "output_padding": [0, 0]}
            graph.add("aten.convolution.default", [x, w, b], y, **rest, **whole)
            expected += [
                y.relu(),
                y,
                (y + other).clamp(-0.5, 0.5),
                (y + other).relu(),
                y - b.view(-1, 1, 1) + other,
                y,
            ]
    with graph.built() as run:
        run()
        for got, want in zip(graph.results, expected, strict=True):
            torch.testing.assert_close(got[0], want, rtol=1e-4, atol=1e-5, equal_nan=True)
        kept = [r[0].nan_to_num() for r in graph.results]
        w.zero_()
        run()
    changed = [not r[0].nan_to_num().equal(k) for r, k in zip(graph.results, kept, strict=True)]
    assert changed == ([True] * 6 + [False] * 6) * 2


def test_epilogues_that_need_arguments_are_refused_by_name():
    x = Operand("x", (1, 4, 9, 8), (288, 72, 8, 1), 0, torch.float32)
    for rest, reason in (
        ({"attr": "leaky_relu"}, "'leaky_relu' takes 1 scalars, not 0"),
        ({"attr": "gelu"}, "'gelu' is none of none, sigmoid"),
    ):
        with pytest.raises(dv.DovetailError, match=reason):
            NODES[PLAIN].choose(Call(PLAIN, (x, x, None), (x,), {**WINDOW, **rest}))
