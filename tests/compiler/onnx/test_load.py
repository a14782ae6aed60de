"""What a graph becomes: places of weights, layers, bodies, functions, sizes, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import dovetail as dv
from compiler.onnx.graphs import model, node, tensor, value
from dovetail.compiler.onnx import operator
from helpers import randn

EYE = np.eye(3, dtype=np.float32)
INT = TensorProto.INT64


def refused(proto, match: str) -> None:
    with pytest.raises(dv.DovetailError, match=match):
        dv.load_onnx(proto)


def test_what_cannot_be_is_refused_with_node_operator_and_opset(tmp_path: Path) -> None:
    refused(model([node("Convolution", ["x"], ["y"], name="first")], ["x"], ["y"]),
            r"node 'first' \(Convolution, opset 17\): unknown operator 'Convolution'")  # fmt: skip
    refused(model([node("Foo", ["x"], ["y"], domain="local")], ["x"], ["y"]), "local::Foo")
    refused(model([node("Clip", ["x"], ["y"], minimum=0.0)], ["x"], ["y"], opset=6),
            "attribute 'minimum' is not supported; it takes max, min")  # fmt: skip
    refused(model([node("Relu", ["x"], ["y"])], ["x"], ["y"], opset=99), "has opset 99; supported")
    refused(model([node("Gelu", ["x"], ["y"])], ["x"], ["y"], opset=17), "from opset 20 on")
    refused(tmp_path / "none.onnx", "there is no file")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    refused(tmp_path / "broken.onnx", "is no ONNX model")
    refused(3, "expected a path or an onnx.ModelProto, got int")
    refused(model([], [], ["t"], [helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])]),
            "holds text")  # fmt: skip


def test_inputs_are_counted_and_named() -> None:
    loaded = dv.load_onnx(model([node("Sub", ["a", "b"], ["y"])], ["a", "b"], ["y"]))
    one, two = torch.ones(2), torch.full((2,), 2.0)
    assert torch.equal(loaded(two, b=one), one)
    for call in (lambda: loaded(one), lambda: loaded(one, c=two), lambda: loaded(one, one, one)):
        with pytest.raises(dv.DovetailError, match=r"2 inputs \(a, b\)"):
            call()


def test_errors_while_it_runs_name_the_node() -> None:
    proto = model([node("Resize", ["x", "", "s"], ["y"], name="up", mode="quintic")], ["x"], ["y"],
                  [tensor("s", np.ones(3, np.float32))])  # fmt: skip
    with pytest.raises(dv.DovetailError, match=r"node 'up' \(Resize, opset 17\): unknown mode"):
        dv.load_onnx(proto)(torch.ones(1, 1, 2))


def test_which_floats_are_trained() -> None:
    nodes = [
        node("Mul", ["x", "gamma"], ["a"]),
        node("Mul", ["a", "scale"], ["b"]),
        node("Add", ["b", "val_3"], ["c"]),
        node("PRelu", ["c", "slope"], ["y"]),
    ]
    tensors = [
        tensor("gamma", np.ones(3, np.float32)),
        tensor("scale", np.float32(0.5)),
        tensor("val_3", np.ones(3, np.float32)),
        tensor("slope", np.ones(1, np.float32)),
    ]
    proto = model(nodes, ["x"], ["y"], tensors)
    names = lambda loaded: sorted(dict(loaded.named_parameters()))  # noqa: E731
    assert names(dv.load_onnx(proto)) == ["gamma", "slope"]
    assert names(dv.load_onnx(proto, trainable=["g*"])) == ["gamma"]
    assert names(dv.load_onnx(proto, trainable=False)) == []
    assert sorted(dv.load_onnx(proto, trainable=False).state_dict()) == ["gamma", "scale", "slope"]


def test_a_frozen_layer_keeps_its_weight() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], ["x"], ["y"], [tensor("w", EYE)])
    layer = dv.load_onnx(proto, trainable=False).MatMul_0
    assert isinstance(layer, nn.Linear)
    assert not layer.weight.requires_grad


def test_a_shared_weight_is_one_parameter() -> None:
    nodes = [node("Gemm", ["x", "w"], ["a"], transB=1), node("Gemm", ["a", "w"], ["y"], transB=1)]
    loaded = dv.load_onnx(model(nodes, ["x"], ["y"], [tensor("w", EYE)]))
    assert len(list(loaded.parameters())) == 1
    both = [node("MatMul", ["x", "w"], ["a"]), node("Mul", ["a", "w"], ["y"])]
    loaded = dv.load_onnx(model(both, ["x"], ["y"], [tensor("w", EYE + 1)]))
    assert len(list(loaded.parameters())) == 1
    x = randn(3, 3)
    torch.testing.assert_close(loaded(x), (x @ loaded.w) * loaded.w)


def test_layers_only_where_torch_means_the_same() -> None:
    def of(op: str, weight: np.ndarray, **attributes) -> nn.Module:
        proto = model([node(op, ["x", "w.weight"], ["y"], **attributes)], ["x"], ["y"],
                      [tensor("w.weight", weight.astype(np.float32))])  # fmt: skip
        return dv.load_onnx(proto).w

    kernel = np.ones((2, 2, 3, 3))
    assert isinstance(of("Conv", kernel, pads=[1, 1, 1, 1]), nn.Conv2d)
    assert not isinstance(of("Conv", kernel, pads=[0, 0, 1, 1]), nn.Conv2d)
    assert not isinstance(of("Conv", kernel, auto_pad="SAME_UPPER"), nn.Conv2d)
    assert isinstance(of("ConvTranspose", kernel, strides=[2, 2]), nn.ConvTranspose2d)
    assert isinstance(of("Gemm", EYE), nn.Linear)
    assert not isinstance(of("Gemm", EYE, alpha=2.0), nn.Linear)
    assert not isinstance(of("Gemm", EYE, transA=1), nn.Linear)


def test_batch_norm_is_torchs_and_trains_its_statistics() -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = [tensor(f"bn.{name}", np.full(2, i + 1, np.float32)) for i, name in enumerate(names)]
    bn = node("BatchNormalization", ["x", *(f"bn.{name}" for name in names)], ["y"], momentum=0.8)
    loaded = dv.load_onnx(model([bn], [value("x", shape=["n", 2, 4, 4])], ["y"], tensors))
    assert isinstance(loaded.bn, nn.BatchNorm2d)
    assert loaded.bn.momentum == pytest.approx(0.2)
    before = loaded.bn.running_mean.clone()
    loaded.train()(randn(3, 2, 4, 4))
    assert not torch.equal(before, loaded.bn.running_mean)


def test_names_that_modules_use_themselves() -> None:
    names = ["forward", "a/steps", "same", "same"]
    nodes = [node("Relu", [f"v{i}"], [f"v{i + 1}"], name=name) for i, name in enumerate(names)]
    loaded = dv.load_onnx(model(nodes, ["v0"], ["v4"]))
    assert [n for n, _ in loaded.named_modules()][1:] == [
        "forward_",
        "same",
        "same_1",
        "a",
        "a.steps_",
    ]
    assert torch.equal(loaded(torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))


def test_bodies_use_values_of_the_graph_around_them() -> None:
    then = helper.make_graph([node("Mul", ["x", "w"], ["t"])], "then", [], [value("t")])
    other = helper.make_graph([node("Sub", ["x", "w"], ["e"])], "else", [], [value("e")])
    branch = node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    proto = model([branch], ["x", value("c", TensorProto.BOOL, [])], ["y"],
                  [tensor("w", np.full(2, 3, np.float32))])  # fmt: skip
    loaded, x = dv.load_onnx(proto), torch.tensor([1.0, 2.0])
    assert torch.equal(loaded(x, torch.tensor(True)), 3 * x)
    assert torch.equal(loaded(x, torch.tensor(False)), x - 3)
    loaded(x, torch.tensor(True)).sum().backward()
    assert torch.equal(loaded.w.grad, x)


def test_a_loop_over_a_known_count_is_traced() -> None:
    body = helper.make_graph(
        [node("Add", ["v", "x"], ["u"]), node("Identity", ["go"], ["on"])], "body",
        [value("i", INT, []), value("go", TensorProto.BOOL, []), value("v")],
        [value("on", TensorProto.BOOL, []), value("u")],
    )  # fmt: skip
    nodes = [node("Shape", ["x"], ["n"]), node("Squeeze", ["n"], ["m"]),
             node("Loop", ["m", "", "x"], ["y"], body=body)]  # fmt: skip
    loaded, x = dv.load_onnx(model(nodes, ["x"], ["y"])), torch.ones(4)
    assert torch.equal(loaded(x), torch.full((4,), 5.0))
    program = torch.export.export(loaded, (x,))
    assert torch.equal(program.module()(x), loaded(x))


def test_local_functions_are_inlined() -> None:
    double = helper.make_function(
        "local", "Double", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    proto = model([node("Double", ["x"], ["y"], domain="local")], ["x"], ["y"], functions=[double])
    assert torch.equal(dv.load_onnx(proto)(torch.ones(2)), torch.full((2,), 2.0))


def test_ones_own_operator() -> None:
    @operator("Triple", domain="local")
    def triple(x, *, plus: float = 0.0):
        return 3 * x + plus

    proto = model([node("Triple", ["x"], ["y"], domain="local", plus=1.0)], ["x"], ["y"])
    assert torch.equal(dv.load_onnx(proto)(torch.ones(2)), torch.full((2,), 4.0))


def test_constants_are_folded_and_shapes_stay_numbers() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Mul", ["two", "three"], ["six"]),
        node("Concat", ["n1", "six"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    numbers = {"zero": 0, "axes": [0], "two": [2], "three": [3]}
    tensors = [tensor(name, np.array(v, np.int64)) for name, v in numbers.items()]
    loaded = dv.load_onnx(model(nodes, ["x"], ["y"], tensors))
    assert not hasattr(loaded, "Mul_3")
    batch = torch.export.Dim("batch")
    program = torch.export.export(loaded, (torch.ones(2, 3, 2),), dynamic_shapes=(({0: batch},),))
    assert program.module()(torch.ones(5, 3, 2)).shape == (5, 6)
    targets = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert not {t for t in targets if "item" in t or "cat" in t or "stack" in t}, targets


def test_values_are_let_go_when_they_are_no_longer_needed() -> None:
    nodes = [node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(3)]
    loaded = dv.load_onnx(model(nodes, ["v0"], ["v3"]))
    assert [step.dead for step in loaded.steps] == [("v0",), ("v1",), ("v2",)]


def test_it_moves_to_another_type() -> None:
    proto = model([node("Mul", ["x", "w"], ["y"])], ["x"], ["y"], [tensor("w", EYE)])
    loaded = dv.load_onnx(proto).double()
    assert loaded(torch.ones(3, 3, dtype=torch.float64)).dtype == torch.float64
