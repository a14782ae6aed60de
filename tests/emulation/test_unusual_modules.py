"""Modules that are more than parameters and a ``forward``."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrizations

import dovetail as dv
from dovetail.emulation import tap
from helpers import INT8, Small, build, randn, small

RECIPE = dv.Recipe(dv.rule("*", **INT8))


def hooked(layer: nn.Module) -> nn.Module:
    old = layer.forward

    @functools.wraps(old)
    def forward(module, *args, **kwargs):
        return old(*args, **kwargs) + 1

    layer.forward = functools.update_wrapper(functools.partial(forward, layer), old)
    return layer


def test_a_forward_that_is_an_instance_attribute():
    layer = hooked(build(0, lambda: nn.Linear(3, 2)))
    model, x = nn.Sequential(layer), randn(4, 3)
    plain, installed = model(x), layer.__dict__["forward"]
    reference = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(reference, RECIPE, x)
    dv.apply_(model, RECIPE, x)
    assert torch.equal(model(x), reference(x) + 1)
    dv.remove_(model)
    assert layer.__dict__["forward"] is installed
    assert torch.equal(model(x), plain)


def test_copies_of_a_forward_that_is_an_instance_attribute_use_their_own_weights():
    model, x = nn.Sequential(hooked(build(0, lambda: nn.Linear(3, 2)))), randn(4, 3)
    dv.apply_(model, RECIPE, x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))


def test_graph_module():
    graph = fx.symbolic_trace(build(0, Small).eval())
    x = randn(2, 3, 4, 4)
    plain = graph(x)
    dv.apply_(graph, RECIPE, x)
    wanted, _ = small()
    assert torch.equal(graph(x), wanted(x))
    graph.recompile()
    assert graph(x).shape == plain.shape
    dv.remove_(graph)
    assert torch.equal(graph(x), plain)
    graph.recompile()
    assert torch.equal(graph(x), plain)


@pytest.mark.parametrize("again", [copy.deepcopy, pickle.dumps])
def test_an_emulated_graph_module_refuses_to_be_copied(again):
    """torch would copy its graph alone: an exact model, silently."""
    graph, x = fx.symbolic_trace(build(0, Small).eval()), randn(2, 3, 4, 4)
    dv.apply_(graph, RECIPE, x)
    with pytest.raises(dv.DovetailError, match=r"GraphModule cannot be copied or pickled: copy it"):
        again(graph)
    dv.remove_(graph)
    copy.deepcopy(graph)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_script_modules_are_refused():
    model = nn.Sequential(torch.jit.script(nn.Linear(3, 2)))
    with pytest.raises(
        dv.DovetailError, match=r"'0' is compiled by torch.jit.script.*before scripting"
    ):
        dv.plan(model, RECIPE, randn(1, 3))


@pytest.mark.parametrize(
    "norm",
    [parametrizations.orthogonal, parametrizations.weight_norm, parametrizations.spectral_norm],
)
def test_parametrized_weights_are_computed_exactly(norm):
    """Orthogonal and spectral norm multiply matrices while making the weight: that stays exact."""
    layer = build(0, lambda: norm(nn.Linear(4, 4))).eval()
    x = randn(3, 4)
    plain, weight = layer(x), layer.weight.detach().clone()
    model = nn.Sequential(layer)
    plan = dv.apply_(model, RECIPE, x)
    assert [op.key for op in plan] == ["0"]
    assert torch.equal(layer.weight, weight)
    fixed = nn.Linear(4, 4)
    fixed.load_state_dict({"weight": weight, "bias": layer.bias.detach()})
    twin = nn.Sequential(fixed)
    dv.apply_(twin, RECIPE, x)
    assert torch.equal(model(x), twin(x))
    dv.remove_(model)
    assert torch.equal(layer(x), plain)


def test_parametrizing_an_emulated_module():
    layer, x = build(0, lambda: nn.Linear(4, 4)).eval(), randn(3, 4)
    model = nn.Sequential(layer)
    dv.apply_(model, RECIPE, x)
    parametrizations.weight_norm(layer)
    assert model(x).shape == (3, 4)
    dv.remove_(model)
    fresh = parametrizations.weight_norm(build(0, lambda: nn.Linear(4, 4))).eval()
    assert torch.equal(model(x), fresh(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first

    def forward(self, x):
        return self.second(self.first(x))


def test_shared_modules_alike():
    model, x = build(0, Tied), randn(2, 3)
    plan = dv.apply_(model, RECIPE, x)
    assert [(op.key, op.calls) for op in plan] == [("first", 2)]
    dv.remove_(model)
    assert type(model.first) is nn.Linear


def test_a_rule_may_name_a_shared_module_by_either_path():
    for match in ("first", "second"):
        model, x = build(0, Tied), randn(2, 3)
        with pytest.raises(dv.DovetailError) as raised:
            dv.plan(model, dv.Recipe(dv.rule(match, **INT8)), x)
        assert "'first' and 'second' are one shared module" in str(raised.value)


def test_shared_modules_in_conflict():
    model, x = build(0, Tied), randn(2, 3)
    recipe = dv.Recipe(dv.rule("*", **INT8), dv.rule("second", weight="int4"))
    with pytest.raises(dv.DovetailError) as raised:
        dv.plan(model, recipe, x)
    assert (
        "'first' and 'second' are one shared module, but the rules give them different arithmetic: "
        "match both alike" in str(raised.value)
    )


def encoder() -> nn.Module:
    return build(
        0, lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    ).eval()


def test_transformer_encoder_layers_do_not_take_their_fused_path():
    model, x = encoder(), randn(2, 5, 8)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*.linear?", **INT8)), x)
    keys = [op.key for op in plan]
    assert keys == [f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)]
    assert "layers.0.self_attn:matmul_1" in plan.left_exact
    for grad in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        seen = []
        with grad(), tap(model, lambda op, call, seen=seen: seen.append(op.key)):
            model(x)
        assert seen == keys
    wanted = encoder()(x)
    dv.remove_(model)
    with torch.no_grad():
        assert torch.equal(model(x), encoder()(x))
    assert torch.allclose(model(x), wanted, atol=1e-5)


def test_transformer_encoder_with_a_padding_mask():
    model, x = encoder(), randn(2, 5, 8)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    example = {"src": x, "src_key_padding_mask": mask}
    keys = [op.key for op in dv.apply_(model, dv.Recipe(dv.rule("*.linear?", **INT8)), example)]
    seen = []
    with torch.no_grad(), tap(model, lambda op, call: seen.append(op.key)):
        model(x, src_key_padding_mask=mask)
    assert seen == keys


def test_copies_of_an_encoder_are_removed_alike():
    model, x = encoder(), randn(2, 5, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*.linear?", **INT8)), x)
    twin = copy.deepcopy(model)
    dv.remove_(twin)
    assert all(not m._forward_hooks for m in twin.modules())
    assert twin.use_nested_tensor
    assert all(m._forward_hooks for m in model.layers)
