"""Passes run again from any call on: the same bits, whatever the forward does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.emulation.replay import Tape, record, replay
from dovetail.errors import DovetailError
from helpers import INT8, build, modes, randn
from recovery.models import Block

RECIPE = dv.Recipe(
    dv.rule("*", **INT8), dv.rule(op="activation", output="fp8_e4m3fn", optional=True)
)


class Written(nn.Module):
    """Writes to what it gave out before: in place, through a view, and piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        y = x.relu_()
        y[:, :2] += 1
        out = torch.zeros(len(x), 3, 6)
        for i in range(3):
            out[:, i] = self.b(y) * i
            y.view(-1).mul_(0.5)
        out.view(-1)[0] = float("nan")
        return out.nan_to_num_(0.25).sum(1)


class Branching(nn.Module):
    """Goes where its values say, and asks for their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        for _ in range(int(x.abs().sum().item()) % 3 + 1):
            x = self.b(x)
        if bool((x > 0).any()):
            x = x.reshape(x.shape[0], -1, 2).flatten(1)
        one, other = x.chunk(2, -1)
        return torch.cat([other, one], -1).max(-1).values


class Drawing(nn.Module):
    """Draws random numbers between its products."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x) + torch.randn(6)
        return self.b(x + torch.rand_like(x)) * torch.bernoulli(torch.full((6,), 0.5))


class Counting(nn.Module):
    """Keeps a buffer of how often it ran, which it uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)
        self.register_buffer("runs", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs.add_(1)
        return self.a(self.a(x) * 0.5) + 0 * self.runs


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 5, 2, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[:, None].expand(-1, 4, -1))[0].mean(1))


class RMSNorm(nn.Module):
    """One operation, known by its class's name."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()


MODELS = {
    "written": Written,
    "branching": Branching,
    "drawing": Drawing,
    "counting": Counting,
    "recurrent": Recurrent,
    "norm": lambda: nn.Sequential(nn.Linear(6, 6), RMSNorm(), nn.Linear(6, 2)),
    "attention": lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
    "shared": lambda: nn.Sequential(*[nn.Linear(6, 6)] * 3, nn.ReLU(inplace=True)),
    "block": lambda: nn.Sequential(nn.Linear(6, 48), nn.Unflatten(1, (3, 16)), Block()),
    "pruned": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2)
    ),
}


def taped(model: nn.Module, x: Tensor) -> Tape:
    torch.manual_seed(3)
    return record(model, lambda: model(x), lambda _: None)


@torch.no_grad()
def check(model: nn.Module, x: Tensor) -> Tape:
    """Replay from every call; the number of those that the tape holds is returned."""
    torch.manual_seed(3)
    plain = model(x)
    tape = taped(model, x)
    assert torch.equal(tape.output, plain)
    for start in range(len(tape.calls) + 1):
        torch.manual_seed(3)
        with replay(model, tape, start):
            again = model(x)
        assert torch.equal(again, plain), start
    assert modes() == 0
    return tape


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("emulated", [False, True])
def test_every_replay_gives_the_same_bits(name: str, emulated: bool) -> None:
    model, x = build(0, MODELS[name]).eval(), randn(4, 6)
    if emulated:
        dv.apply_(model, RECIPE, x)
    classes = [type(module) for module in model.modules()]
    tape = check(model, x)
    assert sum(call.result is not None for call in tape.calls) >= 2
    assert [type(module) for module in model.modules()] == classes


@torch.no_grad()
def test_what_stands_on_the_tape_is_not_computed_again() -> None:
    seen: list[str] = []
    model, x = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), randn(4, 6)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    tape = taped(model, x)
    with dv.emulation.tap(model, lambda op, call: seen.append(op.key)):
        for start in range(4):
            with replay(model, tape, start):
                model(x)
            seen.append("|")
    assert "".join(seen) == "02|2|2||"


@torch.no_grad()
def test_stochastic_casts_draw_the_same() -> None:
    model, x = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), randn(4, 6)
    rule = dv.rule("*", input="int4(rounding=Stochastic)", weight="int4")
    dv.apply_(model, dv.Recipe(rule), x)
    tape = check(model, x)
    assert all(call.state is not None for call in tape.calls)


@torch.no_grad()
def test_a_path_that_changes_before_the_start_is_refused() -> None:
    class Longer(nn.Sequential):
        steps = 1

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.steps):
                x = torch.tanh(x)
            return super().forward(x)

    model, x = Longer(nn.Linear(6, 6)), randn(4, 6)
    tape = taped(model, x)
    model.steps = 2
    message = "called other functions than the time before"
    with pytest.raises(DovetailError, match=message), replay(model, tape, 2):
        model(x)


@torch.no_grad()
def test_writing_to_the_tape_is_refused() -> None:
    class Sometimes(nn.Module):
        write = False

        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            z = torch.tanh(y)
            return y.add_(z) if self.write else y + z

    model, x = build(0, Sometimes), randn(4, 6)
    tape = taped(model, x)
    model.write = True
    with pytest.raises(DovetailError, match="wrote to a tensor"), replay(model, tape, 2):
        model(x)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@torch.no_grad()
def test_modules_come_back_as_they_were_after_an_interruption() -> None:
    model, x = build(0, MODELS["shared"]).eval(), randn(4, 6)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    entries = [module.__dict__.get("_dovetail") for module in model.modules()]
    classes = [type(module) for module in model.modules()]
    tape = taped(model, x)
    model.register_forward_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt), replay(model, tape, 1):
        model(x)
    assert [module.__dict__.get("_dovetail") for module in model.modules()] == entries
    assert [type(module) for module in model.modules()] == classes
    assert modes() == 0
