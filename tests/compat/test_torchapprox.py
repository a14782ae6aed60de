"""The code of TorchApprox's documentation and benchmarks, with the import line changed, and what
its layers compute."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization as quant

import dovetail as dv
import dovetail.compat.torchapprox.layers as tal
from dovetail.compat import torchapprox
from dovetail.compat.torchapprox.operators.htp_models import (
    htp_models_mul8s,
    htp_models_mul12s,
    htp_models_mul16s,
)
from dovetail.compat.torchapprox.utils import evoapprox
from dovetail.compat.torchapprox.utils.conversion import (
    get_approx_modules,
    inplace_conversion,
    wrap_quantizable,
)
from dovetail.zoo.digits import DigitsCNN
from helpers import build, conv_loop, linear_loop, randn, random_table

TABLE = random_table(3, -3000, 3000)
# torch warns of all its eager quantisation
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def make_lut():
    x = np.arange(256)
    x[x >= 128] -= 256
    xx, yy = np.meshgrid(x, x)
    return torch.from_numpy(xx * yy).int()


def quantised():
    model = build(0, DigitsCNN)
    wrap_quantizable(model)
    quant.prepare_qat(model, tal.layer_mapping_dict(), inplace=True)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_quick_start(images):
    model = build(0, DigitsCNN)
    exact = model(images).detach()

    from dovetail.compat.torchapprox.utils import wrap_quantizable

    wrap_quantizable(model)

    import torch.ao.quantization as quant

    import dovetail.compat.torchapprox.layers as tal

    quant.prepare_qat(model, tal.layer_mapping_dict(), inplace=True)

    quantised = model(images).detach()
    assert 0 < float((quantised - exact).abs().max()) < 0.1 * float(exact.abs().max())

    import numpy as np

    from dovetail.compat.torchapprox.utils import get_approx_modules

    x = y = np.arange(256)
    xx, yy = np.meshgrid(x, y)
    lut = xx * yy

    for _, m in get_approx_modules(model):
        m.inference_mode = tal.InferenceMode.APPROXIMATE
        m.approx_op.lut = lut

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.head.wrapped.weight.detach().clone()
    model(images).square().mean().backward()
    optimizer.step()
    assert not torch.equal(before, model.head.wrapped.weight)
    assert len(get_approx_modules(model)) == 6
    assert get_approx_modules(model)[0][0] == "conv1.wrapped"


def set_bench_type(net, bench_type, lut):
    approx_modules = get_approx_modules(net)

    for _, m in approx_modules:
        if bench_type == "lut":
            m.inference_mode = tal.InferenceMode.APPROXIMATE
            m.htp_model = None
            m.approx_op.lut = lut
        elif bench_type == "baseline":
            m.inference_mode = tal.InferenceMode.QUANTIZED
        else:
            m.inference_mode = tal.InferenceMode.APPROXIMATE
            m.htp_model = bench_type[1]


def test_benchmark(images):
    net = quantised()
    net.eval()
    net(images)
    net.apply(quant.disable_observer)
    with torch.no_grad():
        set_bench_type(net, "baseline", None)
        want = net(images)
        set_bench_type(net, "lut", make_lut())
        assert torch.equal(net(images), want)
        set_bench_type(net, ("exact", htp_models_mul12s["mul12s_2PP"]), None)
        assert torch.allclose(net(images), want, atol=1e-4)
        set_bench_type(net, ("exact", htp_models_mul8s["mul8s_1KV6"]), None)
        assert torch.allclose(net(images), want, atol=1e-4)
        set_bench_type(net, ("rough", htp_models_mul8s["mul8s_1L2N"]), None)
        modelled = net(images)
        set_bench_type(net, "lut", evoapprox.lut("mul8s_1L2N"))
        assert torch.allclose(net(images), modelled, atol=1e-4)
        assert not torch.allclose(modelled, want, atol=1e-2)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_models_are_those_of_the_catalogue(bits):
    models = {8: htp_models_mul8s, 12: htp_models_mul12s, 16: htp_models_mul16s}[bits]
    assert len(models) == {8: 13, 12: 14, 16: 9}[bits]
    with pytest.raises(KeyError, match="mul8s_1KX"):
        models["mul8s_1KX"]
    for name in list(models)[1:2]:
        model, m = models[name], dv.multiplier(name)
        a, w = torch.tensor([[100.0, -3.0]]), torch.tensor([[-77.0, 51.0]])
        got = model(nn.functional.linear, a, w)
        want = int(m(100, -77)) + int(m(-3, 51))
        assert abs(float(got) - want) <= 2 * model.fidelity.max + 1e-3


LAYERS = {
    "linear": (lambda: nn.Linear(9, 4), (5, 9)),
    "linear 3-D": (lambda: nn.Linear(9, 4), (2, 5, 9)),
    "conv": (lambda: nn.Conv2d(3, 4, 3, padding=1, stride=2), (2, 3, 6, 5)),
    "groups": (lambda: nn.Conv2d(4, 8, 3, groups=4, dilation=2, bias=False), (2, 4, 6, 7)),
    "same": (lambda: nn.Conv2d(2, 3, (3, 2), padding="same"), (2, 2, 5, 5)),
    "reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 5, 5)),
}


def approximate(layer, lut, **options):
    net = inplace_conversion(nn.Sequential(copy.deepcopy(layer)))
    net[0].inference_mode = tal.InferenceMode.APPROXIMATE
    net[0].approx_op.lut = lut
    for name, value in options.items():
        setattr(net[0], name, value)
    return net


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_the_sums_of_their_table(name):
    make, shape = LAYERS[name]
    layer, x = build(0, make), randn(*shape) - 0.5
    net = approximate(layer, TABLE.table(), traced_inputs=tal.TracedGeMMInputs())
    with torch.no_grad():
        y = net(x)
    codes, w = net[0].traced_inputs.features, net[0].traced_inputs.weights
    scale, zero = net[0].x_quantizer.scale, int(net[0].x_quantizer.zero_point)
    assert zero > 0
    assert int(codes.amin()) >= 0
    assert int(codes.amax()) == 127
    if isinstance(layer, nn.Linear):
        sums = linear_loop(codes, w, TABLE) - zero * w.long().sum(1)
    else:
        window = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}
        pads = layer.padding if layer.padding_mode == "zeros" else 0
        if name == "same":
            pads = [(1, 1), (0, 1)]
        sums = conv_loop(codes, w, TABLE, padding=pads, pad_code=zero, **window)
        sums = sums - zero * w.long().sum((1, 2, 3)).view(-1, 1, 1)
    want = sums.float() * (scale * (layer.weight.abs().max() / 127))
    bias = 0 if layer.bias is None else layer.bias.view(-1, *[1] * (y.dim() - 2))
    if layer.bias is not None and isinstance(layer, nn.Linear):
        bias = layer.bias
    assert torch.allclose(y, want + bias, rtol=1e-5, atol=1e-4)
    y2 = net(x)
    assert len(net[0].traced_inputs.features) == 2 * shape[0]
    net[0].traced_inputs = None
    assert torch.equal(net(x), y2)


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_in_the_tables_place_counts_borders_and_zero_points(name):
    make, shape = LAYERS[name]
    layer, x = build(0, make), randn(*shape) - 0.5
    want = approximate(layer, "mul8s_1L2N")(x)
    got = approximate(layer, None, fast_model=htp_models_mul8s["mul8s_1L2N"])(x)
    assert torch.allclose(got, want, atol=1e-4)


def test_modes():
    layer, x = build(0, lambda: nn.Linear(16, 4)), randn(64, 16)
    net = inplace_conversion(nn.Sequential(layer))
    assert torch.equal(net(x), layer(x))
    only = get_approx_modules(net)[0][1]
    only.inference_mode = tal.InferenceMode.QUANTIZED
    quantised = net(x).detach()
    assert not torch.equal(quantised, layer(x))
    assert torch.allclose(quantised, layer(x), atol=0.1)
    only.inference_mode, only.stdev, only.mean = tal.InferenceMode.NOISE, 0.5, 3.0
    off = (net.train()(x) - quantised).detach()
    spread = float((quantised - layer.bias.detach()).std())
    assert float(off.mean()) == pytest.approx(3.0, abs=0.2 * spread)
    assert float(off.std()) == pytest.approx(0.5 * spread, rel=0.2)
    net(x).sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(net.eval()(x), quantised)
    only.inference_mode = tal.InferenceMode.APPROXIMATE
    only.approx_op.lut = None
    assert torch.equal(net(x), quantised)


@pytest.mark.parametrize("model", [None, htp_models_mul8s["mul8s_1KXF"]])
def test_gradients_pass_straight_through_where_nothing_is_clipped(model):
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    net = approximate(layer, TABLE.table(), fast_model=model)
    net(torch.tensor([[1.27, 0.0]]))
    net[0].x_quantizer.disable_observer()
    x = torch.tensor([[5.0, 0.5]], requires_grad=True)
    net(x).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([[0.0, 1.0]]))
    assert torch.allclose(net[0].weight.grad, torch.tensor([[1.27, 0.5]]), atol=0.01)


def test_conversion_keeps_parameters_and_what_is_shared(images):
    plain = build(0, DigitsCNN)
    keys, weight = list(plain.state_dict()), plain.conv1.weight
    net = inplace_conversion(plain)
    assert net is plain
    assert net.conv1.weight is weight
    assert [key for key in net.state_dict() if not key.endswith("_extra_state")] == keys
    shared = nn.Linear(3, 3)
    twice = inplace_conversion(nn.Sequential(shared, nn.ReLU(), shared))
    assert twice[0] is twice[2]
    assert isinstance(twice[0], tal.ApproxLinear)
    attention = inplace_conversion(nn.MultiheadAttention(4, 2))
    assert not get_approx_modules(attention)
    assert len(get_approx_modules(wrap_quantizable(wrap_quantizable(net)))) == 6
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    with pytest.raises(dv.DovetailError, match="remove them first"):
        tal.ApproxLinear.from_super(parametrized)


@pytest.mark.parametrize("lut", [TABLE.table(), "mul8s_1KV9", "mul12s_2PQ"])
def test_state_copies_and_pickles(images, lut):
    net = quantised()
    for _, m in get_approx_modules(net):
        m.inference_mode, m.approx_op.lut, m.stdev = tal.InferenceMode.APPROXIMATE, lut, 0.25
    net(images)
    net.eval().apply(quant.disable_observer)
    want = net(images)
    stored = io.BytesIO()
    torch.save(net.state_dict(), stored)
    stored.seek(0)
    fresh = quantised().eval()
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    assert fresh.conv1.wrapped.stdev == 0.25
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fresh):
        assert torch.equal(other(images), want)
        assert torch.equal(other(2 * images), net(2 * images))  # the range is kept


def test_observing_follows_torchs_switches():
    net = inplace_conversion(nn.Sequential(nn.Linear(4, 2)))
    layer = net[0]
    layer.inference_mode = tal.InferenceMode.QUANTIZED
    net(torch.tensor([[1.27, 0, 0, 0]]))
    first = float(layer.x_quantizer.scale)
    assert first == pytest.approx(0.01)
    net(torch.tensor([[2.54, 0, 0, 0]]))
    assert first < float(layer.x_quantizer.scale) < 0.0102
    net.apply(quant.disable_observer)
    net(torch.full((1, 4), 100.0))
    assert float(layer.x_quantizer.scale) < 0.0102
    net.apply(quant.disable_fake_quant)
    x = randn(3, 4)
    assert torch.equal(net(x), nn.functional.linear(x, layer.weight, layer.bias))
    with pytest.raises(dv.DovetailError, match="an input ranges over"):
        inplace_conversion(nn.Sequential(nn.Linear(1, 1)))(torch.tensor([[torch.inf]]))


def test_torchs_qconfig():
    observer = quant.HistogramObserver
    activation = quant.FakeQuantize.with_args(
        observer=observer, dtype=torch.quint8, quant_min=0, quant_max=255
    )
    weight = quant.FakeQuantize.with_args(
        observer=quant.PerChannelMinMaxObserver,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
        quant_min=-128,
        quant_max=127,
    )
    wrapped = tal.ApproxWrapper(nn.Linear(4, 2), quant.QConfig(activation, weight))
    config = wrapped.qconfig
    assert [str(v) for v in config] == ["uint8", "int8(full)", "histogram"]
    narrow = activation.with_args(quant_max=100)
    with pytest.raises(dv.DovetailError, match=r"codes 0\.\.100: the nearest format is 'uint7'"):
        tal.ApproxWrapper(nn.Linear(4, 2), quant.QConfig(narrow, weight))
    with pytest.raises(dv.DovetailError, match="neither dovetail's QConfig nor torch's"):
        tal.ApproxWrapper(nn.Linear(4, 2), "int8")
    with pytest.raises(dv.DovetailError, match="integer codes"):
        tal.ApproxWrapper(nn.Linear(4, 2), torchapprox.QConfig(input="bf16"))
    with pytest.raises(dv.DovetailError, match="Bilinear cannot be wrapped"):
        tal.ApproxWrapper(nn.Bilinear(4, 2, 2))
    layer = tal.ApproxLinear(4, 2, qconfig=config)
    with pytest.raises(dv.DovetailError, match=r"codes 0\.\.255"):
        layer.approx_op.lut = "mul8s_1KV9"  # takes no code above 127: theirs wrapped


def test_the_circuits():
    assert evoapprox.lut("mul8s_1KV9").tolist() == dv.multiplier("mul8s_1KV9").table().tolist()
    table = torchapprox.lut("mul8u_1JJQ")
    assert [int(table[255, 3]), int(table[3, 255]), int(table[255, 255])] == [-3, -3, 1]
    assert len(evoapprox.module_names("mul8s")) == 13
    assert evoapprox.error_map("mul8s_1KV6").any() == np.False_
    mean, deviation = evoapprox.error_distribution("mul8s_1KV9", 4)
    errors = dv.multiplier("mul8s_1KV9").errors()
    assert mean == pytest.approx(4 * errors.bias)
    assert deviation == pytest.approx(2 * errors.variance**0.5)
    for call, words in (
        (lambda: evoapprox.lut("mul8s_1KV9", bitwidth=12), "mul8s_1KV9 has bitwidth=8"),
        (lambda: evoapprox.attribute("mul8s_1KV9", "MEA"), "did you mean 'MRE'"),
        (lambda: evoapprox.attribute("mul8s_1KVX", "MAE"), "unknown circuit"),
        (lambda: evoapprox.bitwidth_from_name("drum"), "is no name like"),
    ):
        with pytest.raises(dv.DovetailError, match=words):
            call()


def test_compiled():
    net = approximate(build(0, lambda: nn.Linear(9, 4)), "mul8s_1KV9")
    x = randn(3, 9)
    net(x)
    net.apply(quant.disable_observer)
    torch._dynamo.reset()
    with torch.no_grad():
        assert torch.equal(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))
    torch._dynamo.reset()
