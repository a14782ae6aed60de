"""``dv.cast`` as a function: dtypes, out, gradients, seeds, compile and export, refusals."""

import math
from bisect import bisect

import pytest
import torch

from dovetail import DovetailError, cast, decode, format
from dovetail.formats.philox import random_words, seed_from
from dovetail.formats.realise import door, in_torch, inside, register_cast, round_values
from dovetail.formats.values import values_of
from format_oracles import hostile, same_bits

NAMES = ["fp8_e4m3", "fixed(8, 4)", "posit(8, 1)", "log(4, 3)", "bfp(m=8, block=4)"]
NAMES += ["mxfp4(block=5)", "nvfp4", "nf4(block=4)", "SBFP12_16", "same"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_shape_dtype_out_in_place_empty(name, dtype):
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    y = cast(x, name)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert y.data_ptr() != x.data_ptr()
    out = torch.empty(10, 6, dtype=dtype).t()
    assert cast(x, name, out=out) is out
    assert same_bits(out, y)
    inplace = x.clone()
    assert cast(inplace, name, out=inplace) is inplace
    assert same_bits(inplace, y)
    assert cast(x[:0], name).shape == (0, 10)
    assert cast(x[:, :0], name).shape == (6, 0)
    if "block" not in name and name not in ("nvfp4", "SBFP12_16"):
        assert same_bits(cast(x[0, 0], name), y[0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_straight_through(name):
    x = torch.randn(4, 20, generator=torch.Generator().manual_seed(1)) * 8
    x[0, 0], x[1, 1] = math.nan, math.inf
    tracked = x.clone().requires_grad_()
    y = cast(tracked, name)
    assert same_bits(y.detach(), cast(x, name))
    y.nansum().backward()
    mask = inside(x, format(name)) & x.isfinite()
    if name not in ("nvfp4", "nf4(block=4)", "SBFP12_16", "same"):
        assert not bool(mask.all())
    known = ~y.detach().isnan()  # nansum itself stops the gradient of NaN
    assert torch.equal(tracked.grad[known], mask.float()[known])
    open_ = x.clone().requires_grad_()
    cast(open_, name, clip=False).nansum().backward()
    assert torch.equal(open_.grad[known], x.isfinite().float()[known])


@pytest.mark.parametrize("name", NAMES)
def test_gradient_under_torch_func(name):
    x = torch.randn(3, 20, generator=torch.Generator().manual_seed(2)) * 8
    mask = inside(x, format(name)).float()
    assert torch.equal(torch.func.grad(lambda v: cast(v, name).sum())(x), mask)
    value, tangent = torch.func.jvp(lambda v: cast(v, name), (x,), (torch.full_like(x, 3.0),))
    assert torch.equal(tangent, 3.0 * mask)
    assert torch.equal(value, cast(x, name))
    if name != "nvfp4":  # its scale belongs to what it is called with
        assert torch.equal(torch.func.vmap(lambda v: cast(v, name))(x), cast(x, name))


def test_what_clips():
    x = torch.tensor([447.0, 463.9, 464.1, -500.0, math.nan])
    assert inside(x, format("fp8_e4m3")).tolist() == [True, True, False, False, False]
    assert inside(torch.tensor([7.9, 7.97, -8.03]), format("fixed(8, 4)")).tolist() == [
        True,
        False,
        True,
    ]
    x = torch.tensor([[7.9, 6.1, 1.0, 0.0]])
    assert inside(x, format("mxfp4")).tolist() == [[False, True, True, True]]
    assert inside(x, format("mxfp4(mode=RCEIL)")).all()


STOCHASTIC = ["fp8_e4m3", "fixed(8, 4)", "posit(8, 1)", "bfp(m=4, block=4)", "mxfp4(block=4)"]


def randomly(name, bits=24):
    extra = f"rounding=Stochastic({bits})"
    return f"{name[:-1]}, {extra})" if name.endswith(")") else f"{name}({extra})"


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_seed_fixes_every_bit(name):
    name = randomly(name)
    x = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(3))

    def drawn(v, seed=5):
        return cast(v, name, generator=torch.Generator().manual_seed(seed))

    y = drawn(x)
    assert same_bits(drawn(x), y)
    assert not torch.equal(drawn(x, seed=6), y)
    assert same_bits(drawn(x.permute(2, 0, 1).contiguous().permute(1, 2, 0)), y)
    assert same_bits(drawn(x.repeat(1, 1, 2)[..., ::2].clone() * 0 + x), y)
    seed = torch.tensor(9)
    assert same_bits(round_values(x, format(name), 1, seed), in_torch(x, format(name), 1, seed))
    # An element's bits depend on its row-major index alone: a prefix is a prefix.
    assert same_bits(
        in_torch(x, format(name), seed=seed)[:2], in_torch(x[:2], format(name), -1, seed)
    )
    torch.manual_seed(11)
    first = cast(x, name)
    torch.manual_seed(11)
    assert same_bits(cast(x, name), first)


@pytest.mark.parametrize("name", ["fp8_e4m3", "fixed(8, 4)", "posit(8, 1)", "nf4"])
@pytest.mark.parametrize("bits", [4, 24])
def test_stochastic_rounding_is_unbiased(name, bits):
    generator = torch.Generator().manual_seed(4)
    for value in (0.53, -0.53, 0.917, 0.0301):
        x = torch.full((200_000,), value)
        y = cast(x, randomly(name, bits), generator=generator).double()
        values = values_of(format(name))
        above = bisect(values, value)
        step = values[above] - values[above - 1]
        assert {values[above - 1], values[above]} >= {float(y.min()), float(y.max())}
        tolerance = 4 * float(y.std()) / len(y) ** 0.5 + step * 2.0 ** -(bits + 1)
        assert abs(float(y.mean()) - float(x[0].double())) <= tolerance


def test_random_words_are_philox():
    # Known answers of Random123 for philox4x32-10: a zero counter and key, and all bits set
    words = random_words((9,), torch.tensor(0))
    assert [hex(w) for w in words[:4].tolist()] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]
    assert torch.equal(random_words((3, 3), torch.tensor(0)).flatten(), words)
    assert seed_from(torch.Generator().manual_seed(0), torch.device("cpu")).dim() == 0
    uniform = random_words((40_000,), torch.tensor(1 << 61)).double() / 2.0**32
    assert abs(float(uniform.mean()) - 0.5) < 4 / (12 * 40_000) ** 0.5


@pytest.mark.parametrize("name", ["fp8_e4m3", "posit(6, 1)", "mxfp4(block=4)", "nvfp4(block=4)"])
def test_compiled_and_exported_bits_are_the_same(name):
    fmt = format(name)
    x = torch.randn(4, 12, generator=torch.Generator().manual_seed(6)) * 5

    class Net(torch.nn.Module):
        def forward(self, v):
            return cast(v, fmt)

    exported = torch.export.export(Net(), (x,)).module()
    assert same_bits(exported(x), cast(x, name))
    compiled = torch.compile(lambda v: cast(v, fmt), fullgraph=True, backend="aot_eager")
    assert same_bits(compiled(x), cast(x, name))
    grad = torch.func.grad(lambda v: cast(v, fmt).sum())
    tracked = x.clone().requires_grad_()
    compiled(tracked).sum().backward()
    assert torch.equal(tracked.grad, grad(x))


@pytest.mark.parametrize("spelling", ["mxfp4", "BFP[8|8]{64}(SN)", "int8", "int4(group=5)"])
def test_a_spelling_in_a_graph(spelling):
    """No graph break, no warning (which would be an error), no lookup left in the graph."""
    torch._dynamo.reset()
    x = torch.randn(4, 12, generator=torch.Generator().manual_seed(6))
    compiled = torch.compile(lambda v: cast(v, spelling), fullgraph=True, backend="aot_eager")
    assert same_bits(compiled(x), cast(x, spelling))
    with torch.compiler.set_stance("fail_on_recompile"):
        format("table(0.25, 7.5, 9.0)")
        assert same_bits(compiled(2 * x), cast(2 * x, spelling))

    class Net(torch.nn.Module):
        def forward(self, v):
            return cast(v, spelling)

    assert same_bits(torch.export.export(Net(), (x,)).module()(x), cast(x, spelling))


@pytest.mark.parametrize(("spelling", "scale"), [("nvfp4", 0.01), ("int8", 0.02)])
def test_given_scales_in_a_graph(spelling, scale):
    torch._dynamo.reset()
    x, scale = torch.randn(4, 32), torch.tensor(scale)
    call = torch.compile(lambda v, s: cast(v, spelling, scale=s), fullgraph=True, backend="eager")
    assert same_bits(call(x, scale), cast(x, spelling, scale=scale))
    tracked = x.clone().requires_grad_()
    cast(tracked, spelling, scale=scale / 100).sum().backward()
    assert not bool(tracked.grad.all())  # clipped
    expected = torch.func.grad(lambda v: cast(v, spelling, scale=scale / 100).sum())(x)
    assert torch.equal(tracked.grad, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "fp4_e2m1fn(rounding=Stochastic(24))", "bf16", "mxint8"])
def test_inductor_bits_are_the_same(name):
    torch._dynamo.reset()
    fmt, seed = format(name), torch.tensor(3)
    x = hostile(300, torch.float32, seed=7).nan_to_num(0, 0, 0).view(-1, 3)
    compiled = torch.compile(lambda v: in_torch(v, fmt, -1, seed), fullgraph=True)
    assert same_bits(compiled(x), in_torch(x, fmt, -1, seed))


def test_a_registered_cast_is_taken_in_eager_mode_only():
    calls = []

    @register_cast
    def spy(x, fmt, axis, seed, out, scale, report):
        calls.append((fmt, axis, seed, out))

    try:
        x = torch.ones(3)
        cast(x, "fp8_e4m3", 0)
        assert calls == [(format("fp8_e4m3"), 0, None, None)]
        torch.func.vmap(lambda v: cast(v, "fp8_e4m3"))(x)
        fmt = format("fp8_e4m3")
        torch.compile(lambda v: cast(v, fmt), backend="eager")(x)
        assert len(calls) == 1
    finally:
        door._kernels.remove(spy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: cast(x.int(), "mxfp4"), "x.float()"),
        (lambda x: cast(x.to(torch.float8_e5m2), "mxfp4"), "float8_e5m2"),
        (lambda x: cast(x, "mxfp4", scale=1.0), "finds its own scale; scale= belongs to"),
        (lambda x: cast(x, "fp8_e4m3", channel=0), "channel= belongs to integer formats"),
        (lambda x: cast(x, "mxfp4", out=torch.empty(3)), "out is torch.float32 (3,)"),
        (lambda x: cast(x, "mxfp4", out=x.double()), "out is torch.float64 (4, 4)"),
        (lambda x: cast(x.requires_grad_(), "mxfp4", out=torch.empty(4, 4)), "records no gradient"),
        (lambda x: cast(x, "mxpf4"), "did you mean 'mxfp4'"),
        (lambda x: cast(x, "mxfp4", 5), "is not an axis"),
        (lambda x: cast(x, "fp8_e4m3", 5), "axis=5 of 'fp8_e4m3' is not an axis"),
        (lambda x: cast(x, "mxfp4", "rows"), "axis='rows' is not a whole number"),
        (lambda x: cast([1.0], "mxfp4"), "cast takes a tensor, not [1.0]"),
        (lambda x: decode(x), "decode takes what dv.encode returned"),
        (lambda x: in_torch(x, format("bf16(rounding=Stochastic)")), "needs a seed"),
    ],
)
def test_refusals_teach(call, message):
    with pytest.raises(DovetailError) as caught:
        call(torch.ones(4, 4))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"fmt": "mxfp4", "axis": 2},
        {"fmt": "mxfp4", "scale": 1.0},
        {"fmt": "mxfp5"},
        {"fmt": "int8", "scale": -1.0},
        {"fmt": "int8", "channel": 2},
        {"fmt": "int4(group=3)", "axis": 2},
        {"fmt": "int4(group=3)", "scale": torch.ones(3)},
        {"fmt": "nvfp4", "scale": math.inf},
        {"fmt": "shaped(mxfp4, view=(5, 5))"},
    ],
)
def test_a_refusal_writes_nothing(arguments):
    x, out = torch.randn(4, 8), torch.full((4, 8), 7.0)
    held = x.clone()
    for target in (out, x):
        with pytest.raises(DovetailError):
            cast(x, **arguments, out=target)
    assert torch.equal(x, held)
    assert bool((out == 7).all())


@pytest.mark.parametrize("spelling", ["fp8_e4m3", "mxfp4", "posit(8,1)", "int8"])
def test_out_may_be_the_input_other_memory_or_a_shifted_view_of_it(spelling):
    x = torch.randn(9, 32)
    expected = cast(x, spelling)
    out = torch.empty_like(x)
    assert cast(x, spelling, out=out) is out
    assert torch.equal(out, expected)
    strided = torch.empty(32, 9).t()
    assert torch.equal(cast(x, spelling, out=strided), expected)
    memory = torch.cat([x, torch.zeros(1, 32)])
    assert torch.equal(cast(memory[:9], spelling, out=memory[1:]), expected)
    assert torch.equal(cast(x, spelling, out=x), expected)
    assert torch.equal(x, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmt": ["int8"]}, r"a format is a spelling such as 'int8', not \['int8'\]"),
        ({"fmt": "int8", "scale": "wide"}, "scale='wide' is no number"),
        ({"fmt": "uint8", "scale": 1.0, "zero_point": 3.5}, "zero_point 3.5 is no code of 'uint8'"),
        ({"fmt": "uint8", "scale": 1.0, "zero_point": "low"}, "zero_point='low' is no whole"),
        ({"fmt": "bf16(rounding=Stochastic(8))", "generator": 3}, "generator=3 is no torch"),
        ({"fmt": "shaped(mxfp4, permute=(0, 0))"}, r"permute=\(0, 0\): each axis once.*\(1, 0\)"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused_by_name(arguments, message):
    with pytest.raises(DovetailError, match=message):
        cast(torch.ones(2, 2), **arguments)
