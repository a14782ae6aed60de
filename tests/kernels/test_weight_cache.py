"""Packed weights are kept, and never stale."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.kernels import weight_cache
from dovetail.kernels.weight_cache import cached, forget
from helpers import INT8, build, randn


def emulated(n=6, k=9):
    model = nn.Sequential(build(0, lambda: nn.Linear(k, n)))
    x = randn(4, k)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    return model, x


def fresh(model, x, recipe=INT8):
    """What a model that never saw these weights before computes."""
    layer = model[0]
    forget()
    twin = nn.Sequential(nn.Linear(layer.in_features, layer.out_features))
    twin.load_state_dict(model.state_dict())
    dv.apply_(twin, dv.Recipe(dv.rule("*", **recipe)), x)
    return twin(x)


def changed(change, n=6, k=9):
    model, x = emulated(n, k)
    with torch.no_grad():
        before = model(x)
        change(model, x)
        after = model(x)
        assert not torch.equal(before, after)
        assert torch.equal(after, fresh(model, x))


def step(model, x):
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    with torch.enable_grad():
        model(x).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize(
    "change",
    [
        step,
        lambda m, x: m[0].weight.mul_(-1),
        lambda m, x: m[0].weight.data.mul_(-1),
        lambda m, x: setattr(m[0].weight, "data", -m[0].weight.data),
        lambda m, x: m[0].weight.data.copy_(-m[0].weight),
        lambda m, x: m.load_state_dict({k: -v for k, v in m.state_dict().items()}),
        lambda m, x: setattr(m[0], "weight", nn.Parameter(-m[0].weight)),
        lambda m, x: m[0].weight.__setitem__((0, 0), 9.0),
        lambda m, x: m[0].weight.copy_(m[0].weight.flip(0)),
        lambda m, x: torch.from_numpy(m[0].weight.detach().numpy()).mul_(-1),
    ],
    ids=["step", "mul_", "data", "set-data", "copy", "load", "new", "element", "flip", "numpy"],
)
def test_a_changed_weight_is_seen(change):
    changed(change)


@pytest.mark.parametrize("columns", [slice(512, None), slice(1, None, 2), slice(300, 420)])
def test_a_change_of_some_columns_through_data_is_seen(columns):
    """The fingerprint's samples must not all fall into the same columns of the weight."""
    changed(lambda m, x: m[0].weight.data[:, columns].mul_(-1.5), n=512, k=1024)


def test_a_change_of_some_rows_through_data_is_seen():
    changed(lambda m, x: m[0].weight.data[100:140].mul_(-1.5), n=512, k=1024)


def test_inference_tensors_are_not_kept():
    with torch.inference_mode():
        weight, made = torch.ones(3), []
        for _ in range(2):
            cached(weight, "key", lambda: made.append(1))
    assert len(made) == 2


def test_unchanged_weights_are_packed_once():
    weight, made = torch.ones(300), []
    for key in ("a", "a", "b", "a"):
        cached(weight, key, lambda key=key: made.append(key))
    assert made == ["a", "b"]
    weight.add_(1)
    cached(weight, "a", lambda: made.append("again"))
    assert made == ["a", "b", "again"]


def test_weights_in_training_are_kept_until_the_next_step():
    weight, made = torch.ones(3, requires_grad=True), []
    for _ in range(2):
        cached(weight, "key", lambda: made.append(1))
    assert len(made) == 1
    weight.grad = torch.ones(3)
    torch.optim.SGD([weight], lr=0.1).step()
    cached(weight, "key", lambda: made.append(1))
    assert len(made) == 2


def test_nan_weights_equal_themselves():
    weight, made = torch.full((3,), float("nan")), []
    for _ in range(2):
        cached(weight, "key", lambda: made.append(1))
    assert len(made) == 1


def test_a_freed_weight_leaves_the_cache():
    forget()
    weight = torch.ones(30)
    cached(weight, "key", lambda: 1)
    assert len(weight_cache._entries) == 1
    del weight
    gc.collect()
    assert not weight_cache._entries


def test_reallocated_weights_never_get_an_earlier_ones_result():
    for i in range(200):
        weight = torch.full((64, 64), float(i))
        assert cached(weight, "key", lambda i=i: i) == i


def test_formats_do_not_share_packed_weights():
    model, x = emulated()
    with torch.no_grad():
        model(x)
        dv.remove_(model)
        other = INT8 | {"weight": "int3"}
        dv.apply_(model, dv.Recipe(dv.rule("*", **other)), x)
        assert torch.equal(model(x), fresh(model, x, other))
        dv.remove_(model)
        other = INT8 | {"mul": "mul8s_1L2H@v1.1"}
        dv.apply_(model, dv.Recipe(dv.rule("*", **other)), x)
        assert torch.equal(model(x), fresh(model, x, other))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype):
    weight, made = torch.ones(5, dtype=dtype), []
    for _ in range(2):
        cached(weight, "key", lambda: made.append(1))
    weight.data.mul_(2)
    cached(weight, "key", lambda: made.append(1))
    assert len(made) == 2


def test_non_contiguous_weights():
    base = torch.ones(4, 6)
    weight, made = base.mT, []
    for _ in range(2):
        cached(weight, "key", lambda: made.append(1))
    base.data.mul_(3)
    cached(weight, "key", lambda: made.append(1))
    assert len(made) == 2


def test_an_empty_weight():
    assert cached(torch.empty(0, 3), "key", lambda: 5) == 5


def test_threads_sharing_a_weight():
    forget()
    weights = [torch.full((8, 8), float(i)) for i in range(4)]
    wrong = []

    def work() -> None:
        for _ in range(200):
            for i, weight in enumerate(weights):
                if cached(weight, "key", lambda i=i: i) != i:
                    wrong.append(i)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
