"""The code blocks of DaCeML's README, with only the import lines changed; and its other names."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from compiler.onnx.exported import DATA
from dovetail.compat.daceml import onnx as donnx
from dovetail.compat.daceml.onnx import ONNXModel
from dovetail.compat.daceml.torch import DaceModule, dace_module
from dovetail.compiler.engine import load_dace
from helpers import build, randn

pytestmark = pytest.mark.filterwarnings("ignore")  # DaCe's own


def test_a_decorated_module() -> None:
    @dace_module
    class Model(nn.Module):
        def __init__(self, kernel_size):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, kernel_size)
            self.conv2 = nn.Conv2d(4, 4, kernel_size)

        def forward(self, x):
            x = F.relu(self.conv1(x))
            return F.relu(self.conv2(x))

    dace_model = Model(3)
    x = torch.rand(1, 1, 8, 8)
    outputs = dace_model(x)
    torch.testing.assert_close(outputs, dace_model.model(x))
    assert type(dace_model.sdfg).__name__ == "SDFG"


@pytest.mark.slow
def test_an_onnx_model() -> None:
    model = onnx.load(DATA / "image-dynamo.onnx")
    dace_model = ONNXModel("MyModel", model)
    test_input = randn(2, 3, 8, 8).numpy()
    output = dace_model(test_input)
    assert isinstance(output, np.ndarray)
    expected = dv.load_onnx(model)(torch.from_numpy(test_input)).detach()
    np.testing.assert_allclose(output, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert "head.weight" in dace_model.weights


@pytest.mark.slow
def test_training() -> None:
    input_size, hidden_sizes, output_size = 784, [120, 32], 10

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Linear(input_size, hidden_sizes[0]),
            nn.ReLU(),
            nn.Linear(hidden_sizes[0], hidden_sizes[1]),
            nn.ReLU(),
            nn.Linear(hidden_sizes[1], output_size),
            nn.LogSoftmax(dim=1),
        )

    criterion, losses = nn.NLLLoss(), []
    images, labels = randn(8, input_size), torch.arange(8)
    model = build(0, make)
    dace_model = DaceModule(build(0, make), backward=True)
    for each in (model, dace_model):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.01, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            loss = criterion(each(images), labels)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_an_operator_in_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dace = load_dace()

    @dace.program
    def conv_program(X_arr: dace.float32[5, 3, 10, 10], W_arr: dace.float32[16, 3, 3, 3]):
        output = dace.define_local([5, 16, 4, 4], dace.float32)
        donnx.ONNXConv(X=X_arr, W=W_arr, Y=output, strides=[2, 2])
        return output

    X, W = randn(5, 3, 10, 10), randn(16, 3, 3, 3, seed=1)
    result = conv_program(X_arr=X.numpy().copy(), W_arr=W.numpy().copy())
    np.testing.assert_allclose(result, F.conv2d(X, W, stride=2).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_hooks_run_in_their_order() -> None:
    ran: list[str] = []
    module = DaceModule(nn.Linear(3, 2), backward=True)
    module.append_post_onnx_hook("second", lambda m: ran.append(f"import {m.sdfg.name}"))
    module.prepend_post_onnx_hook("first", lambda m: ran.append("first"))
    module.append_post_autodiff_hook("both", lambda a, b: ran.append(f"{a.name} {b.name}"))
    module.append_post_compile_hook("last", lambda c: ran.append(type(c).__name__))
    with pytest.raises(dv.DovetailError, match="post_onnx hook named 'first' already"):
        module.append_post_onnx_hook("first", print)
    with pytest.raises(dv.DovetailError, match="nothing is compiled yet"):
        _ = module.sdfg
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module(torch.ones(1, 3)).sum().backward()
    forward, backward = module.sdfg.name, module.backward_sdfg.name
    assert ran == ["first", f"import {forward}", f"{forward} {backward}", "CompiledModule"]


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(dv.DovetailError, match="has no 'debug_transients' here"):
        DaceModule(nn.ReLU(), debug_transients=True)
    with pytest.raises(dv.DovetailError, match="has no 'storage' here"):
        ONNXModel("m", onnx.load(DATA / "image-dynamo.onnx"), storage=None)
    with pytest.raises(dv.DovetailError, match=r"has no 'cuda' here: .* code is for the CPU"):
        DaceModule(nn.ReLU(), cuda=True)
    with pytest.raises(AttributeError, match="ONNXConvolution"):
        _ = donnx.ONNXConvolution
