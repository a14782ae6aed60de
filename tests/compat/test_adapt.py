"""The code of AdaPT's notebooks, with the import lines changed, and what its layers compute."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.compat import adapt
from dovetail.compat.adapt import collect_stats, compute_amax
from dovetail.compat.adapt.approx_layers import axx_layers as approxNN
from dovetail.compat.adapt.pytorch_quantization import calib
from dovetail.compat.adapt.pytorch_quantization import nn as quant_nn
from dovetail.zoo import data as zoo_data
from helpers import build, conv_loop, linear_loop, randn, random_table

TABLE = random_table(5, -3000, 3000)
AXX = "mul8s_1L2H"

# The notebook's own definitions, as they stand there but for the import lines and `print`.


def notebook_collect_stats(model, data_loader, num_batches):
    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.disable_quant()
                module.enable_calib()
            else:
                module.disable()

    for i, (image, _) in enumerate(data_loader):
        model(image.cpu())
        if i >= num_batches:
            break

    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer):
            if module._calibrator is not None:
                module.enable_quant()
                module.disable_calib()
            else:
                module.enable()


def notebook_compute_amax(model, **kwargs):
    for _, module in model.named_modules():
        if isinstance(module, quant_nn.TensorQuantizer) and module._calibrator is not None:
            if isinstance(module._calibrator, calib.MaxCalibrator):
                module.load_calib_amax()
            else:
                module.load_calib_amax(**kwargs)
    model.cpu()


class Model(nn.Module):
    def __init__(self, axx_mult):
        super().__init__()
        self.fc1 = approxNN.AdaPT_Linear(64, 48, axx_mult=axx_mult)
        self.bc1 = nn.BatchNorm1d(48)
        self.fc2 = approxNN.AdaPT_Linear(48, 32, axx_mult=axx_mult)
        self.bc2 = nn.BatchNorm1d(32)
        self.fc3 = approxNN.AdaPT_Linear(32, 10, axx_mult=axx_mult)

    def forward(self, x):
        x = x.view((-1, 64))
        h = F.relu(self.bc1(self.fc1(x)))
        h = F.relu(self.bc2(self.fc2(h)))
        return F.log_softmax(self.fc3(h), -1)


@pytest.fixture(scope="module")
def digits():
    return zoo_data.load("digits")


def accuracy(model, loader):
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for images, labels in loader:
            outputs = model(images)
            _, predicted = torch.max(outputs.data, 1)
            total += labels.size(0)
            correct += (predicted == labels).sum().item()
    return 100 * correct / total


def test_evaluation_and_retraining(digits):
    from dovetail.compat.adapt import train_one_epoch

    torch.manual_seed(0)
    model = Model("mul8s_1L12")  # drops six bits of the input
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(2):  # not calibrated yet: as torch computes
        train_one_epoch(model, nn.CrossEntropyLoss(), optimizer, digits.train, "cpu", epoch, 1)
    exact = accuracy(model, digits.test)
    assert exact > 85

    with torch.no_grad():
        notebook_collect_stats(model, digits.calibration, num_batches=2)
        notebook_compute_amax(model, method="percentile", percentile=99.99)
    damaged = accuracy(model, digits.test)
    assert damaged < exact - 2

    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        train_one_epoch(model, criterion, optimizer, digits.train, "cpu", epoch, 1)
    retrained = adapt.evaluate(model, criterion, digits.test, "cpu")
    assert retrained == pytest.approx(accuracy(model, digits.test))
    assert retrained > damaged


@pytest.mark.parametrize(
    "given",
    [{"method": "percentile", "percentile": 99.9}, {"method": "mse"}, {"method": "entropy"},
     {"method": "max"}, {}],
)  # fmt: skip
def test_our_functions_find_what_the_notebooks_own_do(given, digits):
    ours, theirs = (build(0, lambda: Model(AXX).eval()) for _ in range(2))
    with torch.no_grad():
        collect_stats(ours, digits.calibration, num_batches=3)
        found = compute_amax(ours, **given)
        notebook_collect_stats(theirs, digits.calibration, num_batches=2)  # one more than it says
        notebook_compute_amax(theirs, **given)
    assert len(found) == 6
    for (_, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert torch.equal(a, b)
    most = max(float(x.max()) for x, _ in digits.calibration)
    assert 0 < float(found["fc1.quantizer"]) <= most
    again = compute_amax(ours, method="max")
    assert float(again["fc1.quantizer"]) == pytest.approx(1.0)
    assert float(again["fc2.quantizer_w"]) == float(ours.fc2.weight.detach().abs().max())


LAYERS = {
    "linear": (lambda **k: approxNN.AdaPT_Linear(9, 4, **k), (5, 9)),
    "linear 3-D": (lambda **k: approxNN.AdaPT_Linear(9, 4, bias=False, **k), (2, 5, 9)),
    "conv": (lambda **k: approxNN.AdaPT_Conv2d(3, 4, 3, 2, 1, **k), (2, 3, 6, 5)),
    "groups": (lambda **k: approxNN.AdaPT_Conv2d(4, 8, 3, dilation=2, groups=2, **k), (2, 4, 6, 7)),
}


def calibrated(layer, x, method="max"):
    collect_stats(layer, [x], num_batches=1)
    compute_amax(layer, method=method)
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_the_sums_of_their_multiplier(name):
    make, shape = LAYERS[name]
    layer, x = build(0, lambda: make(axx_mult=TABLE)), randn(*shape)
    exact = copy.deepcopy(layer)(x).detach()
    with torch.no_grad():
        y = calibrated(layer, x)(x)
    scales = [float(q.amax) / 127 for q in (layer.quantizer, layer.quantizer_w)]
    a, w = ((v.detach() / s).round().long() for v, s in zip((x, layer.weight), scales, strict=True))
    if isinstance(layer, nn.Linear):
        sums, bias = linear_loop(a, w, TABLE), layer.bias
    else:
        window = (layer.stride, layer.padding, layer.dilation, layer.groups)
        sums, bias = conv_loop(a, w, TABLE, *window), layer.bias.view(-1, 1, 1)
    want = sums.float() * (scales[0] * scales[1]) + (0 if bias is None else bias)
    assert torch.allclose(y, want, rtol=1e-4, atol=1e-3)
    layer.axx_mult = "mul8s_acc"
    assert torch.allclose(layer(x), exact, atol=0.05 * float(exact.abs().max()))
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_the_generator_of_a_gan():
    def generator(**k):
        return nn.Sequential(
            approxNN.AdaPT_ConvTranspose2d(8, 6, 4, bias=False, **k),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            approxNN.AdaPT_ConvTranspose2d(6, 3, 4, 2, 1, output_padding=1, groups=3, **k),
            nn.Tanh(),
        ).eval()

    net, noise = build(0, lambda: generator(axx_mult=AXX)), randn(4, 8, 1, 1)
    exact = net(noise)
    calibrated(net, noise)
    rule = {"input": "int8", "weight": "int8(per_tensor)", "mul": "mul8s_1L2H@v1.1"}
    plain = nn.Sequential(
        nn.ConvTranspose2d(8, 6, 4, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1, output_padding=1, groups=3),
        nn.Tanh(),
    ).eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    dv.apply_(plain, dv.Recipe(dv.rule(op="conv_transpose", **rule)), noise)
    with dv.calibrate(plain):
        plain(noise)
    assert torch.equal(net(noise), plain(noise))
    assert not torch.equal(net(noise), exact)
    net(noise).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 3, "bias": False}]
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_an_lstm(options):
    make = lambda: approxNN.AdaPT_LSTM(5, 8, batch_first=True, axx_mult=AXX, **options)  # noqa: E731
    layer, x = build(0, make), randn(3, 7, 5)
    plain = build(0, lambda: nn.LSTM(5, 8, batch_first=True, **options))
    want = plain(x)[0]
    assert torch.allclose(layer(x)[0], want, atol=1e-6)
    calibrated(layer, x)
    rule = {"input": "int8", "weight": "int8(per_tensor)", "mul": "mul8s_1L2H@v1.1"}
    dv.apply_(plain, dv.Recipe(dv.rule(op="linear", **rule)), x)
    with dv.calibrate(plain):
        plain(x)
    y, states = layer(x)
    assert torch.equal(y, plain(x)[0])
    assert not torch.allclose(y, want, atol=1e-4)
    assert len(states) == 2
    packed = nn.utils.rnn.pack_padded_sequence(x, [7, 4, 2], batch_first=True)
    assert torch.equal(layer(packed)[0].data, plain(packed)[0].data)
    y.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_state_copies_and_pickles():
    layer, x = build(0, lambda: approxNN.AdaPT_Conv2d(2, 3, 3, axx_mult=TABLE)), randn(1, 2, 5, 5)
    assert list(layer.state_dict()) == ["weight", "bias"]
    want = calibrated(layer, x)(x)
    assert list(layer.state_dict()) == ["weight", "bias", "quantizer._amax", "quantizer_w._amax"]
    stored = io.BytesIO()
    torch.save(layer.state_dict(), stored)
    stored.seek(0)
    fresh = approxNN.AdaPT_Conv2d(2, 3, 3, axx_mult=TABLE)
    fresh.load_state_dict(torch.load(stored, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(other(x), want)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), want)
    torch._dynamo.reset()


def test_the_clip_has_no_gradient():
    layer = approxNN.AdaPT_Linear(2, 1, bias=False, axx_mult="mul8s_acc")
    nn.init.ones_(layer.weight)
    layer.quantizer.amax = layer.quantizer_w.amax = 1.0
    x = torch.tensor([[5.0, 0.5]], requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, torch.tensor([[0.0, 1.0]]))


def test_headers(tmp_path):
    table = dv.multiplier("mul8s_1L2H@v1.1").table().tolist()
    rows = ",\n".join("{" + ", ".join(map(str, row)) + "}" for row in table)
    path = tmp_path / "mul8s_mine.h"
    path.write_text(f"#include <stdint.h>\nconst int16_t lut [256][256] = {{{rows}}};\n")
    x = randn(3, 6)
    want = calibrated(build(0, lambda: approxNN.AdaPT_Linear(6, 4, axx_mult=AXX)), x)(x)
    mine = calibrated(build(0, lambda: approxNN.AdaPT_Linear(6, 4, axx_mult=str(path))), x)
    assert torch.equal(mine(x), want)
    assert mine.axx_mult == str(path)


def test_refusals():
    linear = approxNN.AdaPT_Linear
    unseen = linear(2, 1)
    for call, words in (
        (lambda: linear(2, 1, axx_mult="mul8s_1L2X"), "did you mean 'mul8s_1L2"),
        (lambda: linear(2, 1, axx_mult="mul8u_1JJQ"), "mul8u_1JJQ"),
        (lambda: compute_amax(unseen), "quantizer: nothing was collected"),
        (lambda: calibrated(linear(2, 1), randn(1, 2), "kl2"), "unknown method 'kl2'"),
        (lambda: calibrated(linear(2, 1), torch.full((1, 2), np.inf)), "ranges over"),
        (lambda: collect_stats(nn.Linear(2, 1), [], 1), "no layer of AdaPT's"),
        (lambda: setattr(unseen.quantizer, "amax", 0), "above 0"),
    ):
        with pytest.raises(dv.DovetailError, match=words):
            call()
