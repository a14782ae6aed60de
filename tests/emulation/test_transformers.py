"""Transformers of every family: bit-identical to torch in the baseline, every operation reached.

Attention is tested in both of the forms that models offer: written out, and torch's own function.
"""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch

import dovetail as dv
from dovetail.emulation import exact
from helpers import hits, randn
from tiny_transformers import ACT2FN, IDS, INPUTS, MASK, NAMES, logits, make

#: Of each kind, how many operations there are besides attention's own.
KINDS = {
    "bert": {"embedding": 3, "add": 6, "layer_norm": 5, "dropout": 5, "linear": 13, "gelu": 2}
    | {"tanh": 1},
    "gpt2": {"embedding": 2, "add": 5, "dropout": 5, "layer_norm": 5, "linear": 9, "cat": 4}
    | {"gelu": 2},
    "opt": {"embedding": 2, "add": 5, "layer_norm": 5, "linear": 13, "cat": 4, "dropout": 4}
    | {"relu": 2},
    "llama": {"embedding": 1, "mul": 3, "cat": 5, "cos": 1, "sin": 1, "rms_norm": 5, "linear": 15}
    | {"rotate": 4, "add": 4, "silu": 2},
    "vit": {"conv": 1, "cat": 1, "add": 5, "dropout": 3, "layer_norm": 5, "linear": 13, "gelu": 2}
    | {"tanh": 1},
    "t5": {"embedding": 4, "dropout": 16, "rms_norm": 12, "linear": 33, "add": 16, "relu": 4}
    | {"cat": 8},
    "whisper": {"conv": 2, "gelu": 6, "embedding": 2, "add": 12, "dropout": 16, "layer_norm": 12}
    | {"linear": 33, "cat": 8},
}
#: How many attentions, and how many of them get a mask of numbers when written out.
ATTENTIONS = {
    "bert": (2, 2),
    "gpt2": (2, 2),
    "opt": (2, 2),
    "llama": (2, 2),
    "vit": (2, 0),
    "t5": (6, 6),
    "whisper": (6, 2),
}
BOTH = [(name, form) for name in NAMES for form in ("eager", "sdpa")]


def attention(name, form):
    """The operations of attention: torch's function is taken apart, scaling included."""
    count, masked = ATTENTIONS[name]
    inner = {"matmul": 2 * count, "softmax": count}
    if form == "sdpa":
        return inner | {"mul": count}
    return inner | {"dropout": count, "add": masked}


def everything(**fields):
    fields = {"input": "bf16", "weight": "bf16", "output": "bf16"} | fields
    return dv.Recipe(
        dv.rule(op="*", **fields), dv.rule(op="elementwise", other="bf16", optional=True)
    )


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("name", "form"), BOTH)
def test_every_operation_is_reached(name, form):
    model = make(name, form)
    plain, keys = logits(model, name), list(model.state_dict())
    plan = dv.apply_(model, everything(), INPUTS[name])
    assert Counter(op.kind for op in plan) == Counter(KINDS[name]) + Counter(attention(name, form))
    assert not plan.left_exact
    assert not plan.uncovered
    assert set(hits(model, **INPUTS[name])) == {op.key for op in plan}
    emulated = logits(model, name)
    assert not torch.equal(emulated, plain)
    torch.testing.assert_close(emulated, plain, rtol=0, atol=0.1 * float(plain.abs().max()))
    assert list(model.state_dict()) == keys
    with exact(model):
        torch.testing.assert_close(logits(model, name), plain)
    dv.remove_(model)
    assert torch.equal(logits(model, name), plain)


@pytest.mark.parametrize(("name", "form"), BOTH)
def test_the_baseline_is_torch_bit_for_bit(name, form):
    model = make(name, form)
    plain = logits(model, name)
    dv.apply_(model, dv.Recipe.preset("BASELINE"), INPUTS[name])
    assert torch.equal(logits(model, name), plain)


@pytest.mark.parametrize("name", NAMES)
def test_formats_that_change_nothing_change_no_bit_in_any_operation(name):
    """Every operation is taken over; those of torch's own attention would be summed in another
    order."""
    model = make(name, "eager")
    plain = logits(model, name)
    same = dict.fromkeys(("input", "weight", "bias", "output"), "fp32")
    recipe = dv.Recipe(
        dv.rule(op="*", **same), dv.rule(op="elementwise rotate", other="fp32", optional=True)
    )
    plan = dv.apply_(model, recipe, INPUTS[name])
    assert not plan.left_exact
    assert torch.equal(logits(model, name), plain)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fmt", ["int8", "mxfp8_e4m3", "bfp(m=8, block=16)"])
def test_formats_of_every_class_run(name, fmt):
    model = make(name, "eager")
    plain = logits(model, name)
    recipe = dv.Recipe(
        dv.rule(op="*", input=fmt, output=fmt, weight=fmt),
        dv.rule(op="lookup cos sin", output="bf16", optional=True),
    )
    dv.apply_(model, recipe, INPUTS[name])
    emulated = logits(model, name)
    assert torch.isfinite(emulated).all()
    assert not torch.equal(emulated, plain)


@pytest.mark.parametrize("name", NAMES)
def test_copies_pickles_and_saved_states(name, tmp_path):
    from safetensors.torch import load_file, save_file

    model = make(name)
    plan = dv.apply_(model, everything(input="int8"), INPUTS[name])
    wanted = logits(model, name)
    assert any(op.ranged_slots for op in plan)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(other, name), wanted)
    save_file(dv.state(model), tmp_path / "state.safetensors")
    fresh = make(name)
    dv.load_state(fresh, load_file(tmp_path / "state.safetensors"), INPUTS[name])
    assert torch.equal(logits(fresh, name), wanted)


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama", "t5", "whisper"])
def test_generation_with_and_without_a_cache_of_keys_and_values(name):
    model = make(name)
    prompt = {k: v for k, v in INPUTS[name].items() if k != "decoder_input_ids"}
    recipe = everything(input="fp8_e5m2", output="fp8_e5m2")
    dv.apply_(model, recipe, INPUTS[name])
    told = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached = model.generate(**prompt, **told)
    assert cached.shape[0] == 2
    assert torch.equal(model.generate(**prompt, **told, use_cache=False), cached)
    dv.remove_(model)
    plain = model.generate(**prompt, **told)
    assert cached.shape == plain.shape


@pytest.mark.parametrize(("name", "form"), [(n, f) for n, f in BOTH if n in ("bert", "llama")])
def test_what_a_mask_hides_never_shows(name, form):
    """Tokens behind the padding mask change no bit of the others, whatever the formats."""
    model = make(name, form)
    recipe = everything(input="fp8_e4m3", output="fp8_e4m3")
    dv.apply_(model, recipe, INPUTS[name])
    wanted = logits(model, name)
    changed = torch.where(MASK == 1, IDS, 31 - IDS)
    found = model(input_ids=changed, attention_mask=MASK)
    found = found.logits if "logits" in found else found.last_hidden_state
    assert torch.equal(found[MASK == 1], wanted[MASK == 1])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    model = make(name)
    with torch.enable_grad():
        logits(model, name).square().sum().backward()
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        model.zero_grad()
        dv.apply_(model, everything(), INPUTS[name])
        logits(model, name).square().sum().backward()
    for parameter, weight in model.named_parameters():
        if parameter in reached:
            assert torch.isfinite(weight.grad).all(), parameter
            assert weight.grad.any(), parameter


@pytest.mark.parametrize("kind", ["gelu", "quick_gelu", "silu", "mish", "relu", "softplus", None])
def test_activations_by_the_names_of_configurations(kind):
    """One operation each, however it is written out; those that are none of ours have none."""
    names = {
        "gelu": "gelu gelu_10 gelu_fast gelu_new gelu_python gelu_pytorch_tanh gelu_python_tanh "
        "gelu_accurate",
        "quick_gelu": "quick_gelu",
        "silu": "silu swish",
        "mish": "mish",
        "relu": "relu relu2",
        "softplus": "sqrtsoftplus",
        None: "linear laplace",
    }
    for name in names[kind].split():
        model, x = torch.nn.Sequential(ACT2FN[name]), randn(3, 4)
        plain = model(x)
        plan = dv.apply_(model, dv.Recipe(dv.rule(op="*", input="fp8_e5m2", optional=True)), x)
        assert [op.kind for op in plan] == ([] if kind is None else [kind])
        wanted = plain if kind is None else ACT2FN[name](dv.cast(x, "fp8_e5m2"))
        assert torch.equal(model(x), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_exported_as_in_eager(name):
    model = make(name)
    dv.apply_(model, everything(output="int8"), INPUTS[name])
    wanted = logits(model, name)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.equal(logits(compiled, name), wanted)
    given = INPUTS[name] | ({} if name in ("bert", "vit") else {"use_cache": False})
    exported = torch.export.export(model, (), given).module()
    found = exported(**given)
    assert torch.equal(found["logits" if "logits" in found else "last_hidden_state"], wanted)
