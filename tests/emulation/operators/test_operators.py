"""Every operator, in every spelling, is reached, cast in every slot, and else torch's own."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation.operators import OPERATORS, activations
from dovetail.kinds import KINDS
from helpers import hits, randn

aten = torch.ops.aten


def inplace(function):
    """The function on a copy, so that a test may call it twice."""
    return lambda x, *rest: function(x.clone(), *rest)


UNARY = {
    "relu": [F.relu, torch.relu, lambda x: x.relu(), inplace(torch.relu_), aten.relu.default],
    "relu6": [F.relu6, lambda x: F.relu6(input=x, inplace=False)],
    "gelu": [F.gelu, lambda x: F.gelu(x, approximate="tanh"), lambda x: aten.gelu(x)],
    "silu": [F.silu, inplace(lambda x: F.silu(x, inplace=True)), aten.silu],
    "elu": [F.elu, F.selu, F.celu, lambda x: F.elu(x, 0.5), lambda x: F.celu(x, alpha=2.0)],
    "leaky_relu": [F.leaky_relu, lambda x: F.leaky_relu(x, 0.3), aten.leaky_relu.default],
    "mish": [F.mish],
    "sigmoid": [torch.sigmoid, lambda x: x.sigmoid(), F.sigmoid, inplace(torch.sigmoid_)],
    "tanh": [torch.tanh, lambda x: x.tanh(), F.tanh, inplace(lambda x: x.tanh_())],
    "softplus": [F.softplus, lambda x: F.softplus(x, beta=2, threshold=5)],
    "hardtanh": [F.hardtanh, lambda x: F.hardtanh(x, -0.5, 0.25), lambda x: F.hardtanh(x, 0, 5)],
    "hardsigmoid": [F.hardsigmoid],
    "hardswish": [F.hardswish],
    "exp": [torch.exp, lambda x: x.exp(), inplace(torch.exp_)],
    "reciprocal": [torch.reciprocal, lambda x: x.reciprocal(), aten.reciprocal.default],
    "rsqrt": [lambda x: torch.rsqrt(x.abs()), inplace(lambda x: x.abs_().rsqrt_())],
    "sin": [torch.sin, lambda x: x.sin(), inplace(lambda x: x.sin_())],
    "cos": [torch.cos, lambda x: x.cos(), aten.cos],
    "softmax": [
        lambda x: F.softmax(x, -1),
        lambda x: x.softmax(0),
        lambda x: torch.softmax(x, dim=1),
        lambda x: F.softmax(x, dim=-1, dtype=torch.float64),
        lambda x: aten.softmax.int(x, -1),
    ],
    "log_softmax": [lambda x: F.log_softmax(x, -1), lambda x: x.log_softmax(1)],
}
BINARY = {
    "add": [
        operator.add,
        torch.add,
        lambda x, y: x.add(y),
        lambda x, y: torch.add(x, y, alpha=2),
        inplace(operator.iadd),
        aten.add.Tensor,
    ],
    "sub": [operator.sub, torch.sub, lambda x, y: x.sub(y, alpha=0.5), inplace(operator.isub)],
    "mul": [operator.mul, torch.mul, torch.multiply, inplace(operator.imul), aten.mul.Tensor],
    "div": [
        operator.truediv,
        torch.div,
        torch.true_divide,
        lambda x, y: torch.div(x, y, rounding_mode="floor"),
        inplace(operator.itruediv),
    ],
    "prelu": [lambda x, y: F.prelu(x, y[0, :1]), lambda x, y: torch.prelu(x, y[0, :5])],
}


class Calls(nn.Module):
    """One call of a function, as a model makes it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def every(table):
    return [
        pytest.param(kind, function, id=f"{kind}-{place}")
        for kind, functions in table.items()
        for place, function in enumerate(functions)
    ]


def second(kind):
    """The slot of the second operand."""
    return "weight" if kind == "prelu" else "other"


@pytest.mark.parametrize(("kind", "function"), every(UNARY))
def test_a_function_of_one_tensor(kind, function):
    model, x = Calls(function), randn(4, 5)
    plain = model(x)
    plan = dv.apply_(model, dv.Recipe(dv.rule(op=kind, input="fp8_e5m2", output="bf16")), x)
    assert [op.key for op in plan] == [f".:{kind}"]
    wanted = dv.cast(function(dv.cast(x, "fp8_e5m2")), "bf16")
    assert torch.equal(model(x), wanted)
    assert hits(model, x) == [f".:{kind}"]
    dv.remove_(model)
    assert torch.equal(model(x), plain)


@pytest.mark.parametrize(("kind", "function"), every(BINARY))
def test_a_function_of_two_tensors(kind, function):
    model, x, y = Calls(function), randn(4, 5), randn(4, 5, seed=1).abs() + 0.5
    formats = {"input": "fp8_e5m2", second(kind): "fp6_e3m2fn", "output": "bf16"}
    dv.apply_(model, dv.Recipe(dv.rule(op=kind, **formats)), (x, y))
    wanted = dv.cast(function(dv.cast(x, "fp8_e5m2"), dv.cast(y, "fp6_e3m2fn")), "bf16")
    assert torch.equal(model(x, y), wanted)
    assert hits(model, x, y) == [f".:{kind}"]


@pytest.mark.parametrize(("kind", "function"), [*every(UNARY), *every(BINARY)])
def test_gradients_pass_straight_through(kind, function):
    """Where nothing clips, the gradient is that of torch's own function at the cast operands."""
    two = kind in BINARY
    tensors = [randn(4, 5), randn(4, 5, seed=1).abs() + 0.5][: 1 + two]
    slots = ("input", second(kind))[: 1 + two]
    model = Calls(function)
    dv.apply_(
        model, dv.Recipe(dv.rule(op=kind, **dict.fromkeys(slots, "fp8_e5m2"))), tuple(tensors)
    )
    ours = [t.clone().requires_grad_() for t in tensors]
    model(*ours).sum().backward()
    theirs = [dv.cast(t, "fp8_e5m2").requires_grad_() for t in tensors]
    function(*theirs).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("cls", activations.MODULES)
def test_modules_are_named_by_their_path_alone(cls):
    options = {"dim": -1} if cls in (nn.Softmax, nn.LogSoftmax) else {}
    model, x = nn.Sequential(cls(**options)).eval(), randn(2, 3)
    plain = model(x)
    plan = dv.apply_(model, dv.Recipe(dv.rule("0", op="*", output="bf16")), x)
    assert [(op.key, op.kind) for op in plan] == [("0", activations.MODULES[cls])]
    assert torch.equal(model(x), dv.cast(plain, "bf16"))
    dv.remove_(model)
    assert torch.equal(model(x), plain)


def test_in_place_writes_to_the_tensor_it_was_given():
    class Writes(nn.Module):
        def forward(self, x, y):
            z = x.clone()
            z += y
            same = F.relu(z, inplace=True)
            return z, same

    model, x, y = Writes(), randn(3, 4), randn(3, 4, seed=1)
    dv.apply_(model, dv.Recipe(dv.rule(op="add relu", output="fp8_e4m3")), (x, y))
    z, same = model(x, y)
    assert z is same
    assert torch.equal(z, dv.cast(F.relu(dv.cast(x + y, "fp8_e4m3")), "fp8_e4m3"))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 2 * x,
        lambda x: x / 3,
        lambda x: (x > 0) * torch.ones(4, 5, dtype=torch.int64),
        lambda x: 1 - x,
    ],
)
def test_numbers_and_integers_are_no_operation(function):
    model, x = Calls(function), randn(4, 5)
    with pytest.raises(dv.DovetailError, match="matches no operation"):
        dv.plan(model, dv.Recipe(dv.rule(op="elementwise", output="bf16")), x)


def test_a_form_that_cannot_be_read_is_listed():
    def written(x):
        return torch.exp(x, out=torch.empty_like(x))

    plan = dv.plan(
        Calls(written), dv.Recipe(dv.rule("*", op="*", output="bf16", optional=True)), randn(3)
    )
    assert plan.uncovered == (".:exp",)


def test_static_ranges_of_operators_are_calibrated():
    class Residual(nn.Module):
        def forward(self, x, y):
            return torch.tanh(x + y)

    model, x, y = Residual(), randn(8, 4), randn(8, 4, seed=1)
    recipe = dv.Recipe(dv.rule(op="add", input="int8", other="int4", output="int8(affine)"))
    plan = dv.apply_(model, recipe, (x, y))
    assert plan[".:add"].ranged_slots == ("input", "other", "output")
    wanted = dv.cast(dv.cast(x, "int8") + dv.cast(y, "int4"), "int8(affine)")
    total = (x + y).aminmax()
    fixed = dv.cast(
        dv.cast(x, "int8") + dv.cast(y, "int4"),
        "int8(affine)",
        scale=float((total.max - total.min) / 255),
        zero_point=int(model._dovetail_add_output_zero),
    )
    assert torch.allclose(model(x, y), torch.tanh(fixed), atol=1e-6)
    assert not torch.equal(wanted, x + y)
    with dv.calibrate(model):
        model(4 * x, 4 * y)
    assert float(model._dovetail_add_input_scale) == pytest.approx(float(4 * x.abs().max() / 127))


def test_a_rule_without_op_speaks_of_products_alone():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.GELU()), randn(2, 4)
    plan = dv.plan(model, dv.Recipe(dv.rule("*", output="bf16")), x)
    assert [op.key for op in plan] == ["0"]
    plan = dv.plan(model, dv.Recipe(dv.rule("*", op="*", output="bf16")), x)
    assert [op.key for op in plan] == ["0", "1"]
    with pytest.raises(
        dv.DovetailError, match=r"no product, only '1', which is gelu: say op='gelu'"
    ):
        dv.plan(model, dv.Recipe(dv.rule("1", output="bf16")), x)


def test_a_pattern_that_names_the_kind_needs_no_op():
    model, x = Calls(lambda x: torch.exp(x) + torch.exp(-x)), randn(3)
    plan = dv.plan(model, dv.Recipe(dv.rule(".:exp_1", output="bf16")), x)
    assert [op.key for op in plan] == [".:exp_1"]


def test_a_field_that_no_matched_operation_has_is_refused():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.GELU()), randn(2, 4)
    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(model, dv.Recipe(dv.rule(op="gelu", acc="fp16")), x)
    assert str(raised.value) == (
        "rule 1: '*' op=gelu sets acc, which gelu has not: '1' takes input, output, fn, grad"
    )
    wide = dv.plan(model, dv.Recipe(dv.rule(op="*", input="fp16", weight="fp16", acc="fp16")), x)
    assert wide["1"].arithmetic.describe() == {"input": "fp16"}


def test_every_operator_has_a_kind_that_knows_its_slots():
    for operator_ in OPERATORS.values():
        for slot in (*operator_.slots, "output"):
            assert KINDS[operator_.kind].takes(slot)


def test_compiled_and_exported_as_in_eager():
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Softmax(-1)).eval()
    x = randn(3, 6)
    dv.apply_(model, dv.Recipe(dv.rule(op="gelu softmax", input="fp8_e4m3", output="bf16")), x)
    wanted = model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), wanted)
    exported = torch.export.export(model, (x,))
    assert torch.equal(exported.module()(x), wanted)
