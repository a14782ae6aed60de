"""Copies of an emulated model are emulated alike and stand alone."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import dovetail as dv
from helpers import INT8, Small, build, randn, small

RECIPE = dv.Recipe(dv.rule("*", **INT8))


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
