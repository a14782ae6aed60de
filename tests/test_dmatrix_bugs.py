"""Defects of d-Matrix's tools, each of which a test here would catch; numbers as in their notes."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.container import transform

#: Every operation taken over, and nothing rounded: what then differs from torch is a defect.
TAKEN_OVER = dv.Recipe(
    dv.rule(op="*", input="fp32", output="fp32"),
    dv.rule(op="product", weight="fp32", optional=True),
    dv.rule(op="linear conv conv_transpose group_norm", bias="fp32", optional=True),
    dv.rule(op="elementwise", other="fp32", optional=True),
)


def taken_over(model, *example):
    dv.apply_(model, TAKEN_OVER, example)
    return model(*example)


@pytest.mark.parametrize(
    ("fmt", "given", "wanted"),
    [
        ("FP[1|4|3,10](_N)", 126.5, 60.0),
        ("FP[1|4|3,4](_N)", 1e5, 3840.0),
        ("FLOAT16", 1e6, 65504.0),
        ("FLOAT16", math.inf, 65504.0),
        ("BFP16_64", 2.0**126, 2.0**126),
        ("BFP[8|8]{64}(SU)", 1.0, 1.0),
        ("XP[8,0](CSN)", 0.5000001, 1.0),
        ("MXFP8[E4M3]{32}", 7.9999995, 7.0),  # 448 at the scale of 4, as OCP has it
    ],
)
def test_1_to_6_values(fmt, given, wanted):
    assert dv.cast(torch.tensor([given]), fmt).item() == wanted


def test_2_nan_is_not_hidden():
    assert dv.cast(torch.tensor([math.nan]), "FLOAT16").isnan().all()


def test_6_zero_blocks_are_positive_zero_and_any_axis_works():
    zeros = dv.cast(torch.zeros(4, 64), "MXFP4[E2M1]{32}")
    assert not torch.signbit(zeros).any()
    x = torch.linspace(-3, 3, 64 * 4).reshape(64, 4)
    assert torch.equal(dv.cast(x, "mxfp4", axis=0), dv.cast(x.T, "mxfp4").T)


def test_7_formats_can_be_pickled_and_do_not_change_by_use():
    fmt = dv.format("SBFP12_16")
    before = repr(fmt)
    dv.cast(torch.full((1, 16), math.nan), fmt)
    assert repr(fmt) == before
    assert pickle.loads(pickle.dumps(fmt)) == fmt


def test_8_empty_tensors_and_seeded_stochastic_rounding():
    assert dv.cast(torch.empty(0, 64), "BFP16_64").shape == (0, 64)
    x = torch.linspace(-1, 1, 256).reshape(4, 64)
    draws = [
        dv.cast(x, "BFP[4|8]{64}(SS)", generator=torch.Generator().manual_seed(7)) for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_10_loading_stays_strict_and_classes_stay_torchs():
    bases = nn.Linear.__bases__
    dv.aware()
    try:
        model = transform(nn.Linear(4, 4), "BASIC")
        model(torch.ones(1, 4))
        with pytest.raises(RuntimeError, match="Unexpected key"):
            model.load_state_dict({**model.state_dict(), "extra": torch.ones(1)})
    finally:
        dv.unaware()
    assert nn.Linear.__bases__ == bases


def test_10_importing_configures_no_logging():
    code = "import logging, dovetail; print(logging.getLogger().handlers, logging.root.level)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "30"]


def test_12_nothing_in_a_configuration_is_evaluated(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("fc: {approximation_function: 'SOFTMAX[vsimd](x=__import__(\"os\"))'}")
    with pytest.raises(dv.DovetailError, match="not public"):
        dv.Recipe.load(path)


def test_13_a_misspelt_key_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("fc: {input_formats: [SAME], input_fromat: SAME}")
    with pytest.raises(dv.DovetailError, match="unknown key 'input_fromat'; did you mean"):
        dv.Recipe.load(path)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_14_gelu_keeps_its_form(approximate):
    x = torch.linspace(-4, 4, 101)
    want = F.gelu(x, approximate=approximate)
    assert torch.equal(taken_over(nn.GELU(approximate), x), want)


def test_14_softmax_keeps_its_dtype():
    class Net(nn.Module):
        def forward(self, x):
            return F.softmax(x, dim=-1, dtype=torch.float64)

    x = torch.linspace(-4, 4, 12).reshape(3, 4)
    y = taken_over(Net(), x)
    assert y.dtype == torch.float64
    assert torch.allclose(y, F.softmax(x, dim=-1, dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1),
        nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, divisor_override=2),
        nn.MaxPool2d(3, stride=2, ceil_mode=True, dilation=1),
        nn.GroupNorm(1, 2),
        nn.Conv2d(2, 4, 3, groups=2, padding="same", padding_mode="reflect"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_14_no_argument_is_dropped(layer):
    x = torch.linspace(-2, 2, 2 * 2 * 9 * 9).reshape(2, 2, 9, 9)
    want = layer(x).detach()
    assert torch.allclose(taken_over(layer, x), want, atol=1e-6)


@pytest.mark.parametrize("kind", ["float", "bool", "causal"])
def test_15_masks_are_added_unscaled_and_hide_completely(kind):
    class Net(nn.Module):
        def forward(self, q, k, v):
            if kind == "causal":
                return F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 8) for _ in range(3))
    mask = torch.randn(5, 5) if kind == "float" else torch.ones(5, 5).tril().bool()
    want = Net()(q, k, v)
    assert torch.allclose(taken_over(Net(), q, k, v), want, atol=1e-6)


def test_18_an_emulated_model_is_pickled_and_compiled():
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    x = torch.linspace(-1, 1, 16).reshape(2, 8)
    want = taken_over(net, x)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), want)
    assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(x), want)


def test_18_modules_are_listed_before_the_first_inputs():
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    assert [op.key for op in dv.plan(net, TAKEN_OVER)] == ["0", "1"]
