"""Recurrent layers and cells taken apart: torch's own result when exact, linear products else."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import dovetail as dv
from dovetail.emulation import exact, tap
from helpers import INT8, build, randn

RECIPE = dv.Recipe(dv.rule("*", **INT8))
LAYERS = {
    "lstm": lambda **o: nn.LSTM(3, 4, **o),
    "gru": lambda **o: nn.GRU(3, 4, **o),
    "rnn_tanh": lambda **o: nn.RNN(3, 4, **o),
    "rnn_relu": lambda **o: nn.RNN(3, 4, nonlinearity="relu", **o),
}
OPTIONS = [
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
]


def flat(result) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in flat(part)] if isinstance(result, (tuple, list)) else []


def same_when_exact(model, args):
    with torch.no_grad():
        wanted = flat(model(*args))
        plan = dv.apply_(model, RECIPE, args)
        with exact(model):
            got = flat(model(*args))
        emulated = flat(model(*args))
    assert len(got) == len(wanted) >= 1
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    if wanted[0].is_floating_point():
        assert not torch.allclose(emulated[0], wanted[0], rtol=0, atol=1e-6)
    for a, b in zip(emulated, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.2)
    return plan


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("given", [False, True])
def test_padded_sequences(name, options, given):
    model = build(0, lambda: LAYERS[name](**options)).eval()
    x, parts = randn(5, 2, 3), options.get("num_layers", 1) * (1 + ("bidirectional" in options))
    x = x.transpose(0, 1).contiguous() if "batch_first" in options else x
    state = randn(parts, 2, 4, seed=1)
    hx = (state, randn(parts, 2, 4, seed=2)) if name == "lstm" else state
    plan = same_when_exact(model, (x, hx) if given else (x,))
    assert [op.key for op in plan] == [f".:linear_{i}" for i in range(2 * parts)]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}])
def test_projections(options):
    model = build(0, lambda: nn.LSTM(3, 4, proj_size=2, **options)).eval()
    plan = same_when_exact(model, (randn(5, 2, 3),))
    assert len(plan) == (12 if options else 3)
    assert plan[".:linear_2"].weight_shape == (2, 4)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("given", [False, True])
def test_packed_sequences(name, options, given):
    model = build(0, lambda: LAYERS[name](**options)).eval()
    packed = pack_sequence([randn(n, 3, seed=n) for n in (2, 5, 1, 5)], enforce_sorted=False)
    parts = options.get("num_layers", 1) * (1 + ("bidirectional" in options))
    state = randn(parts, 4, 4, seed=1)
    hx = (state, randn(parts, 4, 4, seed=2)) if name == "lstm" else state
    same_when_exact(model, (packed, hx) if given else (packed,))


def test_unbatched_sequence():
    same_when_exact(build(0, lambda: nn.GRU(3, 4)).eval(), (randn(5, 3),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTMCell(3, 4),
        lambda: nn.GRUCell(3, 4),
        lambda: nn.GRUCell(3, 4, bias=False),
        lambda: nn.RNNCell(3, 4),
        lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
    ],
)
def test_cells(make):
    plan = same_when_exact(build(0, make).eval(), (randn(2, 3),))
    assert [op.key for op in plan] == [".:linear_0", ".:linear_1"]


def product(x, w, bias, sx, mul):
    """By hand: codes of both operands, the products' sum, scales, bias."""
    sw = w.abs().amax(1) / 127
    a = torch.round(x / sx).clamp(-127, 127).to(torch.int8)
    b = torch.round(w / sw[:, None]).clamp(-127, 127).to(torch.int8)
    return dv.ops.linear_codes(a, b, mul).float() * (sx * sw) + bias


@pytest.mark.parametrize("lengths", [None, [3, 2]])
def test_an_emulated_lstm_is_the_one_written_by_hand(lengths):
    mul = dv.multiplier("mul8s_1L2H@v1.1")
    model, x = build(0, lambda: nn.LSTM(3, 4)).eval(), randn(3, 2, 3)
    given = x if lengths is None else pack_padded_sequence(x, lengths)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul=mul)), given)
    with torch.no_grad():
        y, (h_n, c_n) = model(given)
        si, sh = model._dovetail_linear0_input_scale, model._dovetail_linear1_input_scale
        h, c = torch.zeros(2, 4), torch.zeros(2, 4)
        outs = []
        for t in range(3):
            n = 2 if lengths is None else sum(length > t for length in lengths)
            gates = product(x[t, :n], model.weight_ih_l0, model.bias_ih_l0, si, mul)
            gates = gates + product(h[:n], model.weight_hh_l0, model.bias_hh_l0, sh, mul)
            i, f, g, o = gates.chunk(4, 1)
            c = torch.cat([f.sigmoid() * c[:n] + i.sigmoid() * g.tanh(), c[n:]])
            h = torch.cat([o.sigmoid() * c[:n].tanh(), h[n:]])
            outs.append(h[:n])
    rows = y.flatten(0, 1) if lengths is None else y.data
    assert torch.equal(rows, torch.cat(outs))
    assert torch.equal(h_n[0], h)
    assert torch.equal(c_n[0], c)


def test_a_longer_sequence_than_the_example_needs_no_new_plan():
    model = build(0, lambda: nn.GRU(3, 4)).eval()
    dv.apply_(model, RECIPE, randn(5, 2, 3))
    assert model(randn(9, 1, 3))[0].shape == (9, 1, 4)


def test_a_rule_for_the_hidden_products_alone():
    model, x = build(0, lambda: nn.LSTM(3, 4, num_layers=2)).eval(), randn(5, 2, 3)
    recipe = dv.Recipe(dv.rule("re:.*linear_[13]", **INT8))
    plan = dv.apply_(model, recipe, x)
    assert [(op.key, op.calls, op.macs) for op in plan] == [
        (".:linear_1", 5, 5 * 2 * 16 * 4),
        (".:linear_3", 5, 5 * 2 * 16 * 4),
    ]
    seen = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model(x)
    assert seen == [".:linear_1"] * 5 + [".:linear_3"] * 5


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def test_untouched_the_fused_call_runs():
    model, x = build(0, Pair).eval(), randn(2, 5, 3)
    wanted = model.rnn(x)[0]
    dv.apply_(model, dv.Recipe(dv.rule("head", **INT8)), x)
    assert torch.equal(model.rnn(x)[0], wanted)


def test_dropout_between_layers_draws_as_torch_does():
    model, x = build(0, lambda: nn.GRU(3, 4, num_layers=3, dropout=0.4)), randn(5, 2, 3)
    results = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            results.append(model(x)[0])
        if len(results) == 1:
            dv.apply_(model, RECIPE, x)
            model.train()
            context = exact(model)
            context.__enter__()
    torch.testing.assert_close(results[1], results[0])


def test_gradients():
    model, x = build(0, lambda: nn.LSTM(3, 4, num_layers=2)), randn(5, 2, 3)
    grads = []
    for emulate in (False, True):
        if emulate:
            dv.apply_(model, dv.Recipe(dv.rule("*", input="int16", weight="int16")), x)
        model.zero_grad()
        model(x)[0].square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_copies_pickles_state_and_removal():
    model, x = build(0, Pair).eval(), randn(2, 5, 3)
    plain = model(x)
    dv.apply_(model, RECIPE, x)
    wanted = model(x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), wanted)
    dv.load_state(fresh := build(0, Pair).eval(), dv.state(model), x)
    assert torch.equal(fresh(x), wanted)
    dv.remove_(model)
    assert torch.equal(model(x), plain)


def test_an_empty_sequence_is_left_to_torch_to_refuse():
    model = build(0, lambda: nn.GRU(3, 4)).eval()
    dv.apply_(model, RECIPE, randn(5, 2, 3))
    with pytest.raises(RuntimeError, match="sequence length"):
        model(randn(0, 2, 3))


GATES = {
    "lstm": ["sigmoid_0", "sigmoid_1", "sigmoid_2", "tanh_0", "tanh_1"],
    "gru": ["sigmoid_0", "sigmoid_1", "tanh"],
    "rnn_tanh": ["tanh"],
}


@pytest.mark.parametrize("name", GATES)
def test_functions_of_the_gates_are_approximated(name):
    model, x = build(0, lambda: LAYERS[name]()).eval(), randn(5, 2, 3)
    plain = flat(model(x))
    recipe = dv.Recipe(dv.rule(op="sigmoid tanh", fn="poly3"))
    plan = dv.apply_(model, recipe, x)
    assert {op.key for op in plan} == {f".:{gate}" for gate in GATES[name]}
    for a, b in zip(flat(model(x)), plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)
        assert not torch.allclose(a, b, rtol=0, atol=1e-5)


def test_each_gate_of_each_layer_and_direction_has_its_number():
    model, x = build(0, lambda: LAYERS["lstm"](num_layers=2, bidirectional=True)), randn(5, 2, 3)
    seen = []
    recipe = dv.Recipe(dv.rule(op="sigmoid tanh", fn="poly2"))
    plan = dv.apply_(model.eval(), recipe, x)
    with tap(model, lambda op, call: seen.append(op.key)):
        model(x)
    assert sorted(set(seen)) == sorted(op.key for op in plan)
    assert len(plan) == 4 * 5
    assert seen.count(".:sigmoid_11") == 5
    assert dv.plan(build(0, LAYERS["lstm"]), dv.Recipe(dv.rule("*:tanh_1", fn="poly2")), x)


def test_one_gate_alone():
    model, x = build(0, LAYERS["lstm"]).eval(), randn(5, 2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*:sigmoid_1", fn="table(4)")), x)
    w = {n: p.detach() for n, p in model.named_parameters()}
    h, c = torch.zeros(2, 4), torch.zeros(2, 4)
    forget = dv.approximation("table(4)")
    for t in range(5):
        gates = x[t] @ w["weight_ih_l0"].T + w["bias_ih_l0"]
        gates = gates + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        i, f, g, o = gates.chunk(4, -1)
        kept = forget.compute("sigmoid", {"input": f}, {})
        c = kept * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1][1][0], c)
