"""The training loop: what it learns, what it repeats, what it refuses, and what it leaves alone."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dovetail.errors import DovetailError
from dovetail.training.fit import fit

X = torch.randn(96, 4, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] > X[:, 1]).long()


def model(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))


def loader(**options: object) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True, **options)  # type: ignore[arg-type]


quiet = partial(fit, progress=False)


def test_learns_and_reports_each_epoch() -> None:
    seen: list[tuple[int, float]] = []
    net = model()
    result = quiet(
        net, loader(), epochs=8, lr=0.05, seed=0, on_epoch=lambda e, v: seen.append((e, v))
    )
    assert result.steps == 48
    assert seen == list(enumerate(result.losses, 1))
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert ((net.eval()(X).argmax(1) == Y).float().mean()) > 0.9


@pytest.mark.parametrize("own_generator", [False, True])
def test_a_seed_repeats_data_order_and_dropout(own_generator: bool) -> None:
    results = []
    for noise in (3, 4):
        torch.manual_seed(noise)
        generator = torch.Generator().manual_seed(noise) if own_generator else None
        net, batches = model(), loader(generator=generator)
        results.append((quiet(net, batches, epochs=2, lr=0.01, seed=7), net.state_dict()))
    assert results[0][0] == results[1][0]
    for key, value in results[0][1].items():
        assert torch.equal(value, results[1][1][key])
    other = quiet(model(), loader(), epochs=2, lr=0.01, seed=8)
    assert other.losses != results[0][0].losses


def test_a_seed_leaves_the_generators_as_they_were() -> None:
    own = torch.Generator().manual_seed(5)
    before, own_before = torch.get_rng_state(), own.get_state()
    quiet(model(), loader(generator=own), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(own.get_state(), own_before)


def test_learning_rate_falls_along_half_a_cosine() -> None:
    rates: list[float] = []

    class Recording(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    quiet(model(), [(X[:8], Y[:8])] * 2, epochs=2, lr=0.4, optimizer=Recording)
    expected = [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))]
    assert rates == pytest.approx(expected)


def test_a_stream_without_length_falls_once_an_epoch() -> None:
    class Stream:
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from [(X[:8], Y[:8])] * 3

    assert quiet(model(), Stream(), epochs=2).steps == 6


def test_modes_are_restored_also_after_an_error() -> None:
    net = model()
    net[1].eval()
    quiet(net, loader())
    assert [net.training, net[0].training, net[1].training] == [True, True, False]
    with pytest.raises(DovetailError):
        quiet(net.eval(), [])
    assert not any(module.training for module in net.modules())


def test_own_loss_and_frozen_parameters() -> None:
    net = model()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    moved = net[3].weight.clone()
    quiet(net, loader(), lr=0.1, loss=lambda out, target: (out[:, 0] - target).square().mean())
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(net[3].weight, moved)


def test_several_inputs_per_batch() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            out: Tensor = self.layer(a + b)
            return out

    assert quiet(Sum(), [(X, X, Y)]).steps == 1


def test_stops_at_a_loss_that_is_not_finite_before_its_step() -> None:
    net = model()
    before = [p.clone() for p in net.parameters()]
    values = iter([0.5, math.nan])

    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = next(values)
        return output.sum() * 0 + value

    with pytest.raises(DovetailError, match=r"loss is nan at epoch 1, step 2.*lower lr.*0\.01"):
        quiet(net, [(X, Y)] * 3, lr=0.01, loss=loss)
    for now, then in zip(net.parameters(), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan"),
    ],
)
def test_refuses_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        quiet(model(), loader(), **options)


def test_refuses_nothing_to_learn_from_or_to_train() -> None:
    with pytest.raises(DovetailError, match="no batch in epoch 1"):
        quiet(model(), [])
    once = iter([(X, Y)])
    with pytest.raises(DovetailError, match="no batch in epoch 2"):
        quiet(model(), once, epochs=2)
    with pytest.raises(DovetailError, match="ReLU has no parameter"):
        quiet(nn.ReLU(), loader())
    with pytest.raises(DovetailError, match="nothing to train"):
        quiet(model().requires_grad_(False), loader())


def test_progress_writes_nothing_when_off(capfd: pytest.CaptureFixture[str]) -> None:
    quiet(model(), loader())
    assert capfd.readouterr() == ("", "")
