"""The recipes on transformers of every family: functions stay, and undoing is exact."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv

tiny = pytest.importorskip("tiny_transformers")

FUSED = {"bert": 0, "gpt2": 4, "opt": 10, "llama": 12, "vit": 8, "t5": 22, "whisper": 18}


@pytest.mark.parametrize("name", tiny.NAMES)
def test_functions_stay_and_are_undone(name):
    model = tiny.make(name).double()
    batch = {k: v.double() if v.is_floating_point() else v for k, v in tiny.INPUTS[name].items()}

    def output():
        with torch.no_grad():
            found = model(**batch)
        return found.logits if "logits" in found else found.last_hidden_state

    wanted = output()
    dv.apply_(model, dv.Recipe(dv.rule("*", output="SAME")), batch)
    emulated = output()
    before = {k: v.clone() for k, v in (model.state_dict() | dv.state(model)).items()}
    handles = [dv.smoothquant(model, [batch]), dv.rotate(model, [batch])]
    fused = sum(change.what.startswith("scale in") for change in handles[0])
    assert fused == FUSED[name]
    assert float((output() - wanted).abs().max()) < 1e-12 * max(1.0, float(wanted.abs().max()))
    for handle in reversed(handles):
        handle.undo()
    after = model.state_dict() | dv.state(model)
    assert all(torch.equal(before[k], v) for k, v in after.items())
    assert torch.equal(output(), emulated)
