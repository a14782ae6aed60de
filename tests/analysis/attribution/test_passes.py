"""Passes from a tape are passes: with all sources the emulated bits, with none the exact ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from attributed_models import RECIPES, ROUGH, made
from dovetail.analysis.attribution.passes import Passes
from dovetail.emulation.execute import emulated
from dovetail.emulation.partial import partial, sources_of
from dovetail.emulation.state import sites
from helpers import INT8, build, randn


def changed(
    model: nn.Module, inputs: tuple[Tensor, ...], *, cache: bool
) -> Iterator[tuple[tuple[str, str, bool], Tensor]]:
    """The output of every changed pass."""
    passes = Passes(model, inputs, cache=cache)
    for exact in (True, False):
        passes.whole(exact=exact)
        for site, _ in sites(model):
            own = list(sources_of(site))
            for source in own:
                kept = [source] if exact else [other for other in own if other != source]
                output = passes.changed(site.op.key, partial(site, kept), exact=exact)
                yield (site.op.key, source, exact), output


@torch.no_grad()
@pytest.mark.parametrize("name", RECIPES)
def test_cached_prefixes_change_no_bit(name: str) -> None:
    model, loader = made(name)
    for inputs, _ in loader:
        torch.manual_seed(1)
        cached = dict(changed(model, (inputs,), cache=True))
        torch.manual_seed(1)
        plain = dict(changed(model, (inputs,), cache=False))
        if name == "drawn":  # what is drawn after a change depends on what is drawn before it
            plain = {key: output for key, output in plain.items() if key[2] or key[0] == "2"}
        assert len(plain) >= 4
        for key, output in plain.items():
            assert torch.equal(cached[key], output), key


@torch.no_grad()
@pytest.mark.parametrize("name", RECIPES)
def test_whole_passes_are_the_model_s_own_and_the_exact_one_s(name: str) -> None:
    model, loader = made(name)
    inputs = loader[0][0]
    passes = Passes(model, (inputs,), cache=True)
    state = torch.get_rng_state()
    emulated = passes.whole(exact=False)
    torch.set_rng_state(state)
    assert torch.equal(emulated, model(inputs))
    exact = passes.whole(exact=True)
    with dv.emulation.exact(model):
        assert torch.equal(exact, model(inputs))
    dv.remove_(model)
    if name != "lstm":  # which torch computes in one piece
        assert torch.equal(exact, model(inputs))


@torch.no_grad()
@pytest.mark.parametrize("name", RECIPES)
def test_every_source_of_one_operation_is_that_operation_emulated(name: str) -> None:
    model, loader = made(name)
    inputs = loader[0][0]
    passes = Passes(model, (inputs,), cache=True)
    whole = {exact: passes.whole(exact=exact) for exact in (True, False)}
    for site, _ in sites(model):
        every, none = partial(site, sources_of(site)), partial(site, [])
        assert torch.equal(passes.changed(site.op.key, every, exact=False), whole[False])
        assert torch.equal(passes.changed(site.op.key, none, exact=True), whole[True])


@torch.no_grad()
@pytest.mark.parametrize(("acc", "calls"), [("int32", []), ("int11", ["2"])])
def test_what_follows_a_change_without_effect_is_not_computed(
    acc: str, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, loader = made("linear")
    dv.remove_(model)
    x = loader[0][0]
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, acc=acc)), x)
    passes = Passes(model, (x,), cache=True)
    whole, seen = passes.whole(exact=False), []

    def counted(site: Any, *call: Any) -> Tensor:
        seen.append(site.op.key)
        return emulated(site, *call)

    monkeypatch.setattr("dovetail.analysis.attribution.passes.emulated", counted)
    site = next(site for site, _ in sites(model) if site.op.key == "0")
    output = passes.changed("0", partial(site, ["input", "weight"]), exact=False)
    assert seen == calls
    assert torch.equal(output, whole) == (not calls)


FIELDS: dict[str, tuple[str, ...]] = {
    "sparsity": ("2:4", "topk(0.5)"),
    "bias": ("bf16", "fp8_e4m3fn"),
    "output": ("fp8_e5m2", "int8", "mxfp8_e4m3"),
    "grad": ("ste", "ste(unclipped)"),
}
OPERANDS: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "input": ("int8", "uint8", "int4(dynamic)"),
        "weight": ("int4", "int8(affine)", "int8(per_tensor)"),
        "acc": ("int10", "int12(saturate, end)", "int32", "fp16"),
        "weight_storage": ("fp6_e2m3fn", "int8"),
    },
    {"input": ("int8", "int6"), "weight": ("int8", "int5"), "mul": ("drum(k=3)", ROUGH)},
    {
        "input": ("mxint8", "mxfp4"),
        "weight": ("mxfp8_e4m3", "mxint8"),
        "acc": ("bf16", "fp16(each)"),
    },
    {"input": ("bf16",), "weight": ("bf16",), "mul": ("mitchell(format=bf16)",), "acc": ("fp16",)},
    {
        "input": ("posit(8,1)", "fixed(8, 4)"),
        "weight": ("log(integer=3, fraction=2)", "nf4"),
        "acc": ("bf16",),
    },
)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_any_recipe(seed: int) -> None:
    """Every pass of any combination with and without a tape, all sources, and none."""
    draw = np.random.default_rng(seed)
    model = build(seed, lambda: nn.Sequential(*[nn.Linear(32, 32) for _ in range(3)])).eval()
    x = randn(4, 32, seed=seed)
    exact = model(x)
    rules = []
    for place in range(3):
        offered = {**FIELDS, **OPERANDS[draw.integers(len(OPERANDS))]}
        forced = {"input", "weight"} if "mul" in offered or seed % 2 else set()
        taken = {
            k: str(draw.choice(v)) for k, v in offered.items() if k in forced or draw.random() < 0.6
        }
        if not {"input", "weight"} <= set(taken):
            taken.pop("acc", None)
        rules.append(dv.rule(str(place), **{"input": "fp16", **taken}))
    dv.apply_(model, dv.Recipe(*rules), x)
    cached, plain = (dict(changed(model, (x,), cache=cache)) for cache in (True, False))
    assert len(cached) >= 6
    assert all(torch.equal(cached[key], plain[key]) for key in cached)
    passes = Passes(model, (x,), cache=True)
    assert torch.equal(passes.whole(exact=True), exact)
    assert torch.equal(passes.whole(exact=False), model(x))
    for site, _ in sites(model):
        for sources, whole in ((sources_of(site), False), ([], True)):
            output = passes.changed(site.op.key, partial(site, sources), exact=whole)
            assert torch.equal(output, exact if whole else model(x))
