"""Graphs as groups: what is fused, and what costs nothing. Nothing is generated here."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dovetail import DovetailError, zoo
from dovetail.compiler.capture import capture
from dovetail.compiler.groups import Call, Loops
from dovetail.compiler.groups.layout import Layout
from dovetail.compiler.ops.graph import program_of
from helpers import Of, randn


def program(function, *args, backward=False):
    module = function if isinstance(function, nn.Module) else Of(function)
    found = capture(module, args, backward=backward)
    forward = program_of(found.forward, "forward")
    return (forward, program_of(found.backward, "backward")) if backward else forward


def kinds(made):
    return [
        ("rows" if g.is_reduction else "map") if isinstance(g, Loops) else g.key
        for g in made.groups
        if isinstance(g, (Loops, Call))
    ]


def test_a_chain_of_elementwise_operators_is_one_group():
    made = program(lambda x, b: torch.relu(x * 2 + b).exp(), randn(4, 8), randn(8))
    assert kinds(made) == ["map"]
    assert len(made.groups[-1].stores) == 1


def test_softmax_and_layer_norm_are_one_row_reduction_each():
    assert kinds(program(lambda x: x.softmax(-1), randn(4, 8))) == ["rows"]
    assert kinds(program(lambda x: F.layer_norm(x * 2, (8,)), randn(2, 3, 8))) == ["rows"]


def test_batch_norm_in_training_its_statistics_and_what_follows_are_one_group():
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()).train()
    forward, backward = program(net, randn(2, 4, 5, 5), backward=True)
    assert kinds(forward) == ["map", "rows"]  # the other one counts batches
    assert kinds(backward) == ["rows"]


def test_views_cost_nothing():
    def views(x):
        return (x.permute(1, 0, 2).unsqueeze(1)[:, 0, 1:] * 2).transpose(0, 1)

    made = program(views, randn(3, 4, 5))
    assert kinds(made) == ["map"]
    (access,) = [o for s in made.loops()[0].body for o in s.operands]
    assert access.buffer == made.inputs[0]


def test_a_transposed_weight_goes_to_the_product_as_it_lies():
    made = program(nn.Linear(5, 3), randn(2, 5))
    assert kinds(made) == ["aten.addmm.default"]
    assert made.groups[-1].inputs[2].layout == Layout((5, 3), (1, 5))


def test_cat_is_written_in_place_by_what_computes_its_parts():
    made = program(lambda x, y: torch.cat([x * 2, y + 1], 1), randn(2, 3), randn(2, 4))
    stored = {place.buffer for group in made.loops() for _, place in group.stores}
    assert stored == {made.outputs[0].buffer}


def test_an_operator_that_reads_another_order_is_not_fused():
    made = program(lambda x: (x * 2) + (x * 2).t(), randn(4, 4))
    assert kinds(made) == ["map", "map"]


def test_the_text_of_a_program_says_what_is_computed_where():
    text = str(program(lambda x: torch.relu(x) * 3, randn(2, 2)))
    assert "Elementwise [2, 2]" in text
    assert "dv_relu(" in text
    assert "* dace.float32(3.0)" in text


def test_an_operator_without_lowering_names_itself():
    with pytest.raises(DovetailError, match=r"aten\.nonzero"):
        program(lambda x: torch._C._nn.linear(x, x).nonzero(), torch.eye(3))


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 1, 5, 5)])
def test_what_is_summed_over_one_element_is_copied(shape):
    assert kinds(program(lambda x: x.sum(1), torch.ones(shape))) == ["map"]


def test_grouping_takes_linear_time():
    def chain(count):
        def run(x):
            for _ in range(count):
                x = torch.relu(x.softmax(-1) * 2)
            return x

        found = capture(Of(run), (randn(4, 8),))
        start = time.thread_time()
        program_of(found.forward, "forward")
        return time.thread_time() - start

    chain(2)
    assert chain(80) < 40 * max(chain(8), 1e-3)


def test_every_operator_of_resnet18_is_lowered():
    forward, backward = program(zoo.build("resnet18"), randn(2, 3, 32, 32), backward=True)
    assert kinds(forward).count("aten.convolution.default") == 20
    assert len(forward.loops()) <= 45
    assert len(backward.loops()) <= 30
