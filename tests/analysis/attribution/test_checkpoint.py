"""Attributions that are interrupted go on, and end with the numbers of those that are not."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.analysis.attribution import checkpoint
from helpers import build, randn

RECIPE = dv.Recipe(dv.rule("*", input="int8", weight="int4", bias="bf16"))


def emulated(seed: int = 0) -> nn.Module:
    model = build(seed, lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    dv.apply_(model, RECIPE, randn(8, 6))
    return model


def batches(seed: int = 3):
    return [(randn(8, 6, seed=seed + n), torch.arange(8) % 3) for n in range(4)]


@pytest.fixture(autouse=True)
def _every_batch(monkeypatch):
    monkeypatch.setattr(checkpoint, "_SHARE", 0)


def interrupted(model, path, after: int, **options) -> None:
    """Ctrl-C after so many passes."""

    def stop(done, of):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dv.attribute(model, batches(), checkpoint=path, progress=stop, **options)


@pytest.mark.parametrize("options", [{}, {"disable": False}, {"select": "2", "metric": "loss"}])
def test_the_numbers_are_those_of_one_run(tmp_path, options):
    whole = dv.attribute(emulated(), batches(), **options).to_dict()
    path, passes = tmp_path / "part", []
    dv.attribute(emulated(), batches(), progress=lambda done, of: passes.append(of), **options)
    each = passes[-1] // 4
    interrupted(emulated(), path, each * 2 + 1, **options)
    told = []
    found = dv.attribute(
        emulated(), batches(), checkpoint=path, progress=lambda d, of: told.append(d), **options
    )
    assert found.to_dict() == whole
    assert told[:3] == [each, each * 2, each * 2 + 1]  # two batches are not measured again
    assert dv.attribute(emulated(), batches(), checkpoint=path, **options).to_dict() == whole


def test_another_attribution_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "part"
    dv.attribute(emulated(), batches(), checkpoint=path)
    raw = path.read_bytes()
    others = {
        "another model": lambda: dv.attribute(emulated(1), batches(), checkpoint=path),
        "another metric": lambda: dv.attribute(emulated(), batches(), "loss", checkpoint=path),
        "another recipe, another choice of sources": lambda: dv.attribute(
            emulated(), batches(), select="0", checkpoint=path
        ),
        "another choice of sources": lambda: dv.attribute(
            emulated(), batches(), disable=False, checkpoint=path
        ),
        "another batches": lambda: dv.attribute(emulated(), batches(9), checkpoint=path),
    }
    for said, call in others.items():
        with pytest.raises(dv.DovetailError, match=f"{re.escape(str(path))} is .*{said}: delete"):
            call()
    assert path.read_bytes() == raw


def test_a_recipe_of_its_own_counts(tmp_path):
    path, model = tmp_path / "part", emulated()
    dv.attribute(model, batches(), checkpoint=path)
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int5", bias="bf16")), randn(8, 6))
    with pytest.raises(dv.DovetailError, match="another model, another recipe"):
        dv.attribute(model, batches(), checkpoint=path)


@pytest.mark.parametrize("cut", [0, 40, -40])
def test_a_damaged_file_is_refused(tmp_path, cut):
    path = tmp_path / "part"
    dv.attribute(emulated(), batches(), checkpoint=path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(dv.DovetailError, match="no checkpoint of an attribution, or damaged"):
        dv.attribute(emulated(), batches(), checkpoint=path)


def test_what_cannot_be_kept_is_refused(tmp_path):
    path = tmp_path / "part"
    with pytest.raises(dv.DovetailError, match="checkpoint is for mode='exact'"):
        dv.attribute(emulated(), batches(), mode="first_order", checkpoint=path)

    def mine(model, loader):
        return 0.5

    with pytest.raises(dv.DovetailError, match="not the outputs that mine is called with"):
        dv.attribute(emulated(), batches(), mine, checkpoint=path)
    with pytest.raises(dv.DovetailError, match="there is no folder"):
        dv.attribute(emulated(), batches(), checkpoint=tmp_path / "no" / "part")
    assert not path.exists()
