"""``apply_`` changes nothing but the arithmetic, and ``remove_`` undoes it exactly."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import dovetail as dv
from dovetail.emulation import tap
from helpers import INT8, Small, build, modes, randn, small

RECIPE = dv.Recipe(dv.rule("*", **INT8))


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that emulation promises to leave or to restore."""
    return {
        "classes": [type(m) for m in model.modules()],
        "state": {k: (v.clone(), v.data_ptr()) for k, v in model.state_dict().items()},
        "buffers": [k for k, _ in model.named_buffers()],
        "parameters": [(k, id(v)) for k, v in model.named_parameters()],
        "attributes": [sorted(k for k in m.__dict__) for m in model.modules()],
        "hooks": [len(m._forward_hooks) for m in model.modules()],
        "training": [m.training for m in model.modules()],
        "repr": repr(model),
        "rng": torch.get_rng_state(),
    }


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    for name in before:
        if name == "state":
            assert list(before[name]) == list(after[name])
            for key, (value, place) in before[name].items():
                assert torch.equal(value, after[name][key][0])
                assert place == after[name][key][1]
        elif name == "rng":
            assert torch.equal(before[name], after[name])
        else:
            assert before[name] == after[name], name


def mixed() -> nn.Module:
    """Submodules in different modes, dropout, batch norm: what a careless run would change."""
    model = build(
        0,
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
        ),
    )
    model.train()
    model[1].eval()
    return model


def test_remove_restores_everything():
    model, x = mixed().eval(), randn(2, 3, 4, 4)
    before, wanted = snapshot(model), model(x)
    dv.apply_(model, RECIPE, x)
    assert not torch.equal(model(x), wanted)
    with dv.calibrate(model):
        model(x)
    dv.remove_(model)
    assert_same(before, snapshot(model))
    assert torch.equal(model(x), wanted)


def test_a_plan_leaves_everything():
    model, x = mixed(), randn(2, 3, 4, 4)
    before = snapshot(model)
    dv.plan(model, RECIPE, x)
    assert_same(before, snapshot(model))
    assert modes() == 0


def test_apply_leaves_the_state_dict_the_modes_and_the_random_state():
    model, x = mixed(), randn(2, 3, 4, 4)
    before = snapshot(model)
    dv.apply_(model, RECIPE, x)
    after = snapshot(model)
    for name in ("state", "parameters", "training", "repr", "rng"):
        assert_same({name: before[name]}, {name: after[name]})
    assert isinstance(model[0], nn.Conv2d)
    assert type(model[0]).__name__ == "Conv2d"
    model.load_state_dict({k: v[0] for k, v in before["state"].items()}, strict=True)


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        self.fc(x)
        raise RuntimeError("on purpose")


@pytest.mark.parametrize(
    ("make", "recipe", "example"),
    [
        (mixed, dv.Recipe(dv.rule("nothing", **INT8)), randn(1, 3, 4, 4)),
        (
            mixed,
            dv.Recipe(dv.rule("*", input="int8", weight="int12", mul="mul8s_1KV9")),
            randn(1, 3, 4, 4),
        ),
        (mixed, RECIPE, randn(1, 1, 4, 4)),  # the model itself refuses this example
        (mixed, RECIPE, randn(1, 3, 4, 4) * float("nan")),
        (lambda: nn.Sequential(Fails()), RECIPE, randn(1, 3)),
        (
            lambda: nn.Sequential(torch.jit.script(nn.Linear(3, 2)), nn.Linear(2, 2)),
            RECIPE,
            randn(1, 3),
        ),
    ],
    ids=["unmatched", "unfit", "shape", "nan", "raises", "script"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_after_an_error_nothing_is_half_applied(make, recipe, example):
    model = make()
    before = snapshot(model)
    with pytest.raises((dv.DovetailError, RuntimeError)):
        dv.apply_(model, recipe, example)
    assert_same(before, snapshot(model))
    assert modes() == 0


def test_applying_twice_is_refused():
    model, x = small()
    with pytest.raises(dv.DovetailError) as raised:
        dv.apply_(model, RECIPE, x)
    assert "'.' is emulated already: call dv.remove_ on it first" in str(raised.value)
    outer = nn.Sequential(nn.Flatten(0, 0), model)
    with pytest.raises(dv.DovetailError, match=r"'1' is emulated already"):
        dv.plan(outer, RECIPE, x)


def test_removing_from_a_plain_model_and_twice_does_nothing():
    model, x = small()
    dv.remove_(model)
    before = snapshot(model)
    dv.remove_(model)
    assert_same(before, snapshot(model))
    dv.apply_(model, RECIPE, x)


def test_remove_from_a_part_leaves_the_rest():
    model, x = small()
    conv = model.conv
    dv.remove_(conv)
    assert type(conv) is nn.Conv2d
    seen = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model(x)
    assert seen == ["fc1", "fc2", ".:matmul"]


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        copy.copy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: copy.deepcopy(copy.deepcopy(m)),
    ],
    ids=["deepcopy", "copy", "pickle", "deepcopy-twice"],
)
def test_copies_are_emulated_alike(again):
    model, x = small(mul="mul8s_1L2H@v1.1")
    twin = again(model)
    assert torch.equal(twin(x), model(x))
    assert list(twin.state_dict()) == list(model.state_dict())
    assert [type(m) for m in twin.modules()] == [type(m) for m in model.modules()]
    if again is not copy.copy:
        with torch.no_grad():
            twin.fc1.weight.zero_()
        assert not torch.equal(twin(x), model(x))
        dv.remove_(twin)
        assert torch.equal(model(x), small(mul="mul8s_1L2H@v1.1")[0](x))
        assert torch.equal(twin.conv(x), build(0, Small).conv(x))


def test_torch_save_and_load(tmp_path):
    model, x = small(input="int8(affine)")
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(x), model(x))
    dv.remove_(loaded)
    assert torch.equal(loaded(x), build(0, Small).eval()(x))


def test_a_copy_does_not_share_calibration_with_the_original():
    model, x = small()
    twin = copy.deepcopy(model)
    wanted = model(x)
    with dv.calibrate(twin):
        twin(x * 100)
        assert torch.equal(model(x), wanted)  # the original is not being calibrated
    assert torch.equal(model(x), wanted)
    assert not torch.equal(twin(x), wanted)


def test_moving_between_floating_dtypes_keeps_ranges_in_float32():
    model, x = small(input="int8(affine)")
    scale, zero = (
        getattr(model.conv, f"_dovetail_conv_input_{n}").clone() for n in ("scale", "zero")
    )
    for convert in (model.bfloat16, model.half, model.double, model.float):
        convert()
        assert model.conv._dovetail_conv_input_scale.dtype == torch.float32
        assert model.conv._dovetail_conv_input_zero.dtype == torch.int32
        assert torch.equal(model.conv._dovetail_conv_input_scale, scale)
        assert torch.equal(model.conv._dovetail_conv_input_zero, zero)
    assert model(x).dtype == torch.float32
    assert model.double().conv(x.double()).dtype == torch.float64
    assert model.to(torch.bfloat16).conv(x.bfloat16()).dtype == torch.bfloat16


def test_a_meta_copy_keeps_its_buffers_on_the_device():
    model, _ = small()
    assert copy.deepcopy(model).to("meta").conv._dovetail_conv_input_scale.device.type == "meta"


class Attribute(nn.Linear):
    """``forward`` replaced on the instance, as accelerate's hooks do it."""


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


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_module_gives_the_same_gradients(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
            self.on = False

        def forward(self, x):
            return checkpoint(self.body, x, use_reentrant=reentrant) if self.on else self.body(x)

    model, x = build(0, Checkpointed), randn(3, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1L2H@v1.1")), x)
    grads = []
    for model.on in (False, True):
        model.zero_grad()
        leaf = x.clone().requires_grad_()
        y = model(leaf)
        y.square().sum().backward()
        grads.append([y.detach(), leaf.grad, *(p.grad.clone() for p in model.parameters())])
    for plain, recomputed in zip(*grads, strict=True):
        assert torch.equal(plain, recomputed)


def test_replicas_run_their_own_weights():
    """What DataParallel does: ``_replicate_for_data_parallel`` shares ``__dict__``, not modules."""
    layer, x = build(0, lambda: nn.Linear(3, 2)), randn(4, 3)
    model = nn.Sequential(layer)
    dv.apply_(model, RECIPE, x)
    replica = layer._replicate_for_data_parallel()
    replica.weight = layer.weight.detach() * 0
    replica.bias = layer.bias.detach() * 0
    replica._dovetail_linear_input_scale = layer._dovetail_linear_input_scale
    assert torch.equal(replica(x), torch.zeros(4, 2))
    assert not torch.equal(layer(x), torch.zeros(4, 2))


def test_fresh_instances_of_the_derived_class_are_plain():
    model, _ = small()
    other = type(model.fc1)(3, 2)
    x = randn(4, 3)
    assert torch.equal(other(x), nn.functional.linear(x, other.weight, other.bias))


def test_example_as_tensor_tuple_and_mapping():
    class Two(nn.Module):
        def forward(self, x, y, *, scale=1.0):
            return x @ y * scale

    x, y = randn(2, 3), randn(3, 4)
    for example in ((x, y), {"x": x, "y": y, "scale": 2.0}):
        assert [o.key for o in dv.plan(Two(), RECIPE, example)] == [".:matmul"]


def test_without_an_example_ranges_are_missing_and_the_first_forward_says_so():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    plan = dv.apply_(model, RECIPE)
    assert plan.ranges == "missing"
    with pytest.raises(dv.DovetailError) as raised:
        model(randn(1, 3))
    assert str(raised.value) == (
        "0: the range of its input is not known. Calibrate it with 'with dv.calibrate(model): "
        "model(batch)', or give apply_ an example; a format such as 'int8(dynamic)' needs neither"
    )
    assert modes() == 0


def test_an_empty_example_gives_no_ranges():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(model, RECIPE, torch.empty(0, 3))
    with pytest.raises(dv.DovetailError, match="range of its input is not known"):
        model(randn(1, 3))


def test_dynamic_formats_need_no_ranges():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8(dynamic)", weight="int8")))
    x = randn(4, 3)
    wanted = nn.Sequential(model[0])
    assert torch.allclose(
        model(x), nn.functional.linear(x, model[0].weight, model[0].bias), atol=0.1
    )
    assert not [name for name, _ in wanted.named_buffers()]


def test_modules_without_rules_get_no_entry():
    model, x = build(0, Small).eval(), randn(2, 3, 4, 4)
    dv.apply_(model, dv.Recipe(dv.rule("fc1", **INT8)), x)
    assert type(model) is Small
    assert type(model.conv) is nn.Conv2d
    assert type(model.fc1) is not nn.Linear


def test_a_recipe_that_asks_nothing_changes_nothing():
    model, x = build(0, Small).eval(), randn(2, 3, 4, 4)
    before = snapshot(model)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", mul="exact")), x)
    assert not list(plan)
    assert_same(before, snapshot(model))
