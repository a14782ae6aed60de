"""Every kind of operation on every kind of tensor: dtypes, shapes, strides, what is not finite."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.approximations import approximation
from helpers import randn

ELEMENTWISE = [
    ("gelu", "poly2"),
    ("gelu", "pwl(16)"),
    ("gelu", "ibert"),
    ("silu", "table(256, int8)"),
    ("quick_gelu", "poly3"),
    ("mish", "pwl(16)"),
    ("softplus", "pwl(16, fixed(16, 12))"),
    ("sigmoid", "poly3(fp16)"),
    ("tanh", "pwl(8, fixed(16, 12))"),
    ("exp", "base2"),
    ("exp", "poly2"),
    ("reciprocal", "newton(1, bf16)"),
    ("reciprocal", "poly3"),
    ("rsqrt", "newton"),
    ("rsqrt", "isqrt"),
    ("sin", "table(64)"),
    ("cos", "poly4"),
]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def compute(spelling, kind, x, **attributes):
    return approximation(spelling).compute(kind, {"input": x}, attributes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "spelling"), ELEMENTWISE)
def test_the_result_is_float64s_rounded_once(kind, spelling, dtype):
    x = (3 * randn(6, 7)).to(dtype)
    y = compute(spelling, kind, x)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert torch.equal(y, compute(spelling, kind, x.double()).to(dtype)) or y.isnan().any()
    torch.testing.assert_close(
        compute(spelling, kind, x.T)[1:, ::2], y.T[1:, ::2], rtol=0, atol=0, equal_nan=True
    )
    assert compute(spelling, kind, x[:0]).shape == (0, 7)
    scalar = compute(spelling, kind, x[0, 0])
    torch.testing.assert_close(scalar, y[0, 0], rtol=0, atol=0, equal_nan=True)


LIMITS = {  # at 0, +infinity, -infinity
    "gelu": (0.0, math.inf, 0.0),
    "silu": (0.0, math.inf, 0.0),
    "quick_gelu": (0.0, math.inf, 0.0),
    "mish": (0.0, math.inf, 0.0),
    "softplus": (math.log(2), math.inf, 0.0),
    "sigmoid": (0.5, 1.0, 0.0),
    "tanh": (0.0, 1.0, -1.0),
    "exp": (1.0, math.inf, 0.0),
    "reciprocal": (math.inf, 0.0, -0.0),
    "rsqrt": (math.inf, 0.0, math.nan),
    "sin": (0.0, math.nan, math.nan),
    "cos": (1.0, math.nan, math.nan),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "spelling"), ELEMENTWISE)
def test_what_is_not_finite(kind, spelling, dtype):
    x = torch.tensor([0.0, math.inf, -math.inf, math.nan], dtype=dtype)
    y = compute(spelling, kind, x).double().tolist()
    top = 8 - 2**-12 if "fixed" in spelling else math.inf
    assert math.isnan(y[3])
    assert y[1:3] == pytest.approx([min(v, top) for v in LIMITS[kind][1:]], abs=1e-3, nan_ok=True)
    assert y[0] == pytest.approx(LIMITS[kind][0], abs=0.06)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_along_every_dim(dtype):
    x = (2 * randn(3, 5, 4)).to(dtype)
    for dim in (0, 1, 2, -1):
        y = compute("poly3", "softmax", x, dim=dim)
        assert y.dtype == dtype
        rows = compute("poly3", "softmax", x.movedim(dim, -1).contiguous(), dim=-1)
        assert torch.equal(y, rows.movedim(-1, dim))
        torch.testing.assert_close(y, x.softmax(dim), rtol=0, atol=0.01)
    wide = compute("poly3", "softmax", x, dim=-1, dtype=torch.float64)
    assert wide.dtype == torch.float64
    assert compute("poly3", "softmax", x[:, :0], dim=1).shape == (3, 0, 4)


def test_a_row_does_not_depend_on_its_batch():
    x = 3 * randn(64, 37)
    for kind, spelling in (("softmax", "poly2(fp16)"), ("layer_norm", "newton")):
        attributes = {"dim": -1, "normalized_shape": (37,), "eps": 1e-5}
        whole = compute(spelling, kind, x, **attributes)
        for i in (0, 5, 63):
            assert torch.equal(whole[i], compute(spelling, kind, x[i : i + 1], **attributes)[0])


def test_masked_scores_weigh_nothing_even_when_clamped():
    low = torch.finfo(torch.float32).min
    x = torch.tensor([[1.0, 2.0, low], [low, low, low], [1.0, -math.inf, 0.0], [-math.inf] * 3])
    y = compute("softmax(exp=poly3, clamp=-4)", "softmax", x, dim=-1)
    assert y[0, 2] == 0
    assert torch.allclose(y[1], torch.full((3,), 1 / 3), atol=1e-3)
    assert y[2, 1] == 0
    assert y[3].isnan().all()
    assert (
        compute("softmax(exp=poly3, clamp=-4)", "softmax", x[:1] * 0 - 0, dim=-1).isfinite().all()
    )


def test_clamping_bounds_how_small_a_weight_is():
    x = torch.tensor([[0.0, -50.0]])
    assert compute("softmax(exp=poly6)", "softmax", x, dim=-1)[0, 1] < 1e-20
    y = compute("softmax(exp=poly6, clamp=-4)", "softmax", x, dim=-1)
    torch.testing.assert_close(y, torch.tensor([[0.0, -4.0]]).softmax(-1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_with_weight_and_bias_over_several_dims(kind, dtype):
    x, w, b = (
        (2 * randn(*s, seed=i) + 1).to(dtype) for i, s in enumerate([(2, 3, 4), (3, 4), (3, 4)])
    )
    operands = {"input": x, "weight": w} | ({"bias": b} if kind == "layer_norm" else {})
    attributes = {"normalized_shape": (3, 4), "eps": 1e-5}
    y = approximation("newton(3)").compute(kind, operands, attributes)
    wanted = getattr(F, kind)(x, (3, 4), w, *([b] if kind == "layer_norm" else []), eps=1e-5)
    assert y.dtype == dtype
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 6e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(y, wanted, rtol=tolerance, atol=tolerance)


def test_rms_norm_without_eps_takes_the_dtypes():
    x = torch.zeros(1, 4)
    assert torch.equal(compute("newton", "rms_norm", x, normalized_shape=(4,), eps=None), x)
    y = compute("norm()", "rms_norm", x + 1e-4, normalized_shape=(4,), eps=None)
    torch.testing.assert_close(y, F.rms_norm(x + 1e-4, (4,)))


def test_a_scale_changes_the_range_and_not_the_result():
    """In fp16, squares of large values overflow; scaled (SLaNC), they do not."""
    x = 100 * randn(3, 64) + 300
    attributes = {"normalized_shape": (64,), "eps": 1e-5}
    plain = compute("norm(format=fp16, acc=fp16)", "rms_norm", x, **attributes)
    scaled = compute("norm(format=fp16, acc=fp16, scale=0.0078125)", "rms_norm", x, **attributes)
    wanted = F.rms_norm(x, (64,), eps=1e-5)
    assert (plain == 0).all()
    torch.testing.assert_close(scaled, wanted, rtol=0.01, atol=0)
    exact = compute("norm(scale=0.125)", "layer_norm", x, **attributes)
    torch.testing.assert_close(exact, F.layer_norm(x, (64,), eps=1e-5))


def test_the_tanh_form_of_gelu_is_its_own_function():
    x = torch.linspace(-4, 4, 101)
    both = [compute("pwl(256)", "gelu", x, approximate=form) for form in ("none", "tanh")]
    for y, form in zip(both, ("none", "tanh"), strict=True):
        torch.testing.assert_close(y, F.gelu(x, approximate=form), rtol=0, atol=1e-4)
    assert (both[0] - both[1]).abs().max() > 3e-4
    with pytest.raises(dv.DovetailError, match="it is 'none' or 'tanh'"):
        compute("poly2", "gelu", x, approximate="erf")


@pytest.mark.parametrize(
    ("kind", "spelling"), [(k, s) for k, s in ELEMENTWISE if s not in ("ibert", "isqrt")]
)
def test_the_approximations_own_gradient(kind, spelling):
    """Between breakpoints, the difference quotient of the approximation without roundings."""
    plain = spelling.split("(")[0] if kind != "tanh" else "pwl(8)"
    plain = {"pwl": "pwl(16)", "table": "table(64)", "newton": "newton(2)"}.get(plain, plain)
    made = approximation(plain)
    x = torch.linspace(0.3, 2.9, 53, dtype=torch.float64) + 0.00137
    x.requires_grad_()
    (grad,) = torch.autograd.grad(made.compute(kind, {"input": x}, {}).sum(), x)
    h = 1e-6 if plain != "newton(2)" else 2e-3  # newton rounds its argument to fp32
    with torch.no_grad():
        up, down = (made.compute(kind, {"input": x + d}, {}) for d in (h, -h))
    smooth = (up - down) / (2 * h)
    torch.testing.assert_close(grad, smooth, rtol=2e-2, atol=2e-3)


def test_own_gradients_of_rows():
    x = randn(3, 6).double().requires_grad_()
    for kind, spelling in (
        ("softmax", "poly4"),
        ("layer_norm", "newton(3)"),
        ("rms_norm", "poly6"),
    ):
        attributes = {"dim": -1, "normalized_shape": (6,), "eps": 1e-5}
        weights = randn(3, 6, seed=1).double()
        (grad,) = torch.autograd.grad((compute(spelling, kind, x, **attributes) * weights).sum(), x)
        exact = {
            "softmax": lambda: x.softmax(-1),
            "layer_norm": lambda: F.layer_norm(x, (6,)),
            "rms_norm": lambda: F.rms_norm(x, (6,), eps=1e-5),
        }[kind]()
        (wanted,) = torch.autograd.grad((exact * weights).sum(), x)
        torch.testing.assert_close(grad, wanted, rtol=0.02, atol=0.02)


def test_log_softmax_is_the_logarithm_of_the_approximated_sum():
    x = 3 * randn(5, 33)
    for dtype in (torch.float64, torch.float32):
        y = compute("poly6", "log_softmax", x.to(dtype), dim=-1)
        torch.testing.assert_close(y, x.to(dtype).log_softmax(-1), rtol=0, atol=1e-5)
    low = torch.finfo(torch.float32).min
    y = compute("poly3", "log_softmax", torch.tensor([[0.0, low], [0.0, -math.inf]]), dim=-1)
    assert y[:, 0].abs().max() < 1e-3
    assert y[0, 1] <= low / 2
    assert y[1, 1] == -math.inf
    with pytest.raises(dv.DovetailError, match="divides by nothing; leave reciprocal=newton out"):
        approximation("softmax(exp=poly2, reciprocal=newton)").check("log_softmax")


def test_functions_without_a_half_are_not_polynomials():
    for kind in ("mish", "softplus"):
        with pytest.raises(dv.DovetailError, match=f"fn=poly2 does not suit {kind}"):
            approximation("poly2").check(kind)
        exact = getattr(F, kind)
        x = torch.linspace(-9, 9, 181)
        torch.testing.assert_close(compute("pwl(64)", kind, x), exact(x), rtol=0, atol=0.01)
    with pytest.raises(dv.DovetailError, match="approximations are of beta=1"):
        compute("pwl(8)", "softplus", torch.ones(2), beta=2)
