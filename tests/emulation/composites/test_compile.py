"""Composites and transposed convolutions under ``torch.compile`` and ``torch.export``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import INT8, build, modes, randn

# Strict export warns of side effects: the function modes that a nested module call moves.
# Non-strict export warns of ``nn.LSTM`` and ``nn.GRU``, emulated or not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects"),
    pytest.mark.filterwarnings("ignore:The tensor attributes self.layer._flat_weights"),
]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):  # torch breaks the graph at them otherwise
        yield
    torch._dynamo.reset()
    assert modes() == 0


class Attend(nn.Module):
    def forward(self, x):
        causal = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return torch.einsum("bij,bkj->bik", causal, x)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=mask)[0]


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(5, 4, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.up(x)


class Recurrent(nn.Module):
    def __init__(self, layer) -> None:
        super().__init__()
        self.layer = layer(8, 3, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.layer(x)[0]


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(8, 3)

    def forward(self, x):
        return self.cell(x[:, 0])


MODELS = {
    "attention": (Attend, ["matmul"] * 3),
    "multi head": (SelfAttention, ["linear"] * 3 + ["matmul"] * 2 + ["linear"]),
    "transposed": (Up, ["conv"]),
    "lstm": (lambda: Recurrent(nn.LSTM), ["linear"] * 12),
    "gru": (lambda: Recurrent(nn.GRU), ["linear"] * 12),
    "cell": (Cell, ["linear"] * 2),
}


def emulated(name):
    model, x = build(0, MODELS[name][0]).eval(), randn(2, 5, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1L2H@v1.1")), x)
    return model, x


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_fullgraph(name, backend):
    model, x = emulated(name)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_compiled_gradients(name):
    model, x = emulated(name)
    compiled, grads = torch.compile(model, fullgraph=True, backend="aot_eager"), []
    for run in (model, compiled):
        leaf = x.clone().requires_grad_()
        model.zero_grad()
        run(leaf).square().sum().backward()
        grads.append([leaf.grad, *(p.grad.clone() for p in model.parameters())])
    for eager, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_export_keeps_every_product_a_node(name, strict):
    model, x = emulated(name)
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=strict)
        assert torch.equal(program.module()(x), model(x))
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    found = [t.split(".")[1] for t in targets if t.startswith("dovetail.")]
    assert sorted(found) == sorted(MODELS[name][1])


@pytest.mark.parametrize("name", ["attention", "transposed", "lstm"])
def test_an_exported_model_can_itself_be_emulated(name):
    model, x = build(0, MODELS[name][0]).eval(), randn(2, 5, 8)
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=False).module()
        dv.apply_(program, dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1L2H@v1.1")), x)
        torch.testing.assert_close(program(x), emulated(name)[0](x), rtol=0, atol=1e-6)
