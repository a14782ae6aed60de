"""Golden vectors: what stands in the files explains what the emulation gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.interchange.golden import exporter as exporter_module
from dovetail.interchange.golden.memory import read_image
from helpers import Small, conv_loop, randn
from onnx_functions import emulated, layer


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> tuple[nn.Module, torch.Tensor, Path, dv.Exported]:
    torch.manual_seed(0)
    model, x = Small().eval(), randn(6, 3, 4, 4)
    recipe = dv.Recipe(
        dv.rule("*", input="int8", weight="int8", mul="mul8s_1KV9", acc="int20"),
        dv.rule("fc2", input="fp8_e4m3", weight="fp8_e4m3", mul="exact", acc="fp16"),
    )
    dv.apply_(model, recipe, x)
    path = tmp_path_factory.mktemp("golden") / "vectors"
    return model, x, path, dv.export(model, path, x, to="golden", vectors=4)


def manifest(path: Path) -> dict:
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


def test_the_network_s_inputs_and_outputs(vectors) -> None:
    model, x, path, result = vectors
    assert result.is_equal
    assert result.facts == {"vectors": 4, "calls": 4}
    with np.load(path / "network.npz") as held, torch.no_grad():
        assert np.array_equal(held["input_0"], x[:4].numpy())
        assert np.array_equal(held["output_0"], model(x[:4]).numpy())


def test_the_sums_follow_from_the_codes_by_the_definition(vectors) -> None:
    _, _, path, _ = vectors
    entry = manifest(path)["operations"][0]
    assert entry["operation"] == "conv"
    assert entry["arithmetic"]["mul"] == "mul8s_1KV9@v2022"
    with np.load(path / entry["file"]) as held:
        a, w = (torch.from_numpy(held[key]) for key in ("input_codes", "weight_codes"))
        expected = conv_loop(a, w, dv.multiplier("mul8s_1KV9"), padding=1)
        assert torch.equal(torch.from_numpy(held["sums"]).long(), expected)
        scale = float(held["input_scale"]) * torch.from_numpy(held["weight_scale"]).double()
        y = expected.double() * scale.view(-1, 1, 1) + torch.from_numpy(held["bias"]).view(-1, 1, 1)
        assert torch.allclose(y, torch.from_numpy(held["raw"]).double(), rtol=1e-5, atol=1e-6)


def test_memory_images_hold_the_codes(vectors) -> None:
    _, _, path, _ = vectors
    entry = manifest(path)["operations"][1]
    with np.load(path / entry["file"]) as held:
        for key, image in entry["images"].items():
            codes = read_image(path / image["file"], image["bits"], image["signed"])
            assert np.array_equal(codes, held[key].ravel())
    assert entry["images"]["sums"]["bits"] == 20
    first = (path / entry["images"]["input_codes"]["file"]).read_text(encoding="ascii").splitlines()
    assert first[0] == "// fc1: input_codes [4, 64], row-major, 8 bits"
    assert all(len(line) == 2 for line in first[1:])


def test_other_operations_are_held_as_numbers(vectors) -> None:
    _, _, path, _ = vectors
    entry = manifest(path)["operations"][2]
    assert sorted(entry["arrays"]) == ["input", "output", "raw", "weight"]
    assert "images" not in entry


@pytest.mark.parametrize("kind", ["linear", "matmul", "grouped", "conv1d", "transposed"])
@pytest.mark.parametrize(
    "fields",
    [
        {"input": "int8(affine)", "weight": "int8(affine)", "acc": "int16(saturate)"},
        {"input": "uint4(dynamic)", "weight": "int6", "mul": "exact", "output": "bf16"},
        {"input": "int12", "weight": "int12", "acc": "fp16"},
    ],
    ids=["affine", "dynamic", "floating register"],
)
def test_every_kind_of_layer(tmp_path: Path, kind: str, fields) -> None:
    model, example = layer(kind)
    emulated(model, *example, **fields)
    result = dv.export(model, tmp_path / "v", example, to="golden", hexadecimal=False)
    assert result.is_equal
    assert not list((tmp_path / "v").glob("*.hex"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_numbers(tmp_path: Path, dtype: torch.dtype) -> None:
    model, x = nn.Linear(8, 3).to(dtype), randn(4, 8).to(dtype)
    emulated(model, x, input="int8", weight="int8")
    assert dv.export(model, tmp_path / "v", x, to="golden").is_equal


def test_a_folder_of_vectors_is_written_anew(vectors, tmp_path: Path) -> None:
    model, x, _, _ = vectors
    place = tmp_path / "v"
    dv.export(model, place, x, to="golden", vectors=2)
    dv.export(model, place, x, to="golden", vectors=1, hexadecimal=False)
    assert len(list(place.iterdir())) == 6
    (place / "manifest.json").unlink()
    with pytest.raises(dv.DovetailError, match="other files than golden vectors; name another"):
        dv.export(model, place, x, to="golden")


def test_vectors_that_do_not_agree_are_not_written(vectors, tmp_path: Path, monkeypatch) -> None:
    model, x, _, _ = vectors
    monkeypatch.setattr(exporter_module, "rescaled", lambda kind, held, *_: held["raw"] + 1)
    with pytest.raises(dv.DovetailError, match=r"nothing was written.*conv \(output\)"):
        dv.export(model, tmp_path / "v", x, to="golden", vectors=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("vectors_", "told"),
    [(7, "the example has 6 samples: give vectors=6"), (0, "from 1 on"), (2.5, "from 1 on")],
)
def test_how_many_there_are(vectors, tmp_path: Path, vectors_, told: str) -> None:
    model, x, _, _ = vectors
    with pytest.raises(dv.DovetailError, match=told):
        dv.export(model, tmp_path / "v", x, to="golden", vectors=vectors_)


def test_what_no_testbench_finds_again_is_refused(tmp_path: Path) -> None:
    model, x = nn.Linear(4, 2), randn(3, 4)
    emulated(model, x, input="int8(rounding=Stochastic)", weight="int8")
    with pytest.raises(dv.DovetailError, match=r"drawn at random.*NearestTiesToEven"):
        dv.export(model, tmp_path / "v", x, to="golden")


def test_a_model_that_is_not_emulated_has_no_vectors(tmp_path: Path) -> None:
    with pytest.raises(dv.DovetailError, match="this model is not emulated"):
        dv.export(nn.Linear(4, 2), tmp_path / "v", randn(3, 4), to="golden")
