"""Spellings: read once into equal values, written canonically, refused with the nearest choice."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch

import dovetail as dv
from dovetail.approximations import Unary, approximation, approximation_names, registry

CANONICAL = {
    "poly2(fp16)": "poly2(fp16)",
    "poly2( format = fp16 )": "poly2(fp16)",
    "poly3(domain=(-3.0, 3))": "poly3(domain=(-3, 3))",
    "pwl(16)": "pwl(16)",
    "pwl(segments=16, format=fixed(16,12), domain=(-8,8), spacing=curvature)": (
        "pwl(16, fixed(16, 12), domain=(-8, 8), spacing=curvature)"
    ),
    "table(256, int8)": "table(256, int8)",
    "table(256, 'XP[8,+4](CSN)')": "table(256, fixed(8, 4, symmetric))",
    "base2": "base2",
    "newton": "newton",
    "newton(2, fp32)": "newton(steps=2)",
    "newton(2, bf16, approximation)": "newton(steps=2, format=bf16, grad=approximation)",
    "isqrt(8)": "isqrt(fraction=8)",
    "ibert(6)": "ibert(fraction=6)",
    "softmax(exp=poly2(fp16), clamp=-16, format=fp16, acc=fp32)": (
        "softmax(exp=poly2(fp16), clamp=-16, format=fp16, acc=fp32)"
    ),
    "norm(rsqrt=newton(1), variance=moments, scale=0.125)": (
        "norm(rsqrt=newton, variance=moments, scale=0.125)"
    ),
    "softmax": "softmax",
}


@pytest.mark.parametrize("spelling", CANONICAL)
def test_the_canonical_spelling_reads_back(spelling):
    made = approximation(spelling)
    assert repr(made) == str(made) == CANONICAL[spelling]
    again = approximation(repr(made))
    assert again == made
    assert hash(again) == hash(made)
    assert approximation(made) == made
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("ploy2", "unknown approximation 'ploy2'; did you mean 'poly2'?"),
        ("poly9", "unknown approximation 'poly9'"),
        ("pwl", "approximation 'pwl': missing a required argument: 'segments'; it takes (segments"),
        ("pwl(0)", "pwl: the number of segments is from 1 to 4096, not 0"),
        ("pwl(1.5)", "segments=1.5: segments is a whole number"),
        ("pwl(16, spacing=even)", "unknown spacing of pwl 'even'"),
        ("pwl(16, domain=(8, -8))", "a domain is two ascending numbers such as (-8, 8)"),
        ("pwl(16, domain=8)", "domain=8: domain is two numbers such as (-8, 8)"),
        ("pwl(16, fp17)", "unknown format 'fp17'; did you mean 'fp16'?"),
        ("pwl(16, fp16(rounding=Stochastic))", "rounds stochastically"),
        ("poly2(int8)", "the nearest that has is 'fixed(8, 4)'"),
        ("poly2(mxfp4)", "takes its scale from a whole tensor"),
        ("poly2(fp16, fp16)", "domain='fp16': domain is two numbers"),
        ("poly2(grad=mine)", "unknown gradient of an approximation 'mine'. Known: approximation"),
        ("table(256, int8", "expected ',' or ')' at character 16, the text ends"),
        ("table(256; int8)", "expected a number, a word or a quoted string at character 7"),
        ("newton(9)", "newton: the number of steps is from 0 to 5, not 9"),
        ("newton(1, fp8_e4m3)", "has no magic constant; those that have are fp32, fp16, bf16"),
        ("ibert(20)", "ibert: fraction is from 1 to 12 bits, not 20"),
        ("ibert(grad=approximation)", "integers have no derivative"),
        ("isqrt(99)", "isqrt: fraction is from 0 to 24 bits, not 99"),
        ("softmax(exp=newton)", "softmax: exp=newton does not compute exp"),
        ("softmax(exp=norm())", "softmax: exp=norm is no approximation of exp alone"),
        ("softmax(clamp=4)", "clamp=4 would change the largest score; it is negative, such as -4"),
        ("softmax(largest=drop)", "unknown treatment of the largest score 'drop'"),
        ("norm(variance=center)", "unknown variance 'center'; did you mean 'centred'?"),
        ("norm(scale=-1)", "norm: scale=-1 is a positive number such as 0.125"),
        ("norm(rsqrt=base2)", "norm: rsqrt=base2 does not compute rsqrt, but exp"),
        (7, "an approximation is a text such as 'poly2(fp16)', not 7"),
    ],
)
def test_refusals(spelling, message):
    with pytest.raises(dv.DovetailError) as raised:
        approximation(spelling)
    assert message in str(raised.value)


def test_a_registered_one_is_reached_by_rules_and_named():
    @dataclass(frozen=True, repr=False)
    class Halves(Unary):
        steps: int = 2
        grad: str = "exact"
        name = "halves_example"
        functions = ("sigmoid",)

        def evaluate(self, function, x):
            return torch.round(function.exact(x) * self.steps) / self.steps

    dv.register_approximation("halves_example")(Halves)
    try:
        assert "halves_example" in approximation_names()
        model, x = torch.nn.Sequential(torch.nn.Sigmoid()), torch.tensor([-9.0, 0.1, 9.0])
        dv.apply_(model, dv.Recipe(dv.rule(op="sigmoid", fn="halves_example(4)")), x)
        assert model(x).tolist() == [0.0, 0.5, 1.0]
        with pytest.raises(dv.DovetailError, match="exists already"):
            dv.register_approximation("halves_example")(lambda: None)
        with pytest.raises(dv.DovetailError, match="cannot name an approximation"):
            dv.register_approximation("two words")(Halves)
    finally:
        registry._factories.pop("halves_example")
        registry.approximation.cache_clear()


def test_a_factory_that_makes_something_else_is_refused():
    dv.register_approximation("seven_example")(lambda: 7)
    try:
        with pytest.raises(dv.DovetailError, match="'seven_example' made 7, which is not an Appr"):
            approximation("seven_example")
    finally:
        registry._factories.pop("seven_example")
