"""Looking inside: intermediate values by name, hooks, and what an invalid SDFG leaves behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn

import dovetail as dv
from dovetail.compiler.entry import DEFAULTS
from dovetail.compiler.passes import default_passes
from dovetail.compiler.record import Record
from dovetail.compiler.unit import Unit
from helpers import randn

pytest.importorskip("dace")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2)).train()


def record(pipeline=None, **options):
    model, x = net(), randn(5, 4)
    options = {**DEFAULTS, **options}
    return Record.of(model, (x,), {}, True, pipeline or default_passes(), options)


def test_values_are_given_by_name_forward_and_backward():
    model, x = net(), randn(5, 4)
    names = ("addmm", "sigmoid", "mul")
    fast = dv.compile(copy.deepcopy(model), x, debug_transients=names)
    fast(x).sum().backward()
    hidden = model[0](x)
    torch.testing.assert_close(fast.transients["forward"]["addmm"], hidden.detach())
    torch.testing.assert_close(fast.transients["forward"]["sigmoid"], hidden.sigmoid().detach())
    slope = (hidden.sigmoid() * (1 - hidden.sigmoid())).detach()
    torch.testing.assert_close(fast.transients["backward"]["mul"], slope, rtol=1e-4, atol=1e-5)
    model(x).sum().backward()
    torch.testing.assert_close(fast.get_parameter("0.weight").grad, model[0].weight.grad)


def test_all_values_in_memory_are_results_where_that_is_asked():
    plain, every = record(), record(debug_transients=True)
    assert not plain.forward.transients
    assert every.forward.transients
    roles = {name: buffer.role for name, buffer in every.forward.buffers.items()}
    assert "temporary" not in roles.values()
    for number in every.forward.transients.values():
        assert every.forward.outputs[number] is not None
    assert every.sources == plain.sources


def test_a_name_that_nothing_has_is_refused():
    with pytest.raises(dv.DovetailError, match="unknown intermediate value 'sigmoit'"):
        record(debug_transients=("sigmoit",))


def test_hooks_are_given_what_they_name_and_may_change_it():
    seen = {}

    def relu_for_sigmoid(graph):
        seen["post_capture"] = type(graph)
        for node in graph.graph.nodes:
            if node.target is torch.ops.aten.sigmoid.default:
                node.target = torch.ops.aten.relu.default
        graph.recompile()

    def both(pair):
        seen["post_autodiff"] = [type(graph) for graph in pair]
        return pair

    def before(sdfg):
        seen["pre_codegen"] = sdfg.name

    pipeline = default_passes()
    hooks = {"post_capture": relu_for_sigmoid, "post_autodiff": both, "pre_codegen": before}
    for stage, hook in hooks.items():
        pipeline = pipeline.with_pass(stage, hook, stage)
    made = record(pipeline)
    assert issubclass(seen["post_capture"], fx.GraphModule)
    assert len(seen["post_autodiff"]) == 2
    assert "dv_relu" in repr(made.forward.groups)
    assert Unit(made.backward, pipeline).sdfg.name == seen["pre_codegen"] == "backward"


def test_hooks_reach_the_compiler_by_its_options():
    with pytest.raises(dv.DovetailError, match="stop here"):
        dv.compile(net(), randn(5, 4), post_capture=_stop)


def _stop(graph):
    raise dv.DovetailError("stop here")


def test_an_invalid_sdfg_is_refused_and_leaves_nothing_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def broken(sdfg):
        for state in sdfg.states():
            for edge in state.edges():
                if edge.data.data is not None:
                    edge.data.data = "nothing_of_that_name"
                    sdfg.validate()

    unit = Unit(record().forward, default_passes())
    with pytest.raises(dv.DovetailError, match="the SDFG is not valid"):
        unit.transform(broken)
    with pytest.raises(dv.DovetailError, match="the SDFG is not valid"):
        _ = unit.code
    assert not list(tmp_path.iterdir())


def test_passes_of_the_same_name_and_other_code_have_other_libraries():
    def made(number):
        return default_passes().with_pass("mark", lambda sdfg: number and None, "sdfg")

    one, other, again = made(1).identity, made(2).identity, made(1).identity
    assert one == again != other
