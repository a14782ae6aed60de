"""Options of dv.fit that cannot be are refused by name, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.training import Distillation, fit
from helpers import randn

X = randn(16, 4)
BATCHES = [(X, (X[:, 0] > 0).long())] * 3


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))


def emulated() -> nn.Sequential:
    model = net()
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), X)
    return model


def constant(output: Tensor, target: Tensor) -> Tensor:
    return torch.tensor(1.0)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 1.5}, "epochs is 1.5"),
    ({"epochs": "2"}, "epochs is '2'"),
    ({"epochs": True}, "epochs is True"),
    ({"lr": "1e-3"}, "lr is '1e-3'; a learning rate"),
    ({"lr": float("nan")}, "lr is nan"),
    ({"optimizer": 3}, "optimizer=3: give a name"),
    ({"optimizer": "lbfgs"}, "'lbfgs': lbfgs calls the loss several times.*take 'adam'"),
    ({"optimizer": "sparseadam"}, "sparse gradients alone"),
    ({"optimizer": "muon"}, r"'muon': Muon only supports 2D"),
    ({"optimizer": "sgd(lr=0.1)"}, r"'sgd\(lr=0.1\)': the learning rate is said apart, lr=0.1"),
    ({"optimizer": lambda parameters, lr: None}, "made a NoneType"),
    ({"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1)}, "moves no parameter of this model"),
    ({"schedule": 3}, "schedule=3: give a name, such as 'cosine'"),
    ({"schedule": lambda progress: "x"}, "the schedule gave 'x' at progress 0"),
    ({"schedule": lambda progress: float("nan")}, "the schedule gave nan at progress 0"),
    ({"scheduler": "steplr"}, r"scheduler='steplr': give a function scheduler\(optimizer\)"),
    ({"loss": "mse"}, r"loss='mse': give a function loss\(output, target\)"),
    ({"loss": lambda output, target: 1.0}, "the loss is 1.0, not a tensor"),
    ({"loss": constant}, "the loss has no gradient"),
    ({"on_epoch": 3}, r"on_epoch=3: give a function"),
    ({"precision": torch.bfloat16}, "unknown precision 'torch.bfloat16'"),
    ({"accumulate": 2.5}, "accumulate is 2.5"),
    ({"accumulate": "2"}, "accumulate is '2'"),
    ({"clip_norm": "1"}, "clip_norm is '1'"),
    ({"evaluate": float, "goal": ["max"]}, r"unknown goal '\['max'\]'"),
    ({"distill": 3}, "distill=3: give 'exact', a teacher"),
    ({"distill": "exact(temperature=hot)"}, "temperature='hot' must be a number above 0"),
    ({"distill": "exact(alpha=much)"}, "alpha='much'"),
    ({"distill": "exact(features=3)"}, "features=3: give globs"),
    ({"distill": "exact(features=[0])"}, r"features=\(0,\): give globs"),
    ({"distill": "exact(class_axis=x)"}, "class_axis='x'"),
    (
        {"distill": "exact(class_axis=5)"},
        r"class_axis=5: the model gives logits of shape \(16, 2\)",
    ),
    ({"distill": nn.Linear(4, 1)}, r"the model gave shape \(16, 2\), and its teacher \(16, 1\)"),
    ({"checkpoint": 3}, "checkpoint=3: give a folder"),
    ({"checkpoint": Path(__file__)}, "a file; a checkpoint is a folder"),
    ({"logger": Path(__file__).parent}, "a folder; give a file"),
    ({"seed": "3"}, "seed='3'"),
    ({"seed": 2**70}, "seed=1180591620717411303424"),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=["-".join(options) for options, _ in REFUSED]
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    model = emulated()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    with pytest.raises(DovetailError, match=message):
        fit(model, BATCHES, progress=False, **options)
    assert torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


def test_a_model_and_a_loader_are_what_they_must_be() -> None:
    with pytest.raises(DovetailError, match=r"model=None: dv\.fit trains an nn.Module"):
        fit(None, BATCHES)  # type: ignore[arg-type]
    with pytest.raises(DovetailError, match="loader=3: give an iterable of batches"):
        fit(net(), 3, progress=False)  # type: ignore[arg-type]


def test_a_budget_is_a_number() -> None:
    with pytest.raises(DovetailError, match=r"budget='0\.1'"):
        fit(emulated(), BATCHES, evaluate=len, budget="0.1", progress=False)  # type: ignore[arg-type]


def test_hints_of_other_shapes_are_not_stretched() -> None:
    teacher = nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 2))
    how = Distillation(teacher, features="0")
    with pytest.raises(DovetailError, match=r"gave shape \(16, 4\), and its teacher \(16, 1\)"):
        fit(net(), BATCHES, distill=how, progress=False)


def test_numbers_of_numpy_are_numbers() -> None:
    made = fit(
        net(), BATCHES, epochs=np.int64(1), lr=np.float32(0.5), seed=np.int64(3), progress=False
    )
    plain = fit(net(), BATCHES, epochs=1, lr=0.5, seed=3, progress=False)
    assert made.losses == plain.losses


def test_an_optimizer_of_matrices_trains_a_model_of_matrices() -> None:
    model = nn.Linear(4, 2, bias=False)
    assert fit(model, BATCHES, optimizer="muon", progress=False).steps == 3
