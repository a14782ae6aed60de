"""Which multipliers run as int8 products, which as lookups; and that neither changes a bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dovetail as dv
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.planner import plan_mac
from dovetail.kernels.realisation import Operands
from native_macs import loop

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")

SYMMETRIC = Operands((-127, 127), (-127, 127))


def classes(count: int) -> dv.Multiplier:
    """The exact product less an error with ``count`` kinds of columns, none of low rank."""
    rng = np.random.default_rng(count)
    values = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)
    errors = rng.integers(-100, 100, (256, count))
    return dv.multiplier(np.outer(values, values) + errors[:, rng.integers(0, count, 256)])


def equal(mul: dv.Multiplier, operands: Operands) -> str:
    """The name of the kernel that runs, its sums compared with the definition."""
    generator = torch.Generator().manual_seed(0)

    def codes(ends: tuple[int, int], *shape: int) -> torch.Tensor:
        dtype = torch.int8 if ends[0] < 0 else torch.uint8
        return torch.randint(ends[0], ends[1] + 1, shape, generator=generator).to(dtype)

    kernel = plan_mac(mul, operands)
    for rows, outputs in ((37, 41), (1, 130)):
        x, y = codes(operands.first, rows, 50), codes(operands.second, outputs, 50)
        got = kernel.sums(x, kernel.pack(y, LINEAR), LINEAR, 0)
        products = mul(x.numpy().astype(np.int64)[:, None], y.numpy().astype(np.int64)[None])
        np.testing.assert_array_equal(got.numpy(), products.sum(-1))
    return kernel.name


@pytest.mark.parametrize("count", [2, 5])
def test_few_error_classes_run_as_products_where_that_is_faster(level, count):
    name = equal(classes(count), SYMMETRIC)
    if count == 2:
        assert name == "native-factored" or level in ("scalar", "avx2", "avx512")
    if level == "amx":
        assert name == "native-factored"


def test_sixteen_classes_of_weights_are_looked_up_by_class(level):
    name = equal(classes(16), SYMMETRIC)
    assert (name == "native-classes") == (level in ("avx512vnni", "amx"))


def test_a_single_row_reads_the_form_of_fewest_bytes():
    native.set_isa(native.levels()[-1])
    try:
        kernel = plan_mac(dv.multiplier("mul8s_1KVA"), SYMMETRIC)
        if kernel.name != "native-factored":
            pytest.skip("five int8 products are the best plan with matrix tiles only")
        w = torch.randint(-127, 128, (70, 50), dtype=torch.int8)
        packed = kernel.pack(w, LINEAR)
        assert (packed.many.mac.rank, packed.one.mac.rank) == (5, 1)
        a = torch.randint(-127, 128, (1, 50), dtype=torch.int8)
        single = kernel.sums(a, packed, LINEAR, 0)
        assert torch.equal(single, kernel.sums(a.expand(2, 50), packed, LINEAR, 0)[:1])
        assert torch.equal(single[0], kernel.sums(a[0], packed, LINEAR, 0))
    finally:
        native.set_isa(None)


def test_a_table_without_structure_is_looked_up(level):
    table = np.random.default_rng(0).integers(-9999, 9999, (256, 256))
    assert equal(dv.multiplier(table, signed=True), SYMMETRIC) == "native-table"


def test_the_zero_multiplier(level):
    zero = dv.multiplier(np.zeros((256, 256), dtype=np.int64), signed=True)
    # Without instructions for bytes, products of 16-bit numbers are the faster ones, or float32's.
    cheaper = {"scalar": "torch-factored", "avx2": "native-wide", "avx512": "native-wide"}
    assert equal(zero, SYMMETRIC) == cheaper.get(level, "native-factored")


@pytest.mark.parametrize("name", ["exact", "drum(k=6, bits=8, signed=True)", "mul8s_1KVA"])
def test_lowest_codes(level, name):
    """With -128 among the codes, and without: factors hold for the codes that occur."""
    equal(dv.multiplier(name), SYMMETRIC)
    equal(dv.multiplier(name), Operands((-128, 127), (-127, 127)))
    equal(dv.multiplier(name), Operands((-128, 127), (-128, 127)))


def test_unsigned_inputs_of_the_exact_product(level):
    # Without instructions for bytes, products of 16-bit numbers are the faster ones.
    chosen = "native-factored" if level in ("avx512vnni", "amx") else "native-wide"
    assert equal(dv.multiplier("exact"), Operands((0, 255), (-127, 127))) == chosen


def test_unsigned_circuits(level):
    for name in ("mul8u_1JFF@v1.1", "exact(bits=8, signed=False)"):
        equal(dv.multiplier(name), Operands((0, 255), (0, 255)))


@pytest.mark.parametrize("name", ["mul8s_1KVA", "exact", "etm(bits=8)"])
def test_taps_that_meet_only_padding_change_nothing(level, name):
    """Of small images the outer taps are left out, where the padding's products are zero."""
    mul, generator = dv.multiplier(name), torch.Generator().manual_seed(1)
    kernel, table = plan_mac(mul, SYMMETRIC), mul.bind(8, signed=True).table().numpy()
    geometries = [
        (1, Geometry.conv(2, padding=1)),
        (2, Geometry.conv(2, padding=[(2, 1), (0, 3)], stride=2)),
        (2, Geometry.conv(2, padding=4, dilation=2)),
        (3, Geometry.conv(2, padding=3, groups=2, stride=(1, 3))),
        (5, Geometry.conv(2, padding=1)),
    ]
    for side, geometry in geometries:
        w = torch.randint(-127, 128, (6, 8 // geometry.groups, 3, 3), generator=generator).char()
        a = torch.randint(-127, 128, (3, 8, side, side), generator=generator).char()
        packed = kernel.pack(w, geometry)
        for pad in (0, 5):
            got = kernel.sums(a, packed, geometry, pad)
            assert torch.equal(got.long(), torch.from_numpy(loop(table, a, w, geometry, pad)))


@pytest.fixture
def dirty_memory():
    """New tensors are full of ones, as those on used memory may be."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", ["mul8s_1KVA", "mul8s_1L2J", "etm(bits=8)"])
def test_what_lay_in_memory_does_not_reach_the_sums(level, name, dirty_memory):
    assert torch.empty(1, dtype=torch.uint8).item() == 255
    mul, generator = dv.multiplier(name), torch.Generator().manual_seed(2)
    equal(mul, SYMMETRIC)
    kernel, table = plan_mac(mul, SYMMETRIC), mul.table().numpy()
    for side, groups in ((6, 1), (1, 2)):
        geometry = Geometry.conv(2, padding=1, groups=groups)
        w = torch.randint(-127, 128, (34, 10 // groups, 3, 3), generator=generator).char()
        a = torch.randint(-127, 128, (2, 10, side, side), generator=generator).char()
        got = kernel.sums(a, kernel.pack(w, geometry), geometry, 0)
        assert torch.equal(got.long(), torch.from_numpy(loop(table, a, w, geometry)))
