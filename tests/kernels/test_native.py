"""Every level of the native core equals a plain loop, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from dovetail.errors import DovetailError
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_products import NativeMac
from native_macs import codes, loop, mac_of

pytestmark = pytest.mark.skipif(not native.available(), reason="the native core is not built")


KINDS = [
    *("rank1", "rank2", "rank5", "bytes", "bytes over 127", "classes1", "classes3"),
    *("only the second's", "only the first's"),
    *("pairs", "short", "offset", "wide"),
]
LINEARS = [
    ((1, 1), (1, 1)),
    ((1, 37), (70, 37)),
    ((5, 64), (3, 64)),
    ((0, 8), (4, 8)),
    ((33, 131), (17, 131)),
    ((67, 30), (129, 30)),
    ((2, 3, 19), (40, 19)),
    ((300, 9), (50, 9)),
    ((1, 70), (203, 70)),  # one row, several panels of outputs
    ((17, 26), (193, 26)),
]
CONVS = [
    # a shape, w shape, stride, padding, dilation, groups
    ((1, 3, 8, 8), (5, 3, 3, 3), 1, 1, 1, 1),
    ((2, 4, 9, 7), (33, 4, 3, 3), 2, 1, 1, 1),
    ((3, 6, 7, 7), (10, 3, 3, 3), 1, 1, 1, 2),
    ((2, 5, 6, 11), (7, 5, 1, 1), 1, 0, 1, 1),
    ((2, 5, 9, 9), (12, 5, 1, 1), 2, 0, 1, 1),
    ((1, 9, 10, 10), (9, 1, 3, 3), 1, 1, 1, 9),
    ((2, 4, 12, 9), (8, 1, 3, 3), 2, [(0, 1), (1, 0)], 1, 4),
    ((1, 17, 12, 13), (20, 17, 3, 3), 1, [(2, 1), (0, 3)], 2, 1),
    ((2, 2, 10, 11), (9, 2, 4, 2), (3, 2), [(3, 0), (1, 2)], (1, 3), 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), 1, 2, 1, 1),
    ((0, 3, 5, 5), (4, 3, 3, 3), 1, 1, 1, 1),
    ((2, 3, 1, 1), (4, 3, 1, 1), 3, [(2, 0), (0, 0)], 1, 1),  # reads the padding only
    ((9, 3, 3, 3), (12, 3, 3, 3), 1, 0, 1, 1),
    ((2, 6, 33), (12, 3, 5), 2, 2, 1, 2),
    ((2, 3, 5, 6, 4), (5, 3, 2, 3, 3), (1, 2, 1), 1, 1, 1),
    ((1, 2, 3, 1100), (2, 2, 1, 3), (1, 1), 1, 1, 1),
    ((1, 2, 3, 1100), (2, 2, 1, 3), (1, 2), 1, 1, 1),
    # depthwise: planes, rows of several vectors, strides, dilation, several outputs, three axes
    ((2, 3, 7, 70), (3, 1, 3, 3), 1, 1, 1, 3),
    ((2, 3, 15, 14), (6, 1, 5, 3), (2, 1), [(2, 1), (0, 2)], 1, 3),
    ((1, 2, 30, 19), (8, 1, 2, 3), (3, 2), 1, (2, 1), 2),
    ((2, 2, 4, 5, 6), (2, 1, 3, 2, 3), (2, 1, 1), 1, 1, 2),
    ((3, 4, 90), (4, 1, 9), 1, 4, 2, 4),
    ((2, 3, 9, 9), (15, 1, 3, 3), 1, 1, 1, 3),
    ((1, 1, 20, 20), (1, 1, 17, 17), 1, 8, 1, 1),
]


@cache
def linear_case(kind: str, signed: bool, i: int):
    mac, table = mac_of(kind, signed)
    a, w = codes(LINEARS[i][0], signed, i), codes(LINEARS[i][1], signed, 100 + i)
    return mac, a, w, loop(table, a, w, LINEAR)


@cache
def conv_case(kind: str, i: int):
    a_shape, w_shape, stride, padding, dilation, groups = CONVS[i]
    signed = i % 2 == 0
    mac, table = mac_of(kind, signed, i, linear=w_shape[1] == 1)
    geometry = Geometry.conv(
        len(a_shape) - 2, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    a, w = codes(a_shape, signed, i), codes(w_shape, signed, 100 + i)
    pad = -5 if signed else 131
    return mac, geometry, a, w, pad, loop(table, a, w, geometry, pad)


def shared(kind: str, cases: int) -> Iterator[int]:
    """The cases, half of them on one thread and half on two; each on both, over the kinds."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        yield from range((KINDS.index(kind) + threads) % 2, cases, 2)


@pytest.mark.usefixtures("as_many_threads_afterwards")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signed", [True, False])
def test_linear_codes_equal_the_loop(level, kind, signed):
    for i in shared(kind, len(LINEARS)):
        mac, a, w, expected = linear_case(kind, signed, i)
        got = mac.codes(a, mac.pack(w))
        assert got.dtype == torch.int32
        np.testing.assert_array_equal(got.numpy(), expected, err_msg=str(LINEARS[i]))


@pytest.mark.usefixtures("as_many_threads_afterwards")
@pytest.mark.parametrize("kind", KINDS)
def test_conv_codes_equal_the_loop(level, kind):
    for i in shared(kind, len(CONVS)):
        mac, geometry, a, w, pad, expected = conv_case(kind, i)
        got = mac.codes(a, mac.pack(w, geometry), pad_code=pad)
        np.testing.assert_array_equal(got.numpy(), expected, err_msg=str(CONVS[i]))


def test_non_contiguous_input_and_weights(level):
    mac, table = mac_of("short", True)
    a, w = codes((40, 30), True).t(), codes((80, 9), True, 1)[::2].t().contiguous().t()
    np.testing.assert_array_equal(
        mac.codes(a[:, :9], mac.pack(w)), loop(table, a[:, :9], w, LINEAR)
    )
    geometry = Geometry.conv(2, padding=1)
    x = codes((2, 8, 7, 5), True, 2).to(memory_format=torch.channels_last)
    w = codes((6, 5, 3, 3), True, 3)[:, ::2]
    got = mac.codes(x[:, 1:4], mac.pack(w, geometry), pad_code=3)
    np.testing.assert_array_equal(got, loop(table, x[:, 1:4], w, geometry, 3))


def test_sums_up_to_the_last_bit_of_int32(level):
    """Extreme entries of an int32 table: the sum is exact as long as it fits."""
    table = np.full((256, 256), 2**31 - 1)
    table[:, 1] = -(2**31 - 1)
    mac = NativeMac.table(table, False)
    a = torch.zeros(40, 1, dtype=torch.uint8)
    w = torch.arange(20, dtype=torch.uint8)[:, None]
    np.testing.assert_array_equal(mac.codes(a, mac.pack(w)), loop(table, a, w, LINEAR))


def test_large_batches_run_in_parts(level):
    """More images than the working buffers take at once."""
    for kind in ("rank2", "classes1", "pairs"):
        mac, table = mac_of(kind, True, linear=False)
        geometry = Geometry.conv(2, padding=1)
        a, w = codes((7, 20, 150, 150), True), codes((4, 20, 3, 3), True, 1)
        packed = mac.pack(w, geometry)
        whole = mac.codes(a, packed, pad_code=1)
        single = torch.cat([mac.codes(image[None], packed, pad_code=1) for image in a])
        assert torch.equal(whole, single)
        corner = loop(table, a[:, :, :4, :4], w, geometry, 1)[..., :3, :3]
        np.testing.assert_array_equal(whole[..., :3, :3], corner)
        mac, table = mac_of(kind, True)
        rows, wl = codes((70_000, 33), True), codes((9, 33), True, 1)
        whole = mac.codes(rows, mac.pack(wl))
        np.testing.assert_array_equal(whole[::997], loop(table, rows[::997], wl, LINEAR))


def refusals():
    mac = NativeMac.table(np.ones((256, 256)), True)
    w = codes((4, 6), True)
    packed = mac.pack(w)
    x, scale = torch.zeros(2, 6), torch.ones(4)
    fused = {"scale": 1.0, "zero_point": 0, "qmin": -127, "qmax": 127, "out_scale": scale}
    return {
        "unsigned weights": (lambda: mac.pack(w.view(torch.uint8)), "int8"),
        "float codes": (lambda: mac.codes(x, packed), "int8"),
        "another device": (lambda: mac.codes(codes((2, 6), True).to("meta"), packed), "meta"),
        "double input": (lambda: mac.quantized(x.double(), packed, **fused), "float32"),
        "another K": (lambda: mac.codes(codes((2, 7), True), packed), "[0-9], 7"),
        "another multiplier": (
            lambda: NativeMac.table(np.ones((256, 256)), True).codes(codes((2, 6), True), packed),
            "another multiplier",
        ),
        "no scale": (lambda: mac.quantized(x, packed, **{**fused, "scale": 0.0}), "positive"),
        "zero point outside": (
            lambda: mac.quantized(x, packed, **{**fused, "zero_point": 200}), "200"),
        "codes too wide": (lambda: mac.quantized(x, packed, **{**fused, "qmax": 300}), "300"),
        "short scales": (
            lambda: mac.quantized(x, packed, **{**fused, "out_scale": scale[:3]}), "4 entries"),
        "short bias": (lambda: mac.quantized(x, packed, **fused, bias=scale[:1]), "4 entries"),
        "pad code": (lambda: mac.codes(codes((2, 6), True), packed, pad_code=200), "200"),
        "overflow": (
            lambda: NativeMac.table(np.full((256, 256), 2**29), True).pack(w), "overflow"),
        "table shape": (lambda: NativeMac.table(np.ones((16, 16)), True), "256 x 256"),
        "table range": (lambda: NativeMac.table(np.full((256, 256), 2**40), True), "32 bits"),
        "wide factors": (
            lambda: NativeMac.factored(np.arange(512)[None, ::2], np.ones((1, 256)), True),
            "8 bits"),
        "wide second factors": (
            lambda: NativeMac.factored(np.ones((1, 256)), np.arange(256)[None] - 1, True),
            "8 bits"),
        "window too large": (
            lambda: mac.codes(codes((1, 2, 2, 2), True),
                              mac.pack(codes((3, 2, 3, 3), True), Geometry.conv(2))),
            "spans"),
        "level": (lambda: native.set_isa("avx1024"), "scalar"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(refusals()) if native.available() else [])
def test_bad_input_is_refused(name):
    call, message = refusals()[name]
    with pytest.raises(DovetailError, match=message):
        call()


def test_fingerprint_tells_changes():
    x = torch.randn(100, 50)
    before = native.fingerprint(x)
    assert native.fingerprint(x.clone()) == before
    x[-1, -1] += 1
    assert native.fingerprint(x) != before
    assert native.fingerprint(torch.zeros(0)) != native.fingerprint(torch.zeros(1))


def test_a_core_of_other_headers_is_refused(tmp_path) -> None:
    header = next((Path(__file__).parents[2] / "native").glob("dovetail.h"), None)
    if header is None or not native.available():
        pytest.skip("needs a checkout and its native core")
    native._check_interface(native._loaded(), header.parent)
    native._check_interface(native._loaded(), tmp_path)  # installed: there are no headers
    (tmp_path / "dovetail.h").write_text(header.read_text() + "// later")
    with pytest.raises(DovetailError, match="from an earlier state of this checkout"):
        native._check_interface(native._loaded(), tmp_path)
