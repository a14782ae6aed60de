"""Importing dovetail changes nothing in torch, and the public surface is what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dovetail as dv

CHECK = """
import logging, sys, warnings
warnings.simplefilter("error")
import torch, torch.nn.functional as F
from torch import nn
before = {
    (owner.__name__, name): id(value)
    for owner in (torch, F, nn, torch.Tensor, nn.Module, nn.Linear, nn.Conv2d, torch.autograd)
    for name, value in vars(owner).items()
}
state = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
handlers, level = list(logging.root.handlers), logging.root.level
import dovetail
after = {
    (owner.__name__, name): id(value)
    for owner in (torch, F, nn, torch.Tensor, nn.Module, nn.Linear, nn.Conv2d, torch.autograd)
    for name, value in vars(owner).items()
}
lazy = {key for key in after if key not in before}
changed = [key for key in before if after.get(key) != before[key]]
assert not changed, changed
assert all(key[0] == "torch" for key in lazy), lazy  # torch's own lazy sub-modules
assert torch.equal(state[0], torch.get_rng_state())
assert state[1:] == (torch.get_num_threads(), torch.get_default_dtype())
assert torch._C._len_torch_function_stack() == 0
assert (logging.root.handlers, logging.root.level) == (handlers, level)
heavy = "torch._dynamo matplotlib sklearn jinja2 onnx optuna dace transformers typer"
for heavy in heavy.split():
    assert heavy not in sys.modules, heavy
"""


def test_importing_changes_nothing():
    done = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


LAZY = """
import sys
import dovetail, dovetail.cli.app
heavy = {"torch", "numpy", "pydantic", "yaml"} & set(sys.modules)
assert not heavy, heavy
from dovetail import zoo
assert "dovetail._public" not in sys.modules
import dovetail.sparsity
import dovetail as dv
assert dv.sparsity("2:4") == dovetail.sparsity("2:4")
assert set(dv.__all__) <= set(dir(dv))
from dovetail import *
assert fit is dv.fit
from dovetail.experiment import run, subject
import dovetail.experiment.run
assert run is dovetail.experiment.run and callable(run)
try:
    dv.nonsense
except AttributeError as error:
    assert str(error) == "module 'dovetail' has no attribute 'nonsense'"
else:
    raise AssertionError
"""
EAGER = """
import torch
import dovetail
assert torch.ops.dovetail.linear.default
"""


@pytest.mark.parametrize("program", [LAZY, EAGER], ids=["lazy", "eager"])
def test_names_are_loaded_when_they_are_asked_for_or_torch_is_there(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_everything_public_is_there_and_documented():
    assert sorted(dv.__all__) == list(dv.__all__)
    for name in dv.__all__:
        assert getattr(dv, name).__doc__, name
