"""Spellings: names, the d-Matrix shorthand, registered patterns and scores, refusals."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.sparsity import (
    Bernoulli,
    Blocks,
    Dense,
    NofM,
    Sparsity,
    TopK,
    registry,
    score,
    scores,
    sparsity,
    to_shorthand,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2:4", Sparsity(NofM(2, 4))),
        ("2:4(axis=0)", Sparsity(NofM(2, 4, 0))),
        ("2:4(fixed, score=wanda)", Sparsity(NofM(2, 4), "wanda", fixed=True)),
        ("topk(0.5)", Sparsity(TopK(0.5))),
        ("topk(0.1, per_output)", Sparsity(TopK(0.1, per_output=True))),
        ("blocks(16, 4, 0.25)", Sparsity(Blocks(16, 4, 0.25))),
        ("bernoulli", Sparsity(Bernoulli())),
        ("bernoulli(0.5, redraw, seed=3)", Sparsity(Bernoulli(0.5, 3, redraw=True))),
        ("dense", Sparsity(Dense())),
        (
            "topk(0.5, kept_scores, score=learned, backward=supermask)",
            Sparsity(TopK(0.5), "learned", "supermask", kept_scores=True),
        ),
        ("topk(0.5, score=magnitude, backward=masked)", Sparsity(TopK(0.5), backward="masked")),
    ],
)
def test_spellings_are_read_and_written(text: str, value: Sparsity) -> None:
    assert sparsity(text) == value
    assert sparsity(repr(value)) == value
    assert hash(sparsity(repr(value))) == hash(value)
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("DENSE", "dense"),
        ("TOPK{0.5}(U)", "topk(0.5)"),
        ("TOPK{1}(U)", "topk(1.0)"),  # upstream takes only floats
        ("TOPK{.25}(M)", "topk(0.25, kept_scores, score=learned, backward=joint)"),
        ("BTOPK{4:8,-1}(U)", "4:8(axis=-1)"),
        (" BTOPK { 2 : 8 , 1 } ( U ) ", "2:8(axis=1)"),
        ("BTK8_4_LD", "4:8(axis=-1)"),
        ("BTK8_2_FD", "2:8(axis=1)"),
        ("BERN", "bernoulli"),
    ],
)
def test_the_d_matrix_shorthand_is_read_and_written(text: str, canonical: str) -> None:
    value = sparsity(text)
    assert str(value) == canonical
    assert sparsity(to_shorthand(value)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BTOPK{4:8}(U)", "expected ',' at character 10, found '}'"),
        ("BTOPK{9:8,-1}(U)", "the nearest that can be is '8:8'.* at character 6"),
        ("TOPK{x}(U)", "expected a share such as 0.5 at character 6, found 'x'"),
        ("TOPK{0.5}(X)", "expected U or M at character 11, found 'X'"),
        ("TOPK{0.5}(U) more", "expected the end of the text at character 14"),
        ("TOPK{2}(U)", "no share of the weights"),
        ("2:4x", "cannot read '2:4x'"),
        ("topkk(0.5)", "unknown sparsity 'topkk'; did you mean 'topk'"),
        ("topk(0.5, score=magnitud)", "unknown score 'magnitud'; did you mean 'magnitude'"),
        ("topk(0.5, backward=stee)", "unknown backward mode 'stee'; did you mean 'ste'"),
        ("topk(0.5, per_outputs)", "unknown argument .*'per_outputs'; did you mean 'per_output'"),
        ("topk", r"it takes \(share, per_output\)"),
        ("topk(0.5, backward=joint)", "has none to train: say 'score=learned'"),
        ("topk(0.5, score=learned)", "would train no scores: say 'backward=joint'"),
        ("topk(0.5, fixed, score=learned, backward=joint)", "leave out 'fixed'"),
        ("topk(0.5, kept_scores)", "say score=learned"),
    ],
)
def test_refusals_point_and_offer_the_nearest(text: str, message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        sparsity(text)


@pytest.mark.parametrize("text", ["blocks(4, 4, 0.5)", "topk(0.5, fixed)", "bernoulli(0.5)"])
def test_what_the_shorthand_cannot_say_is_refused_with_the_nearest(text: str) -> None:
    with pytest.raises(DovetailError, match="has no d-Matrix spelling; the nearest is '"):
        to_shorthand(sparsity(text))


def test_a_function_is_a_score_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_registered", {})

    def last_first(weight: Tensor) -> Tensor:
        return torch.arange(weight.numel()).view(weight.shape)

    value = dv.sparsity("topk(0.5)", score=last_first)
    assert str(value) == "topk(0.5, score=last_first)"
    assert sparsity(str(value)) == value
    assert value.pattern.mask(score("last_first", torch.zeros(4))).tolist() == [0, 0, 1, 1]

    def wrong(weight: Tensor) -> Tensor:
        return weight[:1]

    dv.sparsity("topk(0.5)", score=wrong)
    with pytest.raises(DovetailError, match="gave \\(1,\\), not one number for each weight"):
        score("wrong", torch.zeros(4))
    with pytest.raises(DovetailError, match="cannot name a score"):
        dv.sparsity("topk(0.5)", score=lambda weight: weight)


def test_patterns_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))

    @dv.register_sparsity("quarter")
    def quarter(per_output: bool = False) -> TopK:
        return TopK(0.25, per_output)

    assert sparsity("quarter(per_output)") == Sparsity(TopK(0.25, per_output=True))
    with pytest.raises(DovetailError, match="exists already"):
        dv.register_sparsity("topk")(quarter)


@pytest.mark.parametrize("text", ["TOPK{0.5}", "BTOPK{4:8,-1}", " BTOPK{2:4,1} "])
def test_the_oldest_files_leave_the_flag_out(text):
    assert sparsity(text) == sparsity(text.strip() + "(U)")
