"""``state`` and ``load_state``: everything emulation adds, in tensors."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import dovetail as dv
from helpers import INT8, Small, build, randn, random_table, small


def test_round_trip_through_a_file_into_a_fresh_model(tmp_path):
    model, x = small(input="int8(affine)", output="int8", mul="mul8s_1L2H@v1.1", acc="int24")
    with dv.calibrate(model, "percentile(99)"):
        model(randn(8, 3, 4, 4, seed=4))
    save_file(dv.state(model), tmp_path / "state.safetensors")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    fresh = build(99, Small).eval()
    fresh.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    dv.load_state(fresh, load_file(tmp_path / "state.safetensors"), x)
    assert torch.equal(fresh(x), model(x))
    assert {k: v.tolist() for k, v in dv.state(fresh).items()} == {
        k: v.tolist() for k, v in dv.state(model).items()
    }


def test_bare_modules_need_no_example():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    x = randn(2, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    fresh = nn.Sequential(nn.Linear(3, 2))
    fresh.load_state_dict(model.state_dict())
    dv.load_state(fresh, dv.state(model))
    assert torch.equal(fresh(x), model(x))


def test_the_users_state_dict_has_no_part_in_it():
    model, _ = small()
    assert list(model.state_dict()) == list(build(0, Small).state_dict())
    assert not set(dv.state(model)) & set(model.state_dict())


def test_names_and_dtypes():
    model, _ = small()
    found = dv.state(model)
    assert found["conv.input.scale"].dtype == torch.float32
    assert found["conv.input.zero"].dtype == torch.int32
    assert set(found) == {"dovetail.recipe"} | {
        f"{key}.{slot}.{part}"
        for key, slots in {
            "conv": ["input"],
            "fc1": ["input"],
            "fc2": ["input"],
            ".:matmul": ["input", "weight"],
        }.items()
        for slot in slots
        for part in ("scale", "zero")
    }


def test_a_state_is_a_copy():
    model, x = small()
    found, wanted = dv.state(model), model(x)
    found["conv.input.scale"].mul_(100)
    assert torch.equal(model(x), wanted)
    dv.remove_(model)
    dv.load_state(model, dv.state(small()[0]), x)
    found = dv.state(small()[0])
    fresh = build(0, Small).eval()
    dv.load_state(fresh, found, x)
    found["conv.input.scale"].mul_(100)
    assert torch.equal(fresh(x), wanted)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda s: s.pop("dovetail.recipe"),
            "this is no dovetail state: it has no 'dovetail.recipe'",
        ),
        (
            lambda s: s.pop("conv.input.scale"),
            "the saved state has no range for the input of conv",
        ),
        (
            lambda s: s.update({"convX.input.scale": torch.ones(())}),
            "the saved state has values for no operation: convX.input.scale",
        ),
    ],
)
def test_refusals_leave_the_model_plain(spoil, message):
    model, x = small()
    saved = dv.state(model)
    spoil(saved)
    fresh = build(0, Small).eval()
    with pytest.raises(dv.DovetailError) as raised:
        dv.load_state(fresh, saved, x)
    assert message in str(raised.value)
    assert type(fresh) is Small
    assert not [name for name, _ in fresh.named_buffers()]


def test_a_model_without_emulation_has_no_state():
    with pytest.raises(dv.DovetailError, match=r"this model is not emulated: call dv\.apply_"):
        dv.state(nn.Linear(2, 2))


def test_a_multiplier_made_from_the_users_table_is_found_again_in_this_process():
    table = random_table(11, -99, 99)
    model, x = small(mul=table)
    fresh = build(0, Small).eval()
    dv.load_state(fresh, dv.state(model), x)
    assert torch.equal(fresh(x), model(x))


def test_missing_ranges_are_not_saved_and_then_refused():
    model = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)))
    assert set(dv.state(model)) == {"dovetail.recipe"}
    with pytest.raises(dv.DovetailError, match="no range for the input of 0"):
        dv.load_state(nn.Sequential(nn.Linear(3, 2)), dv.state(model))
