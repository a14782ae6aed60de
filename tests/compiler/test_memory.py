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


def memory_of_a_step(model, x):
    """Bytes that are saved, and the larger arena."""
    found, pipeline = record_of(model, x), default_passes()
    arenas = [Unit(program, pipeline).arena for program in (found.forward, found.backward)]
    return found.saved + max(arenas)


def wide_encoder():
    return nn.TransformerEncoderLayer(
        64, 4, 256, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


STEPS = {
    "encoder layer": (wide_encoder, (2, 64, 64)),
    "digits-cnn": (lambda: dv.zoo.build("digits-cnn"), (32, 1, 8, 8)),
    "resnet18": (lambda: dv.zoo.build("resnet18"), (4, 3, 64, 64)),
}


@pytest.mark.parametrize(
    "case", ["encoder layer", *(pytest.param(c, marks=pytest.mark.slow) for c in [*STEPS][1:])]
)
def test_a_steps_memory_is_no_larger_than_eagers(case):
    torch.manual_seed(0)
    make, shape = STEPS[case]
    model, x = make().train(), randn(*shape)
    assert memory_of_a_step(model, x) <= peak_of_eager(model, x)


def tanhs_of(count):
    layers = ((nn.Linear(8, 8), nn.Tanh()) for _ in range(count))
    return nn.Sequential(*(part for pair in layers for part in pair)).train()


def test_backward_uses_the_memory_of_what_it_has_read():
    model, x = tanhs_of(4), randn(5, 8)
    backward = record_of(model, x).backward
    assert len(backward.donated) == 3  # the fourth is what the caller was given
    found = Unit(backward, default_passes()).source.arena
    donors = {donor for donor, _ in found.inside.values()}
    assert donors
    assert donors <= set(backward.donated)
    backward.donated = ()
    alone = Unit(backward, default_passes()).source.arena
    assert not alone.inside
    assert set(alone.offsets) == {*found.offsets, *found.inside}


@pytest.fixture(scope="module")
def tanhs():
    torch.manual_seed(0)
    model = tanhs_of(3)
    return model, dv.compile(model, randn(5, 8))


def gradients(model, x, **options):
    model.zero_grad()
    model(x).square().sum().backward(**options)
    return [p.grad.clone() for p in model.parameters()]


def test_a_graph_that_is_kept_is_run_again(tanhs):
    model, fast = tanhs
    x = randn(5, 8)
    expected = gradients(model, x)
    model.zero_grad()
    loss = fast(x).square().sum()
    for times in (1, 2):
        loss.backward(retain_graph=times == 1)
        for parameter, once in zip(fast.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, times * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_who_is_shown_what_is_saved_can_keep_it(tanhs):
    model, fast = tanhs
    kept = []

    def keep(tensor):
        kept.append((tensor, tensor.clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = gradients(fast, randn(5, 8))
    assert kept
    assert all(torch.equal(tensor, copy) for tensor, copy in kept)
    for mine, other in zip(found, gradients(model, randn(5, 8)), strict=True):
        torch.testing.assert_close(mine, other)
