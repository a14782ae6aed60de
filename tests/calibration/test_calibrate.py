"""``dv.calibrate``: ranges from the batches seen inside, or the earlier ones after an error."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from helpers import INT8, Small, build, modes, randn, small


def scale_of(model, path, kind, slot="input"):
    return getattr(model.get_submodule(path), f"_dovetail_{kind}_{slot}_scale")


def test_ranges_by_hand():
    model, _ = small(input="int8(affine)", output="int8")
    a, b = randn(4, 3, 4, 4, seed=2), randn(4, 3, 4, 4, seed=3) * 2
    with dv.calibrate(model):
        model(a)
        model(b)
    both = torch.cat([a, b])
    low, high = float(both.min()), float(both.max())
    assert float(scale_of(model, "conv", "conv")) == pytest.approx((high - low) / 255)
    assert int(model.conv._dovetail_conv_input_zero) == round(-128 - low / ((high - low) / 255))
    y = F.conv2d(both, model.conv.weight, model.conv.bias, padding=1).detach()
    wanted = float(y.abs().max()) / 127
    assert float(scale_of(model, "conv", "conv", "output")) == pytest.approx(wanted)


def test_inside_the_model_runs_exactly():
    model, x = small()
    with dv.calibrate(model):
        assert torch.equal(model(x), build(0, Small).eval()(x))


def test_one_batch_or_many_give_the_same_ranges():
    batch = randn(12, 3, 4, 4, seed=5)
    found = []
    for parts in (1, 3, 12):
        model, _ = small(input="int8(affine)")
        with dv.calibrate(model):
            for part in batch.chunk(parts):
                model(part)
        found.append({k: v for k, v in dv.state(model).items() if k.startswith("conv")})
    for other in found[1:]:
        assert all(torch.equal(found[0][k], other[k]) for k in other)


def test_the_second_operand_of_a_product_of_activations():
    class Product(nn.Module):
        def forward(self, x, y):
            return x @ y

    model, x, y = Product(), randn(3, 4), randn(4, 5, seed=1)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), (x, y))
    with dv.calibrate(model):
        model(x, y * 3)
    assert float(model._dovetail_matmul_weight_scale) == pytest.approx(
        float((y * 3).abs().max()) / 127
    )


def test_a_formats_own_observer_goes_before_the_calibrations():
    model, _ = small(input="int8(observer=percentile(50))")
    batch = randn(8, 3, 4, 4, seed=2)
    with dv.calibrate(model, "minmax"):
        model(batch)
    half = float(batch.abs().flatten().quantile(0.5))
    assert float(scale_of(model, "conv", "conv")) == pytest.approx(half / 127, rel=0.02)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_the_earlier_ranges_stay(error):
    model, x = small()
    wanted, state = model(x), dv.state(model)

    def interrupted():
        with dv.calibrate(model):
            model(x * 100)
            raise error

    with pytest.raises(error):
        interrupted()
    assert torch.equal(model(x), wanted)
    assert all(torch.equal(v, dv.state(model)[k]) for k, v in state.items())
    assert modes() == 0


def test_an_operation_that_no_batch_reached_is_named():
    model, x = small()
    wanted = model(x)
    with (
        pytest.raises(dv.DovetailError, match="fc1: no calibration batch reached its input"),
        dv.calibrate(model),
    ):
        model.conv(x)
    assert torch.equal(model(x), wanted)  # not even the range of conv has changed


def test_infinite_values_are_named():
    model, x = small()
    wanted = model(x)
    with (
        pytest.raises(dv.DovetailError, match=r"conv: its input ranged over .*inf"),
        dv.calibrate(model),
    ):
        model(torch.full_like(x, float("inf")))
    assert torch.equal(model(x), wanted)


def test_values_that_are_nan_throughout_are_named():
    model, x = small()
    with (
        pytest.raises(dv.DovetailError, match="conv: its input was NaN throughout"),
        dv.calibrate(model),
    ):
        model(torch.full_like(x, torch.nan))


def test_calibration_within_calibration_is_refused():
    model, x = small()
    with dv.calibrate(model):
        with pytest.raises(dv.DovetailError, match="being calibrated already"), dv.calibrate(model):
            pass
        model(x)


def test_a_plain_model_and_an_unknown_observer_are_refused():
    with pytest.raises(dv.DovetailError, match="not emulated"), dv.calibrate(nn.Linear(2, 2)):
        pass
    model, _ = small()
    with (
        pytest.raises(dv.DovetailError, match="unknown observer 'percentil'; did you mean"),
        dv.calibrate(model, "percentil(99)"),
    ):
        pass
    model, _ = small(input="int8(dynamic)")
    with pytest.raises(dv.DovetailError, match="unknown observer"), dv.calibrate(model, "mean"):
        pass


def test_calibration_follows_apply_without_an_example():
    model, x = nn.Sequential(build(0, lambda: nn.Linear(3, 2))), randn(4, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)))
    with dv.calibrate(model):
        model(x)
    twin = nn.Sequential(build(0, lambda: nn.Linear(3, 2)))
    dv.apply_(twin, dv.Recipe(dv.rule("*", **INT8)), x)
    assert torch.equal(model(x), twin(x))


def test_gradients_flow_and_training_mode_is_left_alone():
    model, x = small()
    model.train()
    with dv.calibrate(model):
        model(x).sum().backward()
    assert model.training
    assert model.conv.weight.grad is not None


def test_an_output_range_is_that_of_the_exact_output():
    model, x = nn.Sequential(build(0, lambda: nn.Linear(3, 2))), randn(4, 3)
    dv.apply_(model, dv.Recipe(dv.rule("*", output="int8")), x)
    y = F.linear(x, model[0].weight, model[0].bias)
    assert torch.equal(model(x), dv.cast(y, "int8", scale=y.abs().max().detach() / 127))
