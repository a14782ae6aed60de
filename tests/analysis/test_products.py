"""The share of changed products, against counts by hand and against a loop that knows nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.analysis.products import Changed, changed_pairs, changed_products
from dovetail.errors import DovetailError
from dovetail.kernels.geometry import Geometry
from dovetail.multipliers import Multiplier, multiplier

LOW_BIT = multiplier("mul8s_1KVM")  # f(a, w) = (a & ~1) * w: wrong where a is odd and w is not 0


def odd_table() -> Multiplier:
    """Random products, not commutative, with f(0, 0) != 0."""
    table = np.random.default_rng(7).integers(-9, 10, (256, 256))
    table[0, 0] = 5
    exact = np.arange(256).astype(np.int8).astype(int)
    keep = np.random.default_rng(8).random((256, 256)) < 0.4
    keep[0, 0] = False
    return multiplier(np.where(keep, np.multiply.outer(exact, exact), table), signed=True)


TABLE = odd_table()


def conv_by_loops(
    a: np.ndarray, w: np.ndarray, mul: Multiplier, g: Geometry, pad: int
) -> tuple[int, int]:
    """Every product of a 2-d convolution, output by output."""
    batch, _, height, width = a.shape
    outputs, channels, kh, kw = w.shape
    out_h, out_w = g.out_size((height, width), (kh, kw))
    per_group = outputs // g.groups
    changed = total = 0
    for b, o, y, x in itertools.product(range(batch), range(outputs), range(out_h), range(out_w)):
        for c, i, j in itertools.product(range(channels), range(kh), range(kw)):
            row = y * g.stride[0] + i * g.dilation[0] - g.padding[0][0]
            column = x * g.stride[1] + j * g.dilation[1] - g.padding[1][0]
            inside = 0 <= row < height and 0 <= column < width
            first = int(a[b, o // per_group * channels + c, row, column]) if inside else pad
            second = int(w[o, c, i, j])
            changed += int(mul(first, second)) != first * second
            total += 1
    return changed, total


def test_linear_by_hand() -> None:
    a = torch.tensor([[1, 2, 3], [0, 5, 4]], dtype=torch.int8)
    w = torch.tensor([[1, 1, 0], [2, 0, 7]], dtype=torch.int8)
    # k=0: odd a 1 of (1, 0), both weights non-zero: 2. k=1: 5 with weight 1: 1. k=2: 3 with 7: 1.
    assert changed_products(a, w, LOW_BIT) == Changed(4, 12)
    assert changed_pairs(a, w, LOW_BIT) == Changed(4, 12)


def test_padding_meets_the_multiplier_as_its_code() -> None:
    a = torch.tensor([[[2]]])
    w = torch.tensor([[[1, 1, 1]]])
    same = Geometry.conv(1, padding=1)
    assert changed_products(a, w, LOW_BIT, same, pad_code=0) == Changed(0, 3)
    assert changed_products(a, w, LOW_BIT, same, pad_code=3) == Changed(2, 3)
    # f(0, 0) = 5 in the table: padding that meets a zero weight is a changed product
    zero = torch.zeros(1, 1, 3, dtype=torch.int64)
    assert changed_products(torch.zeros(1, 1, 1), zero, TABLE, same).changed == 3


def test_matmul_pairs_row_with_column_of_each_batch_entry() -> None:
    a = torch.tensor([[[1, 2]], [[2, 2]]])  # [2, 1, 2]
    w = torch.tensor([[[3], [3]]])  # [1, 2, 1], broadcast over the batch
    assert changed_products(a, w, LOW_BIT, None) == Changed(1, 4)
    assert changed_pairs(a, w, LOW_BIT, None) == Changed(1, 4)


def test_exact_changes_nothing_and_empty_counts_nothing() -> None:
    a, w = torch.randint(-128, 128, (5, 7)), torch.randint(-128, 128, (3, 7))
    assert changed_products(a, w, multiplier("exact")) == Changed(0, 105)
    assert changed_products(a[:0], w, LOW_BIT) == Changed(0, 0)
    assert Changed(0, 0).share == 0.0


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DovetailError, match="linear takes"):
        changed_products(torch.zeros(2, 3), torch.zeros(2, 4), LOW_BIT)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 1)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    pad=st.integers(-128, 127),
)
def test_conv_equals_a_loop_over_outputs(
    seed: int,
    groups: int,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    kernel: tuple[int, int],
    pad: int,
) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (2, 4, 5, 4))
    w = rng.integers(-128, 128, (4, 4 // groups, *kernel))
    geometry = Geometry.conv(2, stride=stride, padding=padding, dilation=dilation, groups=groups)
    expected = Changed(*conv_by_loops(a, w, TABLE, geometry, pad))
    operands = torch.from_numpy(a), torch.from_numpy(w)
    assert changed_products(*operands, TABLE, geometry, pad) == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_linear_equals_the_definition(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    rows, k, outputs = shape
    a = torch.from_numpy(rng.integers(-128, 128, (2, rows, k)))
    w = torch.from_numpy(rng.integers(-128, 128, (outputs, k)))
    assert changed_products(a, w, TABLE) == changed_pairs(a, w, TABLE)


def test_wide_operands_need_no_table() -> None:
    drum = multiplier("drum(k=6, bits=16, signed=True)")
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.integers(-(2**15), 2**15, (40, 3)))
    a[::2] //= 2**10  # operands of up to 6 bits are exact in drum(k=6)
    w = torch.from_numpy(rng.integers(-32, 32, (5, 3)))
    first, second = a.numpy()[:, None, :], w.numpy()[None]
    expected = int((drum(first, second) != first * second).sum())
    assert 0 < expected < 600
    assert changed_products(a, w, drum) == Changed(expected, 600)


def test_blocks_do_not_change_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    a, w = torch.randint(-128, 128, (30, 11)), torch.randint(-128, 128, (4, 11))
    whole = changed_products(a, w, TABLE)
    monkeypatch.setattr("dovetail.analysis.products.BLOCK", 700)
    assert changed_products(a, w, TABLE) == whole
