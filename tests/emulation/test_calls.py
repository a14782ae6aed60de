"""Each torch function is read into one normal form, whose exact result is torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dovetail as dv
from dovetail.emulation import tap
from dovetail.emulation.readers import COVERED, UNCOVERED
from helpers import randn

X, W = randn(3, 4), randn(5, 4, seed=1)
IMAGE, KERNEL = randn(2, 4, 6, 5), randn(6, 2, 3, 2, seed=1)


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "kind"),
    [
        (F.linear, (X, W), {}, "linear"),
        (F.linear, (X,), {"weight": W, "bias": randn(5)}, "linear"),
        (torch.addmm, (randn(5), X, W.mT), {}, "linear"),
        (torch.addmm, (), {"input": randn(5), "mat1": X, "mat2": W.mT}, "linear"),
        (torch.matmul, (X, W.mT), {}, "matmul"),
        (torch.matmul, (X[0], W[0]), {}, "matmul"),
        (torch.matmul, (X[0], W.mT), {}, "matmul"),
        (torch.matmul, (randn(2, 3, 4), W[0]), {}, "matmul"),
        (torch.matmul, (X[0], randn(2, 4, 5)), {}, "matmul"),
        (torch.mv, (X, W[0]), {}, "matmul"),
        (torch.dot, (X[0], W[0]), {}, "matmul"),
        (Tensor.__rmatmul__, (W.mT, X), {}, "matmul"),
        (torch.bmm, (randn(2, 3, 4),), {"mat2": randn(2, 4, 5)}, "matmul"),
        (F.conv2d, (IMAGE, KERNEL), {"groups": 2}, "conv"),
        (F.conv2d, (IMAGE, KERNEL, randn(6), 2, (1, 2), 1, 2), {}, "conv"),
        (F.conv2d, (IMAGE[0], KERNEL), {"groups": 2, "padding": 1}, "conv"),
        (F.conv2d, (IMAGE, KERNEL), {"groups": 2, "padding": "same", "dilation": 3}, "conv"),
        (F.conv2d, (IMAGE, KERNEL), {"groups": 2, "padding": "valid"}, "conv"),
        (F.conv1d, (IMAGE[0], randn(3, 6, 2)), {"stride": 2}, "conv"),
        (F.conv3d, (IMAGE[None], randn(3, 2, 3, 2, 2)), {}, "conv"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_the_normal_form_computes_what_torch_computes(func, args, kwargs, kind):
    wanted = func(*args, **kwargs)
    reader = COVERED[func]
    call = reader.call(args, kwargs)
    assert reader.kind == call.kind == kind
    got = call.finish(call.exact())
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_product_that_is_not_plain_is_not_read():
    reader = COVERED[torch.addmm]
    assert reader.call((randn(5), X, W.mT), {"beta": 2}) is None
    assert reader.call((randn(5), X, W.mT), {"alpha": 0.5}) is None
    assert reader.call((randn(3, 5), X, W.mT), {}) is None
    product = COVERED[torch.matmul]
    assert product.call((X, W.mT), {"out": torch.empty(3, 5)}) is None
    assert product.call((X, W.mT), {"out": None}) is not None
    assert product.call((torch.eye(4).to_sparse(), W.mT), {}) is None


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: torch.matmul(x, x.mT, out=torch.empty(3, 3)), "matmul"),
        (lambda x: torch.eye(3).to_sparse() @ x, "matmul"),
        (lambda x: torch.addmm(x, x, torch.eye(4), beta=2), "addmm"),
    ],
)
def test_such_a_product_stays_exact_and_the_plan_names_it(call, name):
    class Net(nn.Module):
        def forward(self, x):
            return call(x) @ torch.ones(call(x).shape[1], 2)

    model = Net()
    wanted = call(X)
    plan = dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), X)
    assert [op.key for op in plan] == [".:matmul"]
    assert plan.uncovered == (f".:{name}",)
    calls = []
    with tap(model, lambda op, call: calls.append(call)):
        model(X)
    assert torch.equal(calls[0].x, wanted)


def test_a_wrong_call_raises_torchs_own_error():
    class Net(nn.Module):
        wrong = False

        def forward(self, x):
            return torch.matmul(x, x.mT, wrong=3) if self.wrong else torch.matmul(x, x.mT)

    model = Net()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), X)
    model.wrong = True
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        model(X)


def test_no_function_is_both_covered_and_not():
    assert not COVERED.keys() & UNCOVERED.keys()
