"""What every recipe rests on: batches, selection, the way back, the order of the ways back."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.recovery.batches import Batches
from dovetail.recovery.handle import Work
from dovetail.recovery.operations import PRODUCTS, operations
from helpers import build, modes, randn
from recovery.models import blocks, convs, emulated, everything, same


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (torch.ones(2, 3), "batches is an iterable of model inputs; for one batch give a list"),
        ({"x": torch.ones(2, 3)}, "not a dict"),
        (3, "not a int"),
        ([], "batches is empty"),
        (iter(()), "batches is empty"),
        ([[torch.ones(2, 3), torch.ones(2)]], "give the inputs alone"),
    ],
)
def test_what_is_no_batches_is_refused(batches, message):
    model = nn.Sequential(nn.Linear(3, 2))
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=message):
        dv.smoothquant(model, batches)
    assert same(everything(model), before)


def test_an_iterator_is_read_once_and_kept():
    read = []

    def stream():
        for seed in range(3):
            read.append(seed)
            yield randn(2, 3, seed=seed)

    batches = Batches(stream(), nn.Linear(3, 2))
    assert [len(list(batches)) for _ in range(2)] == [3, 3]
    assert read == [0, 1, 2]


def test_every_form_of_a_batch_gives_the_same():
    found = []
    for form in (lambda x: x, lambda x: (x,), lambda x: {"input": x}):
        model, batches = blocks()
        with torch.no_grad():
            model[0].q.weight[0] *= 3
        dv.smoothquant(model, (form(b) for b in batches), fuse="only")
        found.append(everything(model))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("0.qq", r"smoothquant: select='0.qq' matches no operation; did you mean '0.q'\?"),
        ("0.n1:layer_norm", "names 0.n1, which is layer_norm; smoothquant treats linear"),
        ([], "select is empty"),
        (3, "argument of type|not iterable|select=3"),
        ([3], "select=3 is no pattern"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(select, message):
    model, batches = blocks()
    before = everything(model)
    with pytest.raises((dv.DovetailError, TypeError), match=message):
        dv.smoothquant(model, batches, select=select)
    assert same(everything(model), before)


def test_of_an_emulated_model_what_no_rule_addresses_is_refused():
    model, batches = blocks()
    dv.apply_(model, dv.Recipe(dv.rule("0.*", input="int8", weight="int8")), batches[0])
    found = operations(model, Batches(batches, model)).select("x", "*", PRODUCTS)
    assert {op.key[0] for op in found} == {"0"}
    with pytest.raises(dv.DovetailError, match=r"matches only operations that no rule addresses"):
        dv.smoothquant(model, batches, select="1.*")


def test_operations_know_their_parameters_and_who_shares_them():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    ops = list(operations(model, Batches([randn(2, 3)], model)).by_place.values())
    assert [op.weight.parameter is m.weight for op, m in zip(ops, model, strict=True)] == [True] * 3
    assert [op.shared for op in ops] == [("2.weight",), (), ("2.weight",)]
    assert [op.bias is None for op in ops] == [False, False, True]


def test_looking_leaves_a_model_as_it_was():
    model, batches = emulated(blocks())
    before, y = everything(model), model(batches[0])
    types = [type(m) for m in model.modules()]
    rng = torch.get_rng_state()
    operations(model, Batches(batches, model))
    assert same(everything(model), before)
    assert [type(m) for m in model.modules()] == types
    assert torch.equal(model(batches[0]), y)
    assert torch.equal(torch.get_rng_state(), rng)
    assert modes() == 0


def _scaled(model, name="scaled", factor=2.0):
    with Work(name, "factor") as work:
        work.journal.save(model, "weight")
        with torch.no_grad():
            model.weight.mul_(factor)
        work.note("fc", f"times {factor:g}", 1.0, factor)
    return work.result


def test_recipes_are_undone_in_the_reverse_order():
    model = nn.Linear(2, 2)
    before = everything(model)
    first, second = _scaled(model, "first"), _scaled(model, "second", 3.0)
    with pytest.raises(dv.DovetailError, match="first cannot be undone yet: undo second, which"):
        first.undo()
    second.undo()
    first.undo()
    assert same(everything(model), before)
    with pytest.raises(dv.DovetailError, match="first is undone already"):
        first.undo()


def test_recipes_on_different_modules_are_undone_in_any_order():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = everything(model)
    first, second = _scaled(model[0]), _scaled(model[1])
    first.undo()
    second.undo()
    assert same(everything(model), before)


def test_what_is_kept_stays():
    model = nn.Linear(2, 2)
    with _scaled(model) as done:
        assert done.keep() is done
        after = everything(model)
    assert same(everything(model), after)
    assert done.status == "kept"
    with pytest.raises(dv.DovetailError, match="scaled is kept already"):
        done.undo()
    first = _scaled(model, "first")
    _scaled(model, "second").keep()
    with pytest.raises(dv.DovetailError, match="second came after it and is kept"):
        first.undo()
    model = nn.Linear(2, 2)
    first = _scaled(model, "first")
    _scaled(model, "dropped")
    gc.collect()
    with pytest.raises(dv.DovetailError, match="dropped came after it and is kept"):
        first.undo()


def test_a_context_undoes_at_its_end_also_after_an_error():
    model = nn.Linear(2, 2)
    before = everything(model)
    with _scaled(model):
        assert not same(everything(model), before)
    assert same(everything(model), before)
    with pytest.raises(RuntimeError, match="inside"), _scaled(model):
        raise RuntimeError("inside")
    assert same(everything(model), before)
    with _scaled(model) as done:
        done.undo()
    assert same(everything(model), before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_a_recipe_leaves_everything_as_it_was(error):
    model = nn.Linear(2, 2)
    before = everything(model)

    def broken():
        with Work("broken", "") as work:
            work.journal.save(model, "weight")
            nn.init.zeros_(model.weight)
            raise error

    with pytest.raises(error):
        broken()
    assert same(everything(model), before)


def test_an_error_in_the_last_batch_leaves_everything_as_it_was():
    model, batches = emulated(blocks())
    before = everything(model)
    with pytest.raises(dv.DovetailError, match="values that are not finite"):
        dv.smoothquant(model, [*batches, torch.full_like(batches[0], float("inf"))])
    assert same(everything(model), before)


def test_undo_puts_nan_bits_and_trained_weights_back():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    before = model.weight.detach().clone().view(torch.int32)
    parameter = model.weight
    done = _scaled(model)
    torch.optim.SGD(model.parameters(), 0.1)
    nn.init.ones_(model.weight)
    done.undo()
    assert model.weight is parameter
    assert torch.equal(model.weight.detach().view(torch.int32), before)


def test_what_a_handle_tells():
    done = _scaled(nn.Linear(2, 2))
    assert str(done) == (
        "scaled: factor\noperation  change   before  after\nfc         times 2       1      2\n"
    )
    assert done.to_dict() == {
        "recipe": "scaled",
        "objective": "factor",
        "changes": [{"op": "fc", "what": "times 2", "before": 1.0, "after": 2.0}],
    }
    assert len(done) == 1
    assert [c.op for c in done] == ["fc"]


def test_hidden_tensors_go_with_the_emulation():
    model, batches = emulated(blocks())
    done = dv.smoothquant(model, batches, fuse="never")
    dv.remove_(model)
    plain = everything(model)
    done.undo()
    assert same(everything(model), plain)


def test_an_emulation_that_came_later_stays_when_a_recipe_is_undone():
    model, batches = blocks()
    before = everything(model)
    done = dv.smoothquant(model, batches, fuse="only")
    emulated((model, batches))
    done.undo()
    assert torch.isfinite(model(batches[0])).all()
    assert dv.state(model)
    dv.remove_(model)
    assert same(everything(model), before)


def test_a_copy_takes_the_recipe_along():
    model, batches = emulated(blocks())
    done = dv.smoothquant(model, batches)
    twin, y = copy.deepcopy(model), model(batches[0])
    done.undo()
    assert torch.equal(twin(batches[0]), y)
    assert not torch.equal(model(batches[0]), y)


def test_saved_and_loaded_into_a_fresh_model():
    model, batches = emulated(blocks(torch.float32))
    dv.smoothquant(model, batches)
    fresh, _ = blocks(torch.float32)
    fresh.load_state_dict(model.state_dict(), strict=True)
    dv.load_state(fresh, dv.state(model), batches[0])
    assert torch.equal(fresh(batches[0]), model(batches[0]))
    assert same(dv.state(fresh), dv.state(model))


@pytest.mark.parametrize("drop", ["2.transform0.smooth.scale"])
def test_a_saved_state_with_a_part_too_many_is_refused(drop):
    model, batches = emulated(blocks())
    dv.smoothquant(model, batches)
    saved = dv.state(model)
    saved["2.transform2.smooth.scale"] = saved.pop(drop)
    fresh, _ = blocks()
    with pytest.raises(dv.DovetailError, match=r"the saved state has no '2\.transform0'"):
        dv.load_state(fresh, saved, batches[0])


def test_a_weight_with_a_hidden_scale_is_not_folded():
    model, batches = emulated(convs())
    dv.smoothquant(model, batches, select="head")
    before = everything(model)
    with pytest.raises(dv.DovetailError, match=r"head: its weight cannot be folded.* fold_ first"):
        dv.fold_(model)
    assert same(everything(model), before)


def test_of_several_recipes_each_has_its_own_transforms():
    model, batches = blocks(torch.float32)
    made = {
        name: dv.Recipe(dv.rule("*", input=f"int{bits}", weight="int8"))
        for name, bits in (("fine", 8), ("rough", 5))
    }
    dv.apply_several_(model, made, batches[0])
    before = everything(model)
    fine = model(batches[0]).detach()
    dv.switch(model, "rough")
    rough = model(batches[0]).detach()
    done = dv.smoothquant(model, batches, fuse="never")
    smooth = model(batches[0]).detach()
    assert not torch.equal(smooth, rough)
    dv.switch(model, "fine")
    assert torch.equal(model(batches[0]).detach(), fine)
    with pytest.raises(dv.DovetailError, match=r"computes by another recipe: dv\.switch back"):
        done.undo()
    fresh, _ = blocks(torch.float32)
    dv.load_state(fresh, dv.state(model), batches[0])
    dv.switch(fresh, "rough")
    assert torch.equal(fresh(batches[0]), smooth)
    dv.switch(model, "rough")
    done.undo()
    assert torch.equal(model(batches[0]).detach(), rough)
    dv.switch(model, "fine")
    assert same(everything(model), before)


@pytest.mark.parametrize("make", [blocks, convs])
def test_empty_batches_and_pickled_models(make):
    model, batches = emulated(make(torch.float32))
    with torch.no_grad():
        empty = model(batches[0][:0])
        dv.smoothquant(model, [batches[0][:0], *batches], fuse="never")
        dv.rotate(model, [*batches, batches[0][:0]])
        dv.correct_bias(model, [*batches, batches[0][:0]])
        assert model(batches[0][:0]).shape == empty.shape
        wanted = model(batches[0])
        parameters = dict(model.named_parameters())
        assert torch.equal(torch.func.functional_call(model, parameters, (batches[0],)), wanted)
        assert torch.equal(pickle.loads(pickle.dumps(model))(batches[0]), wanted)


def test_dynamic_scales_of_an_empty_batch():
    model, batches = convs(torch.float32)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8(dynamic)", weight="int8")), batches[0])
    dv.smoothquant(model, batches, dynamic=True)
    assert model(batches[0][:0]).shape == (0, 5)


def test_a_compiled_model_gives_the_same_bits():
    layers = build(0, lambda: nn.Sequential(nn.Conv1d(4, 4, 1), nn.Flatten(), nn.Linear(12, 2)))
    model, batches = emulated((layers, [randn(2, 4, 3)]))
    dv.smoothquant(model, batches, fuse="never")
    dv.rotate(model, batches)
    dv.correct_bias(model, batches)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        assert torch.equal(compiled(batches[0]), model(batches[0]))
