"""Activation memory: what forward leaves for backward, and the arenas, beside eager's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.compiler.entry import DEFAULTS
from dovetail.compiler.passes import default_passes
from dovetail.compiler.record import Record
from dovetail.compiler.unit import Unit
from helpers import randn

pytest.importorskip("dace")


def cnn():
    block = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *block, nn.Flatten(), nn.Linear(392, 10))


def encoder():
    return nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)


CASES = {"cnn": (cnn, (4, 3, 16, 16)), "encoder layer": (encoder, (2, 16, 32))}


def saved_by_eager(model, x):
    """Bytes of the memory that autograd keeps, that of parameters, buffers and ``x`` apart."""
    state = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers(), x)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in state:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(x)
    assert output.requires_grad  # it holds what was kept until here
    return sum(kept.values())


def record_of(model, x):
    return Record.of(model, (x,), {}, True, default_passes(), dict(DEFAULTS))


@pytest.mark.parametrize("case", CASES)
def test_no_more_is_left_for_backward_than_eager_keeps(case):
    make, shape = CASES[case]
    model, x = make().train(), randn(*shape)
    found = record_of(model, x)
    assert 0 < found.saved <= saved_by_eager(model, x)


def test_masks_are_made_again_of_what_is_saved():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.0), nn.Linear(6, 2)).train()
    backward = record_of(model, randn(5, 4)).backward
    taken = [backward.buffers[name].dtype for name in backward.inputs if name in backward.buffers]
    assert taken
    assert torch.bool not in taken
    dv.compile(model, randn(5, 4))  # compares gradients with eager's


def test_a_report_says_what_is_saved():
    model, x = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 2)).train(), randn(5, 4)
    report = dv.compile(model, x).report()
    assert report.saved == 5 * 6 * 4  # the sigmoid's result
    assert set(report.arena) == {"forward", "backward"}


def peak_of_eager(model, x):
    """Most bytes that a step has of its own at a time, by torch's memory events."""
    model(x).sum().backward()
    model.zero_grad(set_to_none=False)  # gradients are the model's, as parameters are
    activity = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activity, profile_memory=True) as profile:
        model(x).sum().backward()
    found = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(found, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"), [("digits-cnn", (32, 1, 8, 8)), ("resnet18", (4, 3, 64, 64))]
)
def test_a_steps_memory_is_no_larger_than_eagers(name, shape):
    torch.manual_seed(0)
    model, x = dv.zoo.build(name).train(), randn(*shape)
    found, pipeline = record_of(model, x), default_passes()
    arenas = [Unit(program, pipeline).arena for program in (found.forward, found.backward)]
    assert found.saved <= saved_by_eager(model, x)
    assert found.saved + max(arenas) <= peak_of_eager(model, x)
