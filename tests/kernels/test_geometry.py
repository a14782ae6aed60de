from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.kernels.geometry import LINEAR, Geometry

small = st.integers(1, 4)


@given(st.data())
def test_sizes_are_torchs(data):
    n = data.draw(st.integers(1, 3))
    kernel, stride, dilation = (
        data.draw(st.lists(small, min_size=n, max_size=n)) for _ in range(3)
    )
    padding = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    size = [
        d * (k - 1) + 1 + data.draw(st.integers(0, 5))
        for d, k in zip(dilation, kernel, strict=True)
    ]
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    x, w = torch.empty(2, 4, *size, device="meta"), torch.empty(6, 2, *kernel, device="meta")
    wanted = conv(x, w, None, stride, padding, dilation, 2).shape
    g = Geometry.conv(n, stride=stride, padding=padding, dilation=dilation, groups=2)
    assert g.out_shape(x.shape, w.shape) == tuple(wanted)
    assert g.reduction(w.shape) == w[0].numel()


def test_spellings_of_the_arguments():
    one = Geometry.conv(2, stride=2, padding=1, dilation=3)
    assert one == Geometry.conv(2, stride=(2,), padding=(1, 1), dilation=[3, 3])
    assert one.padding == ((1, 1), (1, 1))
    assert Geometry.conv(2, padding=[(1, 2), (0, 3)]).padding == ((1, 2), (0, 3))
    assert hash(one) == hash(Geometry.conv(2, stride=2, padding=1, dilation=3))


def test_linear_is_the_case_without_space():
    assert LINEAR.out_shape((2, 3, 7), (5, 7)) == (2, 3, 5)
    assert LINEAR.out_shape((7,), (5, 7)) == (5,)
    assert LINEAR.reduction((5, 7)) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Geometry.conv(2, stride=(1, 0)), "stride (1, 0) and dilation (1, 1) must be >= 1"),
        (lambda: Geometry.conv(1, padding=[(0, -1)]), "padding ((0, -1),) must not be negative"),
        (lambda: Geometry.conv(1, groups=0), "groups 0 must be >= 1"),
        (lambda: Geometry.conv(2, dilation=(1, 2, 3)), "dilation (1, 2, 3) needs 1 or 2 entries"),
        (lambda: LINEAR.out_shape((3,), (2, 4)), "linear takes a [..., K] and w [N, K]"),
        (
            lambda: Geometry.conv(1).out_shape((1, 2, 3), (2, 2, 4)),
            "the kernel spans 4 pixels in dimension 0, more than the padded input has (3 + 0 + 0)",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(dv.DovetailError) as raised:
        make()
    assert message in str(raised.value)
