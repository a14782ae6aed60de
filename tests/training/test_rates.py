"""Schedules of the learning rate: their shapes, their spelling, and torch's own in their place."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dovetail.errors import DovetailError
from dovetail.training import LearningRate, fit
from dovetail.training.rates import learning_rate

BATCHES = [(torch.randn(4, 3, generator=torch.Generator().manual_seed(i)), torch.arange(4) % 2)
           for i in range(4)]  # fmt: skip


class Recording(torch.optim.SGD):
    """SGD that remembers the rate of every step."""

    rates: list[list[float]]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.rates = [*getattr(self, "rates", []), [g["lr"] for g in self.param_groups]]
        super().step(closure)


def rates(epochs: int = 1, **options: object) -> list[float]:
    net = nn.Linear(3, 2)
    optimizer = Recording(net.parameters(), lr=0.1)
    fit(net, BATCHES, epochs=epochs, optimizer=optimizer, progress=False, **options)  # type: ignore[arg-type]
    return [rate for (rate,) in optimizer.rates]


def test_shapes() -> None:
    assert rates(schedule="constant") == [0.1] * 4
    assert rates(schedule="linear") == pytest.approx([0.1, 0.075, 0.05, 0.025])
    half = [0.05 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    assert rates(schedule="cosine") == pytest.approx(half)
    assert rates(schedule="linear(end=0.5)") == pytest.approx([0.1, 0.0875, 0.075, 0.0625])
    assert rates(schedule="constant(warmup=0.5)") == pytest.approx([0.0, 0.05, 0.1, 0.1])


def test_own_function_and_torchs_schedulers() -> None:
    assert rates(schedule=lambda progress: 1 - progress**2) == pytest.approx(
        [0.1, 0.09375, 0.075, 0.04375]
    )
    found = rates(scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.1))
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_each_group_keeps_its_own_highest_rate() -> None:
    net = nn.Linear(3, 2)
    groups = [{"params": [net.weight], "lr": 0.1}, {"params": [net.bias], "lr": 0.4}]
    optimizer = Recording(groups, lr=1.0)
    fit(net, BATCHES, optimizer=optimizer, schedule="linear", progress=False)
    assert [first * 4 for first, _ in optimizer.rates] == pytest.approx(
        [second for _, second in optimizer.rates]
    )


def test_a_step_of_several_batches_takes_the_rate_of_its_first() -> None:
    assert rates(epochs=2, schedule="linear", accumulate=3) == pytest.approx(
        [0.1, 0.0625, 0.05, 0.0125]
    )


@pytest.mark.parametrize("text", ["cosine", "linear(warmup=0.1)", "cosine(warmup=0.1, end=0.01)"])
def test_spelling(text: str) -> None:
    assert str(learning_rate(text)) == text
    assert learning_rate(learning_rate(text)) == learning_rate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "did you mean 'cosine'"),
        ("cosine(0.1)", "name its arguments"),
        ("cosine(warm=0.1)", "did you mean 'warmup'"),
        ("cosine(warmup=1.5)", "lies between 0 and 1"),
        ("constant(end=0.5)", "no other end"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        fit(nn.Linear(3, 2), BATCHES, schedule=text, progress=False)


def test_what_does_not_go_together() -> None:
    net = nn.Linear(3, 2)
    own = torch.optim.SGD(net.parameters(), lr=0.1)
    for options, message in [
        ({"lr": 0.1, "optimizer": own}, "leave lr out"),
        ({"schedule": "linear", "scheduler": lambda o: None}, "give one of them"),
        ({"scheduler": lambda o: None}, "gave a NoneType"),
    ]:
        with pytest.raises(DovetailError, match=message):
            fit(net, BATCHES, progress=False, **options)  # type: ignore[arg-type]
    with pytest.raises(DovetailError, match="warmup needs a loader with a length"):
        fit(net, iter(BATCHES), schedule="cosine(warmup=0.1)", progress=False)
    assert LearningRate("cosine", warmup=1.0).at(0.5) == 0.5
