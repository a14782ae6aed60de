"""ONNX operators and modules inside programs of DaCe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.compiler import onnx_ops
from dovetail.compiler.engine import load_dace
from helpers import build, randn

pytestmark = pytest.mark.filterwarnings("ignore")  # DaCe's own
dace = load_dace()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DaCe leaves its folders where it runs."""
    monkeypatch.chdir(tmp_path)


def test_an_operator_is_maps_and_library_nodes() -> None:
    @dace.program
    def program(X: dace.float32[2, 3, 8, 8], W: dace.float32[4, 3, 3, 3]):
        Y = dace.define_local([2, 4, 3, 3], dace.float32)
        Z = dace.define_local([2, 4, 3, 3], dace.float32)
        onnx_ops.Conv(X=X, W=W, Y=Y, strides=[2, 2], implementation="aten")
        onnx_ops.Relu(X=Y, Y=Z)
        return Z

    nodes = [n for n, _ in program.to_sdfg(simplify=False).all_nodes_recursive()]
    libraries = [n for n in nodes if isinstance(n, dace.nodes.LibraryNode)]
    assert [node.implementation for node in libraries] == ["aten"]
    assert any(isinstance(n, dace.nodes.MapEntry) for n in nodes)


def test_wrong_arguments_are_refused() -> None:
    @dace.program
    def shape(X: dace.float32[2, 3]):
        Y = dace.define_local([3, 3], dace.float32)
        onnx_ops.Relu(X=X, Y=Y)
        return Y

    @dace.program
    def attribute(X: dace.float32[2, 3]):
        Y = dace.define_local([2, 3], dace.float32)
        onnx_ops.LeakyRelu(X=X, Y=Y, alfa=0.1)
        return Y

    @dace.program
    def choice(X: dace.float32[2, 3], W: dace.float32[3, 4]):
        Y = dace.define_local([2, 4], dace.float32)
        onnx_ops.MatMul(A=X, B=W, Y=Y, implementation="cudnn")
        return Y

    for program, match in (
        (shape, r"'Y' has the shape \(3, 3\), not \(2, 3\)"),
        (attribute, r"unknown argument of onnx_ops.LeakyRelu 'alfa'; did you mean 'alpha'"),
        (choice, r"no implementation 'cudnn': .*aten"),
    ):
        with pytest.raises(Exception, match=match):
            program.to_sdfg()
    with pytest.raises(dv.DovetailError, match=r"is called inside a @dace.program"):
        onnx_ops.Relu(X=1, Y=2)
    with pytest.raises(AttributeError, match="Convolution"):
        _ = onnx_ops.Convolution


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["aten", "pure"])
def test_implementations_compute_the_same(implementation: str) -> None:
    @dace.program
    def program(X: dace.float32[2, 3, 8, 8], W: dace.float32[4, 3, 3, 3]):
        Y = dace.define_local([2, 4, 3, 3], dace.float32)
        T = dace.define_local([4, 2, 3, 3], dace.float32)
        onnx_ops.Conv(X=X, W=W, Y=Y, strides=[2, 2], implementation=implementation)
        onnx_ops.Transpose(data=Y, transposed=T, perm=[1, 0, 2, 3])
        return T + 1

    X, W = randn(2, 3, 8, 8), randn(4, 3, 3, 3, seed=1)
    expected = F.conv2d(X, W, stride=2).permute(1, 0, 2, 3) + 1
    result = program(X.numpy().copy(), W.numpy().copy())
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_module_is_called_and_sees_its_training() -> None:
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))).eval()
    compiled = dv.compile(model, torch.zeros(5, 6))

    @dace.program
    def program(x: dace.float32[5, 6]):
        return compiled(x * 2) + 1

    x = randn(5, 6)
    for _ in range(2):
        expected = (model(x * 2) + 1).detach().numpy()
        np.testing.assert_allclose(program(x.numpy().copy()), expected, rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            model[0].weight.mul_(2)
