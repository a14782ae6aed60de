"""Small models for the recipes' tests, and what they hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import dovetail as dv
from helpers import INT8, build, randn


class Block(nn.Module):
    """A transformer block: norms before attention and before a gated feed-forward part."""

    def __init__(self, width: int = 16, inner: int = 24) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.gate = nn.Linear(width, inner), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.n1(x)
        scores = torch.softmax(self.q(h) @ self.k(h).mT / 4, -1)
        x = x + self.o(scores @ self.v(h))
        h = self.n2(x)
        return x + self.down(torch.relu(self.up(h)) * torch.sigmoid(self.gate(h)))


class Convs(nn.Module):
    """Dense, depthwise and grouped convolutions with ReLUs between them, a pool, a linear head."""

    def __init__(self, norm: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=bias)
        self.c = nn.Conv2d(8, 12, 1, groups=2, bias=bias)
        self.na, self.nb = (nn.BatchNorm2d(8) if norm else nn.Identity() for _ in range(2))
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.na(self.a(x)))
        x = torch.relu(self.nb(self.b(x)))
        x = torch.max_pool2d(torch.relu(self.c(x)), 2)
        return self.head(x.mean((2, 3)))


def _uneven(model: nn.Module) -> nn.Module:
    """Channels of very different sizes, statistics that are not those of a fresh norm."""
    with torch.no_grad():
        for seed, module in enumerate(model.modules()):
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None or tensor.dim() == 0:
                    continue
                if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d)):
                    tensor.add_(randn(*tensor.shape, seed=seed).to(tensor.dtype).abs())
                if name == "weight":
                    size = torch.exp(1.5 * randn(len(tensor), seed=seed + 99)).to(tensor.dtype)
                    tensor.mul_(size.view(-1, *[1] * (tensor.dim() - 1)))
    return model


def blocks(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, list[Tensor]]:
    """Two blocks and a head, with three batches."""
    make = lambda: nn.Sequential(Block(), Block(), nn.Linear(16, 4))  # noqa: E731
    model = _uneven(build(0, make).to(dtype)).eval()
    return model, [randn(2, 5, 16, seed=s, dtype=dtype) for s in range(3)]


def convs(
    dtype: torch.dtype = torch.float64, norm: bool = False, bias: bool = True
) -> tuple[nn.Module, list[Tensor]]:
    """A :class:`Convs` with three batches."""
    model = _uneven(build(0, lambda: Convs(norm, bias)).to(dtype)).eval()
    return model, [randn(4, 3, 6, 6, seed=s, dtype=dtype) for s in range(3)]


def emulated(made: tuple[nn.Module, list[Tensor]], **fields: str) -> tuple[nn.Module, list[Tensor]]:
    """The same, under int8 or what ``fields`` say."""
    model, batches = made
    dv.apply_(model, dv.Recipe(dv.rule("*", **(INT8 | fields))), batches[0])
    with dv.calibrate(model):
        for batch in batches:
            model(batch)
    return model, batches


def everything(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a model holds, hidden ones too, and the words of its emulation."""
    found = {
        f"{path}.{name}": tensor.detach().clone()
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }
    if dv.emulation.is_emulated(next(iter(model.modules()))) or _any_emulated(model):
        found |= {f"state {name}": value for name, value in dv.state(model).items()}
    return found


def _any_emulated(model: nn.Module) -> bool:
    return any(dv.emulation.is_emulated(module) for module in model.modules())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names in the same order, and the same bits."""
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def error(model: nn.Module, exact: nn.Module, batches: list[Tensor]) -> float:
    """The relative squared error of a model's outputs."""
    with torch.no_grad():
        pairs = [(model(b), exact(b)) for b in batches]
    wrong = sum(float((y - e).square().sum()) for y, e in pairs)
    return wrong / sum(float(e.square().sum()) for _, e in pairs)
