"""Experiments on language: targets at every place of a text, and perplexity."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail import zoo
from dovetail._batches import classes_first
from dovetail.analysis import accuracy, perplexity
from dovetail.experiment import run
from helpers import randn

SOURCE = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from dovetail import zoo

def model():
    torch.manual_seed(0)
    return zoo.language.LSTMLanguageModel(width=24, layers=1)

def data(seed, batch_size):
    text = zoo.language.documentation()[:1650].long().view(-1, 33)
    parts = TensorDataset(text[:, :-1], text[:, 1:])
    return {name: DataLoader(parts, batch_size=batch_size) for name in ("train", "test")}
"""
FILE = """
dovetail: 1
threads: 1
model: {python: "little:model"}
data: {python: "little:data", batch_size: 10}
rules:
  - {op: linear, input: int8, weight: int8}
fit: {epochs: 4, lr: 0.03}
measure: [accuracy, perplexity]
require: {perplexity: "<= 60"}
report: out
"""


def test_a_run_measures_and_requires_perplexity(tmp_path, monkeypatch):
    (tmp_path / "little.py").write_text(SOURCE)
    (tmp_path / "lm.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    result = run("lm.yaml")
    first, last = result.stages[0].perplexity, result.stages[-1].perplexity
    assert first is not None
    assert last is not None
    assert last < 60 < first < 200
    assert result.met == (f"perplexity {last:.4g} meets <= 60",)
    assert result.stages[0].accuracy.n == 50 * 32
    saved = json.loads(Path("out/report.json").read_text())
    assert saved["stages"][-1]["perplexity"] == last
    assert f"{last:.2f}" in Path("out/report.html").read_text()


def test_models_without_trained_weights_say_how_to_get_them(tmp_path):
    path = tmp_path / "lm.yaml"
    text = FILE.replace('python: "little:model"', "builtin: lstm-lm")
    path.write_text(text.replace('python: "little:data"', "builtin: documentation"))
    with pytest.raises(dv.DovetailError, match="'dovetail run --train' trains it first"):
        run(path, write=False)


def test_classes_stand_last_or_first():
    logits, target = randn(3, 5, 7), torch.arange(15).reshape(3, 5) % 7
    first = logits.mT.contiguous()
    assert classes_first(logits, target).shape == (3, 7, 5)
    assert classes_first(first, target) is first
    square = randn(3, 5, 5)
    assert classes_first(square, target) is square  # as torch reads it
    for given in (logits, first):
        loader = [(given, target)]
        wanted = F.cross_entropy(first.double(), target)
        assert perplexity(nn.Identity(), loader) == pytest.approx(math.exp(float(wanted)))
        hits = int((logits.argmax(-1) == target).sum())
        assert accuracy(nn.Identity(), loader).value == hits / 15
    with pytest.raises(dv.DovetailError, match="perplexity needs at least one"):
        perplexity(nn.Identity(), [])


def test_the_documentation_is_split_the_same_way_every_time():
    text = zoo.data.load("documentation", batch_size=8)
    assert text.classes == 128
    x, y = next(iter(text.test))
    assert x.shape == y.shape == (8, 32)
    assert torch.equal(x[:, 1:], y[:, :-1])
    again = zoo.data.load("documentation", seed=3, batch_size=8)
    assert torch.equal(next(iter(again.test))[0], x)
    assert again.sha256 == text.sha256
    assert len(text.calibration.dataset) == zoo.data.CALIBRATION_IMAGES
