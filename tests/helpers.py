"""What several tests share: the meaning of the ops written out as loops, and small models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.emulation import tap
from dovetail.kernels.realisation import Operands, _register

CIRCUITS = [m.spelling for m in dv.catalog(bits=8)]
REALISATIONS = dv.kernels.realisations()
INT8 = {"input": "int8", "weight": "int8"}


def holds(name: str, mul: dv.Multiplier, bits: tuple[int, int] = (8, 8)) -> bool:
    """Whether realisation ``name`` says that it computes ``mul`` on full-range operands."""
    width = mul.bits or bits
    low = [-(1 << (n - 1)) if mul.signed else 0 for n in width]
    high = [(1 << (n - 1)) - 1 if mul.signed else (1 << n) - 1 for n in width]
    return _register[name].when(mul, Operands((low[0], high[0]), (low[1], high[1])))


def product_of(mul: dv.Multiplier) -> Callable[[int, int], int]:
    """``f(a, w)`` on Python integers: from the table where there is one."""
    if mul.bits is None:
        return lambda a, w: a * w
    if sum(mul.bits) > 16:
        return lambda a, w: int(mul(a, w))
    rows, first, second = mul.table().tolist(), (1 << mul.bits[0]) - 1, (1 << mul.bits[1]) - 1
    return lambda a, w: rows[a & first][w & second]


def linear_loop(a: Tensor, w: Tensor, mul: dv.Multiplier) -> Tensor:
    """``y[..., n] = sum_k f(a[..., k], w[n, k])`` as three loops over Python integers."""
    f, weights = product_of(mul), w.tolist()
    rows = a.reshape(-1, a.shape[-1]).tolist() if a.numel() else [[]] * (a.shape[:-1].numel())
    sums = [[sum(map(f, row, weight)) for weight in weights] for row in rows]
    return torch.tensor(sums, dtype=torch.int64).reshape(*a.shape[:-1], len(weights))


def each(value: int | Sequence[int], n: int) -> list[int]:
    return [value] * n if isinstance(value, int) else list(value)


def conv_loop(
    a: Tensor,
    w: Tensor,
    mul: dv.Multiplier,
    stride=1,
    padding=0,
    dilation=1,
    groups: int = 1,
    pad_code: int = 0,
) -> Tensor:
    """The convolution by its definition; ``padding`` as ``conv_codes`` takes it."""
    f, n = product_of(mul), a.dim() - 2
    stride, dilation = each(stride, n), each(dilation, n)
    pads = [p if isinstance(p, tuple) else (p, p) for p in each(padding, n)]
    x = np.pad(a.numpy().astype(np.int64), [(0, 0), (0, 0), *pads], constant_values=pad_code)
    weights = w.numpy().astype(np.int64)
    out_channels, per_group = w.shape[0], w.shape[1]
    size = [
        (x.shape[2 + d] - dilation[d] * (w.shape[2 + d] - 1) - 1) // stride[d] + 1 for d in range(n)
    ]
    out = np.zeros((a.shape[0], out_channels, *size), dtype=np.int64)
    for b, o in itertools.product(range(a.shape[0]), range(out_channels)):
        group = o // (out_channels // groups)
        for pixel in itertools.product(*map(range, size)):
            total = 0
            for c in range(per_group):
                for offset in itertools.product(*map(range, w.shape[2:])):
                    place = [pixel[d] * stride[d] + offset[d] * dilation[d] for d in range(n)]
                    code = x[(b, group * per_group + c, *place)]
                    total += f(int(code), int(weights[(o, c, *offset)]))
            out[(b, o, *pixel)] = total
    return torch.from_numpy(out)


def random_codes(
    shape: Sequence[int], bits: int = 8, signed: bool = True, seed: int = 0, edges: bool = True
) -> Tensor:
    """Uniform operand values; with ``edges`` the extremes and zero are certainly among them."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    dtype = (torch.int8 if signed else torch.uint8) if bits <= 8 else torch.int32
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(low, high + 1, tuple(shape), generator=generator).to(dtype)
    flat = codes.view(-1)
    if edges and flat.numel() >= 3:
        flat[:3] = torch.tensor([low, 0, high], dtype=torch.int64).to(dtype)
    return codes


def random_table(seed: int = 0, low: int = -40000, high: int = 40000, sparse: bool = False):
    """An arbitrary 256 x 256 table: of full rank, not commutative, f(0, 0) != 0."""
    rng = np.random.default_rng(seed)
    table = rng.integers(low, high, (256, 256), dtype=np.int64)
    if sparse:
        table[rng.random((256, 256)) < 0.97] = 0
    table[0, 0] = min(12345, high - 1)
    return dv.multiplier(table.astype(np.int32))


def to_codes(x: Tensor, scale, zero, low: int, high: int, axis: int | None = None) -> Tensor:
    """``clamp(rint(x / scale) + zero)`` in NumPy; float32, or float64 for float64 input."""
    wide = np.float64 if x.dtype == torch.float64 else np.float32
    values = x.detach().to(torch.float64 if wide is np.float64 else torch.float32).numpy()
    shape = [1] * values.ndim
    s, z = np.asarray(scale, dtype=np.float32), np.asarray(zero)
    if axis is not None and s.ndim:
        shape[axis] = -1
        s, z = s.reshape(shape), z.reshape(shape)
    return torch.from_numpy(np.clip(np.rint(values / s.astype(wide)) + z, low, high)).long()


class Of(nn.Module):
    """A module that is a function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: object) -> object:
        return self.function(*args)


def build(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose parameters depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Small(nn.Module):
    """A convolution, functional calls, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc1 = nn.Linear(4 * 16, 8)
        self.fc2 = nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x) @ torch.ones(5, 2)


def small(**fields) -> tuple[nn.Module, Tensor]:
    """An emulated :class:`Small` and its example; int8 throughout unless ``fields`` say more."""
    model, x = build(0, Small).eval(), randn(2, 3, 4, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", **(INT8 | fields))), x)
    return model, x


def modes() -> int:
    """How many torch function modes are active."""
    return torch._C._len_torch_function_stack()


def hits(model, *args, **kwargs) -> list[str]:
    """The operations that one forward emulates, in order."""
    seen: list[str] = []
    with tap(model, lambda op, call: seen.append(op.key)):
        model(*args, **kwargs)
    return seen
