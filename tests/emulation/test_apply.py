"""``apply_`` changes nothing but the arithmetic, and ``remove_`` undoes it exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
