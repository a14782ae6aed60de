"""Models that torch exported: the same values, names, training, recipes, tracing, copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from compiler.onnx.exported import DATA, Sequence, Small, torchscript
from helpers import build, hits, randn

IMAGE, IDS = randn(2, 3, 8, 8), torch.arange(10).reshape(2, 5)
CASES = {"image": (Small, IMAGE), "sequence": (Sequence, IDS)}


def original(name: str) -> nn.Module:
    return build(0, CASES[name][0]).eval()


@pytest.fixture(params=[f"{name}-{how}" for name in CASES for how in ("dynamo", "torchscript")])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, Tensor, Path]:
    name, how = request.param.split("-")
    model, x = original(name), CASES[name][1]
    if how == "dynamo":
        return model, x, DATA / f"{name}-dynamo.onnx"
    axes = {"x": {0: "batch"} if name == "image" else {0: "batch", 1: "length"}}
    path = tmp_path / "model.onnx"
    return model, x, torchscript(model, x, path, input_names=["x"], dynamic_axes=axes)


def test_it_computes_what_torch_and_onnxruntime_do(exported) -> None:
    model, x, path = exported
    loaded = dv.load_onnx(path)
    y = loaded(x)
    torch.testing.assert_close(y, model(x), rtol=1e-6, atol=1e-7)
    session = onnxruntime.InferenceSession(path)
    other = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(y.detach(), torch.from_numpy(other), rtol=1e-5, atol=1e-6)


def test_parameters_have_their_names_in_torch(exported) -> None:
    model, _, path = exported
    theirs, ours = model.state_dict(), dv.load_onnx(path).state_dict()
    # The exporters fold the batch norm into the convolution before it.
    folded = [key for key in theirs if key.startswith(("bn1", "conv1"))]
    for key in theirs.keys() - set(folded):
        assert torch.equal(ours[key], theirs[key]), key
    assert not {key for key in ours if key not in theirs}


def test_all_parameters_are_trained(exported) -> None:
    _, x, path = exported
    loaded = dv.load_onnx(path).train()
    before = {name: p.detach().clone() for name, p in loaded.named_parameters()}
    optimiser = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded(x).square().sum().backward()
    optimiser.step()
    assert all(not torch.equal(before[name], p) for name, p in loaded.named_parameters())


def test_gradients_are_those_of_the_original(exported) -> None:
    model, x, path = exported
    loaded = dv.load_onnx(path)
    for each in (model, loaded):
        each(x).square().sum().backward()
    theirs = dict(model.named_parameters())
    for name, parameter in loaded.named_parameters():
        if not name.startswith("conv1"):
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-5, atol=1e-6)


def test_recipes_find_layers_by_path_kind_and_type() -> None:
    loaded = dv.load_onnx(DATA / "image-dynamo.onnx")
    kept = loaded(IMAGE)
    recipe = dv.Recipe(
        dv.rule("layer.0", input="int8", weight="int8", mul="mul8s_1KV9"),
        dv.rule(type=nn.Linear, weight="mxfp4", input="fp8_e4m3"),
    )
    dv.apply_(loaded, recipe, IMAGE)
    assert hits(loaded, IMAGE) == ["layer.0", "head"]
    assert not torch.equal(loaded(IMAGE), kept)
    dv.remove_(loaded)
    assert torch.equal(loaded(IMAGE), kept)


def test_an_emulated_loaded_model_is_the_emulated_original(exported) -> None:
    model, x, path = exported
    loaded = dv.load_onnx(path)
    recipe = dv.Recipe(dv.rule(op="linear", input="int8(dynamic)", weight="int8"))
    for each in (model, loaded):
        dv.apply_(each, recipe, x)
    torch.testing.assert_close(loaded(x), model(x), rtol=1e-5, atol=1e-6)


def test_functions_are_addressed_by_the_path_of_their_node() -> None:
    loaded = dv.load_onnx(DATA / "sequence-dynamo.onnx")
    kinds = ("softmax", "matmul", "gelu", "layer_norm")
    dv.apply_(loaded, dv.Recipe(*[dv.rule(op=kind, output="fp16") for kind in kinds]), IDS)
    nodes = ["norm", "node_matmul", "node_softmax", "node_matmul_1", "node_gelu"]
    assert [key.split(":")[0] for key in hits(loaded, IDS)] == nodes


def test_copies_and_pickles(exported) -> None:
    _, x, path = exported
    loaded = dv.load_onnx(path)
    y = loaded(x)
    for twin in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert torch.equal(twin(x), y)
        assert not {p.data_ptr() for p in twin.parameters()} & {
            p.data_ptr() for p in loaded.parameters()
        }


def test_export_keeps_the_batch_a_symbol(exported) -> None:
    _, x, path = exported
    loaded = dv.load_onnx(path)
    dims = tuple({0: torch.export.Dim("batch")} for _ in range(1))
    program = torch.export.export(loaded, (x,), dynamic_shapes=(dims,))
    more = torch.cat((x, x, x))
    torch.testing.assert_close(program.module()(more), loaded(more), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_compile_sees_one_graph(name: str) -> None:
    x, loaded = CASES[name][1], dv.load_onnx(DATA / f"{name}-dynamo.onnx")
    torch._dynamo.reset()
    compiled = torch.compile(loaded, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), loaded(x))


def test_other_lengths_than_the_example(exported) -> None:
    model, x, path = exported
    other = x[:1] if x.dim() == 4 else torch.arange(9).reshape(1, 9)
    loaded = dv.load_onnx(path)
    torch.testing.assert_close(loaded(other), model(other), rtol=1e-6, atol=1e-7)


def test_data_in_another_file(tmp_path: Path) -> None:
    model = onnx.load(DATA / "image-dynamo.onnx")
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    plain = dv.load_onnx(DATA / "image-dynamo.onnx")
    assert torch.equal(dv.load_onnx(path)(IMAGE), plain(IMAGE))
    with pytest.raises(dv.DovetailError, match="in another file"):
        dv.load_onnx(onnx.load(path, load_external_data=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-cnn", "resnet18", "mobilenet-v2", "unet", "lstm-lm"])
def test_the_zoo(name: str, tmp_path: Path) -> None:
    model = build(0, lambda: dv.zoo.build(name)).eval()
    channels = 1 if name == "digits-cnn" else 3
    size = 8 if name == "digits-cnn" else 32
    x = torch.randint(0, 20, (2, 7)) if name == "lstm-lm" else randn(1, channels, size, size)
    loaded = dv.load_onnx(torchscript(model, x, tmp_path / "model.onnx"))
    y, expected = loaded(x), model(x)
    y, expected = (v[0] if isinstance(v, tuple) else v for v in (y, expected))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_training_a_loaded_model_is_training_the_original(tmp_path: Path) -> None:
    x, labels = next(iter(dv.zoo.data.load("digits").train))
    model = build(0, lambda: dv.zoo.build("digits-cnn")).eval()
    path = torchscript(model, x[:2], tmp_path / "model.onnx", dynamic_axes={"x": {0: "batch"}},
                       input_names=["x"])  # fmt: skip
    loaded = dv.load_onnx(path)
    losses = []
    for each in (model, loaded):
        optimiser = torch.optim.SGD(each.parameters(), lr=0.05)
        for _ in range(5):
            loss = nn.functional.cross_entropy(each(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
