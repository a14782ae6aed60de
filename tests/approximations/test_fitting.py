"""``dv.approximations.fit``: the numbers of a unit, and the spelling that gives them again."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.approximations import fit, function


def test_segments_of_gelu_in_fixed_point():
    made = fit("gelu", kind="pwl", segments=16, domain=(-8, 8), format="fixed(16,12)")
    assert made.interval == (-8.0, 8.0)
    assert made.pieces.starts == tuple(float(t) for t in range(-8, 8))
    for slope, value in ((c[1], c[0]) for c in made.pieces.coefficients):
        for number in (slope, value):
            assert number * 4096 == round(number * 4096)
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    y = made.approximation.evaluate(function("gelu"), x)
    assert (y - torch.nn.functional.gelu(x)).abs().max() <= made.max_error.value < 0.04
    assert (y * 4096 == torch.round(y * 4096)).all()


def test_the_spelling_is_the_fit():
    made = fit("silu", "pwl", segments=8, spacing="curvature", format=dv.format("fp16"))
    again = dv.approximation(repr(made.approximation))
    assert again == made.approximation
    assert again.pieces(function("silu")) == made.pieces
    assert dv.rule(op="silu", fn=made).fields["fn"] == again


def test_more_pieces_and_curvature_are_better():
    errors = [fit("tanh", "pwl", segments=n).max_error.value for n in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    curved = fit("tanh", "pwl", segments=16, spacing="curvature")
    assert curved.max_error.value < errors[2] / 2
    tables = [fit("sigmoid", "table", entries=n).max_error.value for n in (16, 64, 256)]
    assert tables == sorted(tables, reverse=True)
    powers = [fit("exp", "poly", degree=n).max_error.value for n in range(1, 7)]
    assert powers == sorted(powers, reverse=True)


def test_entries_of_a_table_share_one_scale():
    made = fit("tanh", "table", entries=16, format="int4")
    values = {c[0] for c in made.pieces.coefficients}
    step = max(values) / 7
    assert all(abs(v / step - round(v / step)) < 1e-6 for v in values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gleu", "segments": 4}, "unknown function 'gleu'; did you mean 'gelu'?"),
        ({"name": "gelu", "kind": "plw"}, "unknown kind of fit 'plw'; did you mean 'pwl'?"),
        ({"name": "gelu"}, "a fit of kind 'pwl' needs segments="),
        ({"name": "gelu", "entries": 4, "segments": 4}, "has segments, not entries=4"),
        ({"name": "exp", "segments": 4, "domain": (0, 1)}, "exp has no domain to choose"),
        ({"name": "tanh", "kind": "poly", "degree": 3, "domain": (-1, 2)}, "such as (-2, 2)"),
        ({"name": "gelu", "segments": 4, "spacings": "curvature"}, "unknown argument 'spacings'"),
        ({"name": "gelu", "kind": "poly", "degree": 12}, "unknown approximation 'poly12'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(dv.DovetailError) as raised:
        fit(**arguments)
    assert message in str(raised.value)
