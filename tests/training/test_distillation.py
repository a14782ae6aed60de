"""Learning from a teacher, by logits and by features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.training import Distillation, FitResult, fit
from helpers import randn

X = randn(12, 6)
Y = torch.arange(12) % 3


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def emulated() -> nn.Sequential:
    model = net()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8", mul="mul8s_1L12")), X)
    return model


def quiet(model: nn.Module, **options: object) -> FitResult:
    return fit(model, [(X, Y)], progress=False, lr=1e-9, **options)  # type: ignore[arg-type]


def divergence(student: Tensor, teacher: Tensor, t: float) -> float:
    """T^2 KL(teacher || student), term by term."""
    total = 0.0
    for s, q in zip(student.tolist(), teacher.tolist(), strict=True):
        s_sum, q_sum = sum(math.exp(v / t) for v in s), sum(math.exp(v / t) for v in q)
        for a, b in zip(s, q, strict=True):
            p = math.exp(b / t) / q_sum
            total += p * (math.log(p) - math.log(math.exp(a / t) / s_sum))
    return t * t * total / len(student)


@pytest.mark.parametrize(("t", "alpha"), [(1.0, 1.0), (4.0, 0.3), (2.0, 0.0)])
def test_logits_by_hand(t: float, alpha: float) -> None:
    teacher, model = net(seed=1).eval(), net()
    how = Distillation(teacher, temperature=t, alpha=alpha)
    with torch.no_grad():
        student = net().train()(X)
        own = float(nn.functional.cross_entropy(student, Y))
        expected = alpha * divergence(student, teacher(X), t) + (1 - alpha) * own
    assert quiet(model, distill=how).losses[0] == pytest.approx(expected, rel=1e-5)


def test_the_exact_teacher_is_the_model_before_training_without_emulation() -> None:
    model, plain = emulated(), net().eval()
    with torch.no_grad():
        student, taught = emulated().train()(X), plain(X)
    assert quiet(model, distill="exact(alpha=1.0)").losses[0] == pytest.approx(
        divergence(student, taught, 2.0), rel=1e-5
    )
    assert model[1].num_batches_tracked == 1  # the teacher's passes leave the statistics alone


def test_features_by_hand() -> None:
    teacher, model = net(seed=1).eval(), net()
    with torch.no_grad():
        s0 = net()[0](X)
        s2 = net()[:3](X)
        t0, t2 = teacher[0](X), teacher[:3](X)
    apart = [float((s - t).square().sum() / t.square().sum()) for s, t in ((s0, t0), (s2, t2))]
    how = Distillation(teacher, alpha=1.0, features=("0", "2"))
    assert quiet(model, distill=how).losses[0] == pytest.approx(sum(apart) / 2, rel=1e-5)
    assert not any(module._forward_hooks for module in (*model.modules(), *teacher.modules()))


def test_classes_on_another_axis() -> None:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x).unsqueeze(1)  # [B, 1, classes]
            return y

    teacher, model = Sequence(), Sequence()
    expected = divergence(model(X)[:, 0], teacher(X)[:, 0], 1.0)
    how = Distillation(teacher, temperature=1.0, alpha=1.0, class_axis=-1)
    loss = quiet(model, distill=how, loss=lambda out, y: out.sum() * 0).losses[0]
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("how", ["sequence", "image"])
def test_the_classes_are_found_on_either_axis(how: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)  # [B, time, classes]
            return y if how == "sequence" else y.movedim(-1, 1)

    teacher, model = Model(), Model()
    x, y = torch.randn(4, 5, 6), torch.randint(0, 3, (4, 5))
    apart = divergence(model.layer(x).flatten(0, 1), teacher.layer(x).flatten(0, 1), 1.0)
    chosen = Distillation(teacher, temperature=1.0, alpha=1.0)
    loss = fit(model, [(x, y)], distill=chosen, progress=False).losses[0]
    assert loss == pytest.approx(apart, rel=1e-5)


def test_it_teaches() -> None:
    torch.manual_seed(0)
    teacher = net()
    fit(teacher, [(X, Y)], epochs=60, lr=0.05, progress=False)
    model = net(seed=2)
    wrong = [(X, torch.zeros_like(Y))]
    fit(model, wrong, epochs=60, lr=0.05, distill=Distillation(teacher, alpha=1.0), progress=False)
    agree = model.eval()(X).argmax(1) == teacher.eval()(X).argmax(1)
    assert float(agree.float().mean()) > 0.9


def test_the_teacher_is_not_trained() -> None:
    teacher = net(seed=1)
    before = [p.clone() for p in teacher.parameters()]
    model = net()
    fit(model, [(X, Y)], epochs=2, lr=0.1, distill=teacher, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("exakt", "teacher='exakt'"),
        ("exact(4)", "name its arguments"),
        ("exact(temp=4)", "did you mean 'temperature'"),
        ("exact(temperature=0)", "temperature=0 must be a number above 0"),
        ("exact(alpha=2)", "alpha=2 of a distillation"),
        ("exact(features=conv1)", "features='conv1' matches no module"),
    ],
)
def test_refusals(how: str, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        quiet(emulated(), distill=how)


def test_an_exact_model_has_no_exact_teacher() -> None:
    with pytest.raises(DovetailError, match="not emulated"):
        quiet(net(), distill="exact")
