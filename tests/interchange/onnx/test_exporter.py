"""`dv.export` to ONNX: standard operators, the emulation's bits, nothing that is not compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.interchange.onnx import exporter as exporter_module
from helpers import Small, randn

EXAMPLE = randn(3, 3, 4, 4)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[nn.Module, Path, dv.Exported]:
    torch.manual_seed(0)
    model = Small().eval()
    recipe = dv.Recipe(
        dv.rule("*", input="int8", weight="int8", mul="mul8s_1L2H@v1.1", acc="int16"),
        dv.rule("fc1", input="int8(affine)", output="fp8_e4m3"),
    )
    dv.apply_(model, recipe, EXAMPLE)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    return model, path, dv.export(model, path, EXAMPLE)


def test_every_bit_is_the_emulations(written) -> None:
    _, path, result = written
    assert result.is_equal
    assert result.files == (path,)
    kinds = [row.kind for row in result.compared]
    assert kinds == ["conv", "linear", "cast", "linear", "matmul", "output"]
    assert result.to_dict()["compared"][-1]["name"] == "output"


def test_another_runtime_needs_no_operator_but_onnx_s(written) -> None:
    model, path, _ = written
    proto = onnx.load(path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: EXAMPLE.numpy()})
    with torch.no_grad():
        assert np.array_equal(y, model(EXAMPLE).numpy())
    assert "mul8s_1L2H@v1.1" in proto.metadata_props[0].value


def test_the_file_read_again_has_the_same_bits(written) -> None:
    model, path, _ = written
    again = dv.load_onnx(path)
    with torch.no_grad():
        assert torch.equal(again(EXAMPLE), model(EXAMPLE))


def test_without_verify_nothing_is_compared_and_the_model_is_left_as_it_was(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(exporter_module, "compared_functions", None)
    monkeypatch.setattr(exporter_module, "compared_outputs", None)
    layer = nn.Sequential(nn.Linear(4, 2), nn.Dropout()).train()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    state = torch.get_rng_state()
    result = dv.export(layer, tmp_path / "exact.onnx", randn(2, 4), verify=False)
    assert layer.training
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert result.facts["emulated"] == 0
    assert result.compared == ()
    assert not result.is_equal
    assert "not compared" in str(result)


def test_an_approximated_function_has_the_bits_of_the_emulation(tmp_path: Path) -> None:
    model, x = nn.GELU(), randn(4, 8)
    dv.apply_(model, dv.Recipe(dv.rule(op="gelu", fn="pwl(16, fp16)")), x)
    assert dv.export(model, tmp_path / "gelu.onnx", x).is_equal


def test_several_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
            return {"sum": self.fc(first) + second, "same": second * 2}

    model, example = Two(), {"first": randn(3, 4), "second": randn(3, 2)}
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), example)
    result = dv.export(model, tmp_path / "two.onnx", example, verify=True)
    assert [row.name for row in result.compared] == ["fc", "output_0", "output_1"]


def different(*_: object) -> list[dv.Compared]:
    return [dv.Compared("fc", "linear", 10, 2, 0.5)]


@pytest.mark.parametrize("step", ["compared_functions", "compared_outputs"])
def test_what_differs_is_not_written(tmp_path: Path, monkeypatch, step: str) -> None:
    monkeypatch.setattr(exporter_module, step, different)
    with pytest.raises(dv.DovetailError, match=r"nothing was written.*2 of 10 numbers differ"):
        dv.export(nn.Linear(2, 2), tmp_path / "m.onnx", randn(1, 2))
    assert list(tmp_path.iterdir()) == []


def test_outputs_within_the_tolerance_are_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporter_module, "compared_outputs", different)
    result = dv.export(nn.Linear(2, 2), tmp_path / "m.onnx", randn(1, 2), tolerance=0.6)
    assert not result.is_equal
    assert "differ, by up to 0.5 of the largest" in str(result)


def test_an_operator_that_torch_cannot_write_is_refused(tmp_path: Path) -> None:
    class Bits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(torch.int32).float()

    with pytest.raises(dv.DovetailError, match=r"torch.onnx cannot write.*aten.view"):
        dv.export(Bits(), tmp_path / "m.onnx", randn(4))
    assert list(tmp_path.iterdir()) == []


def test_a_model_on_another_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dv.DovetailError, match=r"the model is on meta.*model.cpu\(\) first"):
        dv.export(nn.Linear(2, 2, device="meta"), tmp_path / "m.onnx", randn(1, 2))


def test_a_model_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(dv.DovetailError, match=r"torch.export cannot trace this Branches"):
        dv.export(Branches(), tmp_path / "m.onnx", randn(4))


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), "1%"])
def test_a_tolerance_is_a_number(tmp_path: Path, tolerance) -> None:
    with pytest.raises(dv.DovetailError, match="is a number from 0 on"):
        dv.export(nn.Linear(2, 2), tmp_path / "m.onnx", randn(1, 2), tolerance=tolerance)
