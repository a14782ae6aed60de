"""Captures kept on disk: what is part of their key, what is not kept, and what is found again."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.compiler import captures, record
from dovetail.compiler.check import check
from dovetail.compiler.entry import DEFAULTS
from dovetail.compiler.nodes.users import implement, implementations
from dovetail.compiler.passes import default_passes
from helpers import randn

pytest.importorskip("dace")

SLOPE = 0.5


def scaled(x):
    return x * SLOPE


class Net(nn.Module):
    def __init__(self, width=3, factor=2.0):
        super().__init__()
        self.fc = nn.Linear(4, width)
        self.factor = factor

    def forward(self, x):
        return scaled(torch.relu(self.fc(x))) * self.factor


def place(model, x=None, *, gradients=False, passes=None, dynamic=False):
    x = randn(2, 4) if x is None else x
    options = {**DEFAULTS, "dynamic": dynamic}
    return captures.shelf_of(model, (x,), {}, gradients, passes or default_passes(), options)


def key(model, x=None, **options):
    found = place(model, x, **options)
    assert found.key is not None, found.says
    return found.key


def source_of(body, **names):
    """A class like ``Net`` whose ``forward`` has the body given."""
    space = {"nn": nn, "torch": torch, "F": F, **names}
    text = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    exec(
        "class Made(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(4, 3)\n"
        f"    def forward(self, x):\n{text}\n",
        space,
    )
    return space["Made"]


def test_the_same_model_has_the_same_key_whatever_its_weights():
    one, other = Net(), Net()
    assert key(one) == key(other)
    with torch.no_grad():
        one.fc.weight.zero_()
    assert key(one) == key(other)
    one(randn(2, 4))
    assert key(one) == key(other)


def changed_attribute(model):
    model.factor = 3.0


def changed_mode(model):
    model.fc.eval()


def changed_type(model):
    model.fc.half()


def changed_gradient(model):
    model.fc.bias.requires_grad_(False)


def changed_part(model):
    model.fc = nn.Linear(4, 5)


def changed_strides(model):
    model.fc.weight = nn.Parameter(model.fc.weight.detach().t().contiguous().t())


def changed_tie(model):
    model.extra = model.fc.weight


def with_a_hook(model):
    model.fc.register_forward_hook(lambda module, args, output: output + 1)


def with_a_forward(model):
    model.forward = lambda x: x


def with_a_constant(model):
    model.table = torch.ones(3)


def emulated(model):
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int8")), randn(2, 4))


def emulated_otherwise(model):
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int6")), randn(2, 4))


CHANGES = (
    changed_attribute,
    changed_mode,
    changed_type,
    changed_gradient,
    changed_part,
    changed_strides,
    changed_tie,
    with_a_hook,
    with_a_forward,
    with_a_constant,
    emulated,
    emulated_otherwise,
)


def test_whatever_changes_in_a_model_changes_the_key():
    keys = {key(Net())}
    for change in CHANGES:
        model = Net()
        change(model)
        keys.add(key(model))
    assert len(keys) == 1 + len(CHANGES)


def test_constants_are_part_of_the_key_by_their_elements():
    keys = set()
    for value in (1.0, 2.0):
        model = Net()
        model.table = torch.full((3,), value)
        model.rows = [{"a": (value, torch.float32)}]
        keys.add(key(model))
    assert len(keys) == 2


def test_example_mode_and_options_are_part_of_the_key():
    x = randn(2, 4)
    keys = {
        key(Net()),
        key(Net(), gradients=True),
        key(Net(), dynamic=True),
        key(Net(), randn(3, 4)),
        key(Net(), x.double()),
        key(Net(), randn(4, 2).t()),
        key(Net(), x.clone().requires_grad_()),
        key(Net(), passes=default_passes().without("drop_unused")),
        key(Net(), passes=default_passes().with_pass("p", lambda p: p, "groups")),
        key(Net(), passes=default_passes().with_pass("p", lambda p: p or p, "groups")),
    }
    assert len(keys) == 10


def test_source_is_part_of_the_key():
    bodies = (
        "return self.fc(x)",
        "return self.fc(x) + 1",
        "return self.fc(x) + 2",
        "return F.relu(self.fc(x))",
        "y = lambda v: v * 2\nreturn y(self.fc(x))",
        "y = lambda v: v * 3\nreturn y(self.fc(x))",
    )
    assert len({key(source_of(body)()) for body in bodies}) == len(bodies)


def test_globals_helpers_and_closures_are_part_of_the_key(monkeypatch):
    before = key(Net())
    monkeypatch.setitem(globals(), "SLOPE", 0.25)
    slope = key(Net())
    monkeypatch.setitem(globals(), "scaled", lambda x: x * SLOPE * 1)
    helper = key(Net())
    assert len({before, slope, helper}) == 3
    keys = set()
    for number in (1, 2):
        model = Net()
        model.after = (lambda n: lambda x: x + n)(number)
        keys.add(key(model))
    assert len(keys) == 2


def test_a_replaced_function_of_torch_is_part_of_the_key(monkeypatch):
    cls = source_of("return F.relu(self.fc(x))")
    before = key(cls())
    monkeypatch.setattr(F, "relu", lambda x: x)
    changed = key(cls())
    monkeypatch.undo()
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x)
    assert len({before, changed, key(cls())}) == 3


def test_what_torch_was_told_is_part_of_the_key():
    before = key(Net())
    with torch.autocast("cpu", torch.bfloat16):
        assert key(Net()) != before
    torch.set_default_dtype(torch.float64)
    try:
        model = Net().float()
        assert key(model, randn(2, 4).float()) != before
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_version_of_dovetail_is_part_of_the_key(monkeypatch):
    before = key(Net())
    monkeypatch.setattr(captures, "_package", lambda: "another")
    assert key(Net()) != before


def test_users_implementations_are_part_of_the_key():
    before = key(Net())
    try:
        implement("aten.mm.default", "mine")(lambda call: "")
        one = key(Net())
        implement("aten.mm.default", "mine")(lambda call: ";")
        assert len({before, one, key(Net())}) == 3
    finally:
        implementations.pop("aten.mm.default", None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import os\nreturn self.fc(x) if os.environ.get('A') else x", "module 'os'"),
        ("return eval('x')", "a call of eval"),
        ("import helpers\nreturn helpers.each(x, 2)", "an import of 'helpers'"),
        ("return np.random.rand() * x", "numpy's random numbers"),
        ("with lock:\n    return x", "Made.forward.lock: a lock"),
    ],
)
def test_what_cannot_be_told_is_not_kept(body, says):
    import numpy

    model = source_of(body, np=numpy, lock=threading.Lock())()
    found = place(model)
    assert found.key is None
    assert says in found.says


def test_an_operator_of_a_users_own_is_not_kept():
    with torch.library._scoped_library("ways_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CPU")
        assert torch.ops.ways_test.twice(torch.ones(1)) == 2
        found = place(source_of("return torch.ops.ways_test.twice(x)")())
    assert "operators of 'ways_test'" in found.says


def test_a_mode_that_is_entered_is_not_kept():
    with torch.overrides.BaseTorchFunctionMode():
        assert "a mode of torch" in place(Net()).says


@pytest.fixture(scope="module")
def first():
    torch.manual_seed(0)
    net = Net().train()
    return net, dv.compile(copy.deepcopy(net), randn(2, 4))


def test_another_model_alike_is_found(first, monkeypatch):
    monkeypatch.setattr(record.Record, "of", lambda *_: pytest.fail("captured again"))
    torch.manual_seed(1)
    net = Net().train()
    again = dv.compile(copy.deepcopy(net), randn(2, 4))
    assert first[1].report().capture == "kept in the cache"
    assert again.report().capture == "found in the cache"
    x = randn(2, 4, seed=5)
    for model in (net, again):
        model(x).square().sum().backward()
    for mine, other in zip(again.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    assert "elementwise" in str(again.program).lower()
    assert again.sdfg.number_of_nodes() > 1


def test_a_capture_of_another_model_is_found_out_and_made_anew(first):
    fast, options = first[1], first[1]._options
    other = Net(factor=4.0).train()
    wanted = (other, (randn(2, 4),), {}, True, fast._pipeline, options)
    wrong = captures.shelf_of(*wanted)
    raw = fast._latest.shelf.file.read_bytes()
    wrong.file.write_bytes(raw)
    made = dv.compile(copy.deepcopy(other), randn(2, 4))
    assert made.report().capture == "kept in the cache"
    assert wrong.file.read_bytes() != raw


def test_a_capture_cut_off_is_not_there(first):
    place = copy.copy(first[1]._latest.shelf)
    place.key += "-cut"
    place.file.write_bytes(first[1]._latest.shelf.file.read_bytes()[:100])
    assert place.found() is None


def test_what_ran_unseen_is_not_kept(first):
    fast = first[1]
    place = copy.copy(fast._latest.shelf)
    place.key += "-unseen"
    ran = check(fast._source, fast._latest, None, gradients=False)
    assert {code.co_name for code in ran} >= {"forward", "scaled"}
    place.codes = {code for code in place.codes if code.co_name != "scaled"}
    place.keep(fast._latest.record, ran)
    assert place.says.startswith("not kept: the model runs scaled")
    place.keep(fast._latest.record, None)
    assert place.says == "not kept: nobody watched which code the model runs"
    assert not place.file.exists()


SECOND = """
import time, torch
start = time.process_time()
import dovetail as dv
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).train()
fast = dv.compile(model, torch.randn(2, 4))
fast(torch.randn(2, 4)).sum().backward()
import sys
print(fast.report().capture, "dace" in sys.modules)
"""


@pytest.mark.slow
def test_a_second_process_finds_it_without_dace():
    run = [sys.executable, "-W", "ignore", "-c", SECOND]
    said = [
        subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["kept in the cache True", "found in the cache False"]
