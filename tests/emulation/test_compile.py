"""``torch.compile`` and ``torch.export`` of an emulated model: the same bits, and ops that stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import INT8, Small, build, modes, randn

RECIPE = dv.Recipe(dv.rule("*", input="int8(affine)", weight="int8", mul="mul8s_1L2H@v1.1"))


class Net(nn.Module):
    """Modules, functional calls by index, an operator, an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(64, 6)

    def forward(self, x):
        y = self.fc(self.act(self.conv(x)).flatten(1))
        return torch.matmul(torch.matmul(y, y.mT), y) @ torch.ones(6, 2)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))


# Strict export warns of side effects: the function modes that a nested module call moves.
pytestmark = pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    assert modes() == 0


def emulated(make=Net, shape=(2, 3, 4, 4), **fields):
    model, x = build(0, make).eval(), randn(*shape)
    dv.apply_(model, dv.Recipe(dv.rule("*", **(INT8 | fields))) if fields else RECIPE, x)
    return model, x


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("fields", [{}, {"input": "int8(dynamic)"}, {"output": "int8"}])
def test_compile_fullgraph_forward(backend, fields):
    model, x = emulated(**fields)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(compiled(x * 3), model(x * 3))


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_compile_fullgraph_gradients(backend):
    """The forward value is equal; inductor may fuse the float sums around the ops' gradients."""
    model, x = emulated()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    grads = []
    for run in (model, compiled):
        leaf = x.clone().requires_grad_()
        model.zero_grad()
        y = run(leaf)
        y.square().sum().backward()
        grads.append([y.detach(), leaf.grad, *(p.grad.clone() for p in model.parameters())])
    for eager, other in zip(*grads, strict=True):
        if backend == "inductor":
            torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-4)
        else:
            assert torch.equal(other, eager)


def test_weights_changed_after_compilation_are_seen():
    model, x = emulated()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        compiled(x)
        model.fc.weight.mul_(-1)
        assert torch.equal(compiled(x), model(x))


def test_ranges_calibrated_after_compilation_are_seen():
    model, x = emulated()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        before = compiled(x)
        with dv.calibrate(model):
            model(x * 20)
        after = compiled(x)
        assert torch.equal(after, model(x))
        assert not torch.equal(after, before)


def test_removing_after_compilation_is_seen():
    model, x = emulated()
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(x)
        dv.remove_(model)
        assert torch.equal(compiled(x), build(0, Net).eval()(x))


def test_equal_blocks_compiled_one_by_one_share_graphs():
    model = build(0, lambda: nn.Sequential(*(Block() for _ in range(12)))).eval()
    x = randn(3, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
    counter = torch._dynamo.testing.CompileCounter()
    for block in model:
        block.compile(backend=counter, fullgraph=True)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=4):
        twin = build(0, lambda: nn.Sequential(*(Block() for _ in range(12)))).eval()
        dv.apply_(twin, dv.Recipe(dv.rule("*", input="int8", weight="int8")), x)
        assert torch.equal(model(x), twin(x))
    assert counter.frame_count <= 2


def test_a_failed_compile_leaves_nothing_behind():
    model, x = emulated()

    def broken(graph, example):
        raise RuntimeError("on purpose")

    with pytest.raises(Exception, match="on purpose"):
        torch.compile(model, backend=broken, fullgraph=True)(x)
    assert modes() == 0
    torch._dynamo.reset()
    a, b = randn(3, 3), randn(3, 3, seed=1)
    assert torch.equal(a @ b, (a.double() @ b.double()).float()) or torch.allclose(
        a @ b, b.mT.matmul(a.mT).mT
    )
    twin, _ = emulated()
    assert torch.equal(model(x), twin(x))


def test_a_graph_break_inside_an_emulated_forward():
    class Breaks(Net):
        def forward(self, x):
            y = self.fc(self.act(self.conv(x)).flatten(1))
            torch._dynamo.graph_break()
            return torch.matmul(torch.matmul(y, y.mT), y) @ torch.ones(6, 2)

    model, x = emulated(Breaks)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
    assert modes() == 0


def nodes(program) -> list[str]:
    calls = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    return [target for target in calls if "dovetail" in target]


@pytest.mark.parametrize("strict", [True, False])
def test_export_keeps_every_op_one_node(strict, tmp_path):
    model, x = emulated()
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=strict)
    assert nodes(program) == [
        "dovetail.conv.default",
        "dovetail.linear.default",
        *["dovetail.matmul.default"] * 3,
    ]
    wanted = model(x)
    assert torch.equal(program.module()(x), wanted)
    torch.export.save(program, tmp_path / "model.pt2")
    assert torch.equal(torch.export.load(tmp_path / "model.pt2").module()(x), wanted)
    assert modes() == 0


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("fields", [{}, {"input": "int8(dynamic)"}, {"output": "int8"}])
def test_export_with_a_dynamic_batch(strict, fields):
    model, x = emulated(Small, **fields)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},), strict=strict)
    for rows in (1, 2, 5):
        y = randn(rows, 3, 4, 4, seed=rows)
        assert torch.equal(program.module()(y), model(y))


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_model_can_itself_be_emulated(strict):
    """Strict export writes ``operator.matmul`` and aten overloads: both are reached."""
    model, x = build(0, Net).eval(), randn(2, 3, 4, 4)
    with torch.no_grad():
        program = torch.export.export(model, (x,), strict=strict).module()
        plan = dv.apply_(program, RECIPE, x)
        assert [op.kind for op in plan] == ["conv", "linear", "matmul", "matmul", "matmul"]
        emulated_, _ = emulated()
        assert torch.equal(program(x), emulated_(x))


def test_compiled_without_gradients_the_encoder_layer_is_emulated():
    """Dynamo takes the fused path of ``nn.TransformerEncoderLayer`` unless it is kept off it."""
    model = build(0, lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    x = randn(2, 5, 8)
    coarse = dv.Recipe(dv.rule("linear?", input="int4", weight="int4"))
    with torch.no_grad():
        plain = model(x)
    plan = dv.apply_(model, coarse, x)
    assert len(plan) == 2
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        got = compiled(x)
        torch.testing.assert_close(got, model(x), rtol=0, atol=1e-5)  # attention itself may fuse
    assert float((got - plain).abs().max()) > 0.1


def test_vmap_and_grad_compile():
    model, x = emulated(Block, (3, 8), input="int8")

    def loss(v):
        return model(v).square().sum()

    compiled = torch.compile(torch.func.grad(loss), backend="eager")
    torch.testing.assert_close(compiled(x), torch.func.grad(loss)(x))
