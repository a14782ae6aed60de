"""The graph of operations: which feeds which, and in what format."""

from __future__ import annotations

import torch
from torch import nn

import dovetail as dv
from dovetail.analysis import graph
from dovetail.emulation import is_emulated

X = torch.linspace(-1, 1, 8).reshape(1, 2, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.attn = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.attn(x, x, x)[0].transpose(0, 1).contiguous().transpose(0, 1)
        kept = torch.zeros(1, 3, 4)
        kept[:, :2] = h
        kept.mul_(2)
        return x + self.fc(kept[:, 1:3]).relu_()


def drawn(*rules):
    return graph(Net(), dv.Recipe(*rules), X)


def test_edges_follow_views_copies_and_writes():
    found = drawn(dv.rule("*", input="bf16"))
    edges = {(e.source, e.target) for e in found.edges}
    assert edges == {
        ("inputs", "attn:linear_0"),
        ("inputs", "attn:linear_1"),
        ("inputs", "attn:linear_2"),
        ("attn:linear_0", "attn:matmul_0"),
        ("attn:linear_1", "attn:matmul_0"),
        ("attn:matmul_0", "attn:mul"),
        ("attn:mul", "attn:softmax"),
        ("attn:softmax", "attn:matmul_1"),
        ("attn:linear_2", "attn:matmul_1"),
        ("attn:matmul_1", "attn:linear_3"),
        ("attn:linear_3", "fc"),
        ("fc", ".:relu"),
        (".:relu", ".:add"),
        ("inputs", ".:add"),
    }
    assert found.nodes[0].key == "inputs"
    assert {node.key for node in found.nodes} == {key for edge in edges for key in edge}


def test_formats_stand_on_edges_and_weights_on_nodes():
    found = drawn(
        dv.rule("*", op="linear matmul", input="int8", weight="int4", output="bf16"),
        dv.rule("fc", mul="mul8s_1KV9", weight="int8"),
    )
    flows = {(e.source, e.target): e.formats for e in found.edges}
    assert flows["inputs", "attn:linear_0"] == "as int8"
    assert flows["attn:linear_1", "attn:matmul_0"] == "bf16 as int4"
    assert flows["attn:matmul_0", "attn:mul"] == "bf16"
    assert flows[".:relu", ".:add"] == ""
    given = {node.key: node.given for node in found.nodes}
    assert given["fc"] == "weight=int8, mul=mul8s_1KV9@v2022"
    assert given["attn:matmul_0"] == ""


def test_text_for_mermaid_and_graphviz():
    found = drawn(dv.rule("fc", input="BFP16_64", weight="int8", sparsity="2:4"))
    mermaid = found.mermaid().splitlines()
    assert mermaid[:2] == ["flowchart TD", '    n0["inputs"]']
    assert any(line.endswith('["fc (linear)<br/>sparsity=2:4, weight=int8"]') for line in mermaid)
    assert any('-->|"as bfp(m=8, block=64)"|' in line for line in mermaid)
    dot = found.dot()
    assert dot.startswith("digraph {")
    assert dot.endswith("}\n")
    assert r"fc (linear)\nsparsity=2:4, weight=int8" in dot


def test_the_model_is_left_as_it_was():
    net = Net()
    before = net.training, type(net)
    graph(net, dv.Recipe(dv.rule("fc", input="bf16")), X)
    assert (net.training, type(net)) == before
    assert not any(is_emulated(module) for module in net.modules())
