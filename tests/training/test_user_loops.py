"""Loops that are not ours: a plain one, Hugging Face's Trainer, Lightning. None needs a change."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import dovetail as dv
from dovetail.training.snapshot import tensors
from helpers import INT8, build, randn

X = randn(32, 6)
Y = (X[:, 0] > X[:, 1]).long()
RECIPE = dv.Recipe(dv.rule("*", **INT8, mul="mul8s_1KV9"))
ROUNDS = 6


def net() -> nn.Sequential:
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert isinstance(model, nn.Sequential)
    dv.apply_(model, RECIPE, X)
    return model


def by_hand(model: nn.Module, loss: Any) -> list[float]:
    """SGD at lr 0.1, all data at once: what every loop below must come to."""
    found = []
    for _ in range(ROUNDS):
        value = loss(model)
        value.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        found.append(float(value.detach()))
    return found


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_a_plain_loop() -> None:
    model, expected = net(), net()
    losses = by_hand(expected, lambda m: nn.functional.cross_entropy(m(X), Y))
    optimizer, found = torch.optim.SGD(model.parameters(), lr=0.1), []
    for _ in range(ROUNDS):
        loss = nn.functional.cross_entropy(model(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found == losses
    assert same(model, expected)
    assert found[-1] < found[0]


class Trained(nn.Module):
    """A model as Hugging Face's Trainer expects one: keywords in, a loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"x": X[i], "labels": Y[i]}


def has(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


@pytest.mark.skipif(not has("transformers", "accelerate"), reason="needs transformers, accelerate")
def test_hugging_faces_trainer(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model, expected = Trained(), Trained()
    losses = by_hand(expected, lambda m: m(X, Y)["loss"])
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=ROUNDS,
        per_device_train_batch_size=len(X),
        lr_scheduler_type="constant",
        learning_rate=0.1,
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Rows(), optimizers=(optimizer, None)
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-3)  # it logs four digits
    assert same(model, expected)
    saved = Trained()
    again = Trainer(model=saved, args=arguments, train_dataset=Rows())
    again._load_from_checkpoint(trainer.state.best_model_checkpoint or _last(tmp_path))
    assert same(saved, model)


def _last(folder: Path) -> str:
    return str(max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2])))


@pytest.mark.skipif(not has("lightning"), reason="needs lightning")
def test_lightning(tmp_path: Path) -> None:
    import lightning

    class Lit(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            x, y = batch
            return nn.functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model, expected = Lit(), net()
    by_hand(expected, lambda m: nn.functional.cross_entropy(m(X), Y))
    trainer = lightning.Trainer(
        max_epochs=ROUNDS,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, DataLoader(TensorDataset(X, Y), batch_size=len(X)))
    assert same(model.net, expected)


def test_moving_averages_of_weights() -> None:
    """torch's own helper copies the model and calls the copy."""
    model = net()
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
        averaged.update_parameters(model)
    other = net()
    other.load_state_dict(averaged.module.state_dict())
    assert torch.equal(other(X), averaged(X))
    assert not torch.equal(other(X), model(X))
