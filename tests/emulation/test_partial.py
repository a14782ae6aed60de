"""One operation with some of its sources: against the same computed by hand."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.emulation.partial import partial, sources_of
from dovetail.emulation.site import Site
from dovetail.emulation.state import sites
from dovetail.emulation.taps import performing
from helpers import build, randn

COARSE = "broken_array(bits=8, drop_columns=6)"
KVM = "mul8s_1KVM"  # f(a, w) = (a & ~1) * w


def fitted(
    module: nn.Module, x: Tensor, op: str = "product", **fields: str
) -> tuple[nn.Module, Site]:
    dv.apply_(module, dv.Recipe(dv.rule("*", op=op, **fields)), x)
    ((site, _),) = sites(module)
    return module, site


def linear(**fields: str) -> tuple[nn.Module, Site, Tensor]:
    x = randn(3, 16)
    return *fitted(build(0, lambda: nn.Linear(16, 4)), x, **fields), x


@torch.no_grad()
def result(model: nn.Module, site: Site, sources: list[str], x: Tensor) -> Tensor:
    change = partial(site, sources)
    with performing(model, lambda _site, module, call: change.perform(module, call)):
        return model(x)


def test_sources_are_what_is_not_exact() -> None:
    fields = {"sparsity": "2:4", "input": "int8", "weight": "same", "weight_storage": "fp8_e4m3fn"}
    _, site, _ = linear(**fields, bias="fp16", output="bf16")
    found = sources_of(site)
    assert list(found) == ["sparsity", "input", "weight", "bias", "output"]
    assert (found["input"], found["sparsity"]) == ("int8", site.sparsity_text)
    assert found["weight"] == str(dv.format("fp8_e4m3fn"))


CODES = {"input": "int8", "weight": "int4", "bias": "bf16", "mul": COARSE, "acc": "int12"}
KINDS = {
    "codes": {**CODES, "output": "fp8_e4m3fn", "sparsity": "2:4"},
    "blocks": {"input": "mxfp8_e4m3", "weight": "mxfp4", "acc": "bf16(each)", "output": "bf16"},
    "floats": {"input": "bf16", "weight": "bf16", "mul": "mitchell(format=bf16)", "acc": "fp16"},
    "stored": {"weight_storage": "fp4_e2m1fn", "input": "int8", "output": "int8"},
}


@pytest.mark.parametrize("name", KINDS)
def test_all_sources_are_the_emulated_bits_and_none_the_exact_ones(name: str) -> None:
    x = randn(3, 32)
    model = build(0, lambda: nn.Linear(32, 4))
    exact = model(x)
    model, site = fitted(model, x, **KINDS[name])
    own = list(sources_of(site))
    assert torch.equal(result(model, site, own, x), model(x))
    assert torch.equal(result(model, site, [], x), exact)
    for count in range(len(own)):
        for chosen in combinations(own, count):
            assert torch.isfinite(result(model, site, list(chosen), x)).all(), chosen


@pytest.mark.parametrize(
    ("sources", "fields"),
    [
        (["input"], {"input": "int8"}),
        (["weight", "output"], {"weight": "int4", "output": "fp8_e4m3fn"}),
        (["sparsity"], {"sparsity": "2:4"}),
        (["input", "weight"], {"input": "int8", "weight": "int4"}),
        (["input", "weight", "mul"], {"input": "int8", "weight": "int4", "mul": COARSE}),
        (["input", "weight", "acc"], {"input": "int8", "weight": "int4", "acc": "int12"}),
        (["bias"], {"bias": "bf16"}),
    ],
)
def test_what_a_rule_can_say_is_what_that_rule_computes(
    sources: list[str], fields: dict[str, str]
) -> None:
    model, site, x = linear(**KINDS["codes"])
    other, _, _ = linear(**fields)
    assert torch.equal(result(model, site, sources, x), other(x))


def test_a_multiplier_alone_adds_its_errors_to_the_exact_product() -> None:
    model, site, x = linear(**CODES)
    cast, _, _ = linear(input="int8", weight="int4")
    rough, _, _ = linear(input="int8", weight="int4", mul=COARSE)
    narrow, _, _ = linear(input="int8", weight="int4", acc="int12")
    exact = nn.functional.linear(x, model.weight, model.bias)
    assert torch.equal(result(model, site, ["mul"], x), exact + (rough(x) - cast(x)))
    assert torch.equal(result(model, site, ["acc"], x), exact + (narrow(x) - cast(x)))
    assert partial(site, ["mul"]).dropped == ()


def test_a_multiplier_goes_with_an_operand_that_is_not_cast() -> None:
    model, site, x = linear(**CODES)
    change = partial(site, ["weight", "bias", "mul", "acc"])
    assert change.dropped == ("mul", "acc")
    weight, _, _ = linear(weight="int4", bias="bf16")
    assert torch.equal(result(model, site, ["weight", "bias", "mul", "acc"], x), weight(x))


def test_a_floating_multiplier_needs_both_formats() -> None:
    model, site, x = linear(**KINDS["floats"])
    assert partial(site, ["input", "mul", "acc"]).dropped == ("mul",)
    kept, _, _ = linear(input="bf16", acc="fp16")
    assert torch.equal(result(model, site, ["input", "mul", "acc"], x), kept(x))


def test_the_error_of_a_product_by_hand() -> None:
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, -0.5]])
    x = torch.tensor([[127.0, 65.0]])
    model, site = fitted(model, x, input="int8", weight="int8", mul=KVM)
    # codes: input 127 and 65, weight 127 and -64 (scale 1/127); (a & ~1) loses 1 of each input
    exact = 127 - 32.5
    lost = (-1 * 127 + -1 * -64) / 127
    assert result(model, site, ["mul"], x).item() == pytest.approx(exact + lost, abs=1e-5)
    assert result(model, site, ["input"], x).item() == pytest.approx(exact, abs=1e-5)
    assert result(model, site, ["weight"], x).item() == pytest.approx(127 - 65 * 64 / 127, abs=1e-4)


def test_functions_with_their_formats() -> None:
    x = randn(4, 8)
    model, site = fitted(
        nn.Softmax(-1), x, "softmax", input="fp8_e4m3fn", fn="poly2(fp16)", output="bf16"
    )
    only, _ = fitted(nn.Softmax(-1), x, "softmax", fn="poly2(fp16)")
    assert list(sources_of(site)) == ["input", "fn", "output"]
    assert torch.equal(result(model, site, ["fn"], x), only(x))
    assert torch.equal(result(model, site, [], x), x.softmax(-1))
    assert torch.equal(result(model, site, ["input", "fn", "output"], x), model(x))


def test_elementwise_operands_are_both_the_input() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + x.flip(0)

    x = randn(4, 8)
    model = Sum()
    dv.apply_(model, dv.Recipe(dv.rule(op="add", input="int8", other="int4")), x)
    ((site, _),) = sites(model)
    assert sources_of(site) == {"input": "int8, int4"}
    assert torch.equal(result(model, site, ["input"], x), model(x))


def test_what_recovery_adds_belongs_to_what_it_mends() -> None:
    x = randn(64, 16)
    model = build(0, lambda: nn.Sequential(nn.Linear(16, 4)))
    with torch.no_grad():
        exact = model(x)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int3")), x)
    dv.smoothquant(model, [x])
    dv.gptq(model, [x])
    dv.correct_bias(model, [x])
    ((site, _),) = sites(model)
    found = sources_of(site)
    assert list(found) == ["input", "weight", "bias"]
    assert found["weight"].startswith("int3 + ")
    with torch.no_grad():
        assert torch.equal(result(model, site, list(found), x), model(x))
    assert torch.equal(result(model, site, [], x), exact)
    # the smoothing leaves the function as it is, and the new weights are not the input's
    alone = result(model, site, ["input"], x)
    assert dv.analysis.sqnr_db(exact, alone) > 30
    assert dv.analysis.sqnr_db(exact, result(model, site, ["weight"], x)) < 25
