"""``dv.attribute``: metrics, models, options and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from attributed_models import ROUGH, made
from dovetail.analysis.attribution import Attribution
from dovetail.errors import DovetailError
from helpers import INT8, build, randn


def test_the_same_seed_gives_the_same_numbers() -> None:
    model, loader = made("drawn")
    one, other = (dv.attribute(model, loader, resamples=50, seed=3) for _ in range(2))
    assert one == other
    assert one != dv.attribute(model, loader, resamples=50, seed=4)


def test_batches_make_no_difference() -> None:
    model, loader = made("linear")
    whole = [tuple(torch.cat(parts) for parts in zip(*loader, strict=True))]
    one, other = (dv.attribute(model, given, resamples=20) for given in (loader, iter(whole)))
    for a, b in zip(one, other, strict=True):
        assert (a.delta_metric, a.ci_low, a.ci_high) == (b.delta_metric, b.ci_low, b.ci_high)
        assert a.accumulated_kl == pytest.approx(b.accumulated_kl, rel=1e-3)


def test_language_models_are_judged_by_perplexity() -> None:
    model = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7))
    tokens = torch.randint(0, 7, (6, 5), generator=torch.Generator().manual_seed(0))
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int4", weight="int3")), tokens)
    found = dv.attribute(model, [(tokens, tokens.flip(1))], resamples=50)
    assert found.metric == "perplexity"
    with dv.emulation.exact(model):
        wanted = dv.analysis.perplexity(model, [(tokens, tokens.flip(1))])
    assert found.exact_metric == pytest.approx(wanted)
    assert found.exact_metric == pytest.approx(np.exp(found.exact_loss))


def test_a_function_is_the_metric_that_it_computes() -> None:
    model, loader = made("linear")

    def my_accuracy(model: nn.Module, loader: Any) -> Any:
        return dv.analysis.accuracy(model, loader)

    own = dv.attribute(model, loader, my_accuracy, resamples=30)
    known = dv.attribute(model, loader, dv.analysis.accuracy, resamples=30)
    assert (own.metric, own.higher_is_better) == ("my_accuracy", None)
    assert (known.metric, known.higher_is_better) == ("accuracy", True)
    for a, b in zip(own, known, strict=True):
        assert a.delta_metric == pytest.approx(b.delta_metric)
        assert a.ci_low == pytest.approx(b.ci_low)


def test_without_the_disabled_half() -> None:
    model, loader = made("linear")
    passes: list[tuple[int, int | None]] = []
    found = dv.attribute(model, loader, disable=False, progress=lambda *at: passes.append(at))
    assert all(row.disabled_delta_metric is None for row in found)
    each = 2 + len(found) + 2  # two operations of several sources, together
    assert passes == [(number, 2 * each) for number in range(1, 2 * each + 1)]


def found_with(**options: Any) -> Attribution:
    model, loader = made("linear")
    return dv.attribute(model, options.pop("loader", loader), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "exakt"}, "unknown mode of attribution 'exakt'; did you mean 'exact'"),
        ({"metric": "acuracy"}, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"metric": 3}, "metric is 'accuracy', 'loss', 'perplexity' or metric"),
        ({"loader": []}, "the loader gave no sample"),
        ({"loader": [randn(4, 6)]}, "a batch must be"),
        ({"loader": [(randn(4, 6), randn(4, 3))]}, "accuracy needs logits and targets"),
        ({"loader": None}, "a loader gives batches .*, and None gives none"),
        ({"loader": [(randn(6), torch.tensor(1))]}, "has an entry for every sample"),
        ({"loader": [(randn(1, 6), torch.tensor([3]))]}, "3 is none of the 3 classes, 0 to 2"),
        ({"loader": [(randn(1, 6), torch.tensor([-100]))]}, "every target is ignored"),
        (
            {"loader": [(randn(1, 6), torch.tensor([3]))], "mode": "first_order"},
            "3 is none of the 3 classes, 0 to 2",
        ),
        (
            {"loader": [(randn(1, 6), torch.tensor([-100]))], "mode": "first_order"},
            "every target is ignored",
        ),
        ({"metric": lambda model: 0.5}, r"called as metric\(model, loader\)"),
        ({"metric": lambda model, loader: None}, "gave None, which is no number"),
        ({"metric": lambda model, loader: torch.ones(2)}, "which is no number"),
        ({"select": []}, r"select=\[\] is no pattern"),
        ({"select": None}, "select=None is no pattern"),
        ({"sources": []}, r"sources=\[\] names none"),
        ({"resamples": -1}, "resamples=-1: resamples is a whole number, 0 or more"),
        ({"inspected": 1.5}, "inspected=1.5: inspected is a whole number"),
        ({"seed": "a"}, "seed='a': seed is a whole number"),
        ({"loss": nn.functional.mse_loss}, "loss is what mode='first_order' differentiates"),
        ({"metric": "loss", "mode": "first_order"}, "differentiates the loss and takes no metric"),
        (
            {"loader": [(randn(4, 6), randn(4, 3))], "mode": "first_order"},
            "the cross entropy is of logits and targets that are classes",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DovetailError, match=message):
        found_with(**options)


def test_a_model_without_emulation_is_refused() -> None:
    with pytest.raises(DovetailError, match="this model is not emulated"):
        dv.attribute(nn.Linear(2, 2), [])
    with pytest.raises(DovetailError, match=r"a model is an nn\.Module, not 'model'"):
        dv.attribute("model", [])


def test_without_an_inspection() -> None:
    model, loader = made("linear")
    bare, whole = (dv.attribute(model, loader, resamples=0, inspected=n) for n in (0, 64))
    assert bare.histograms == ()
    assert all(op.accumulated_sqnr_db is None for op in bare.ops)
    assert all(op.delta_metric is not None for op in bare.ops)
    assert all(row.values is None and row.changed is None for row in bare)
    assert [row.delta_metric for row in bare] == [row.delta_metric for row in whole]
    assert list(bare.by_op) == list(whole.by_op)


def test_the_active_one_of_several_recipes() -> None:
    model, loader = made("linear")
    dv.remove_(model)
    rough = dv.Recipe(dv.rule("0", input="int8", weight="int3"))
    dv.apply_several_(model, {"exact": dv.Recipe(), "rough": rough}, loader[0][0])
    dv.switch(model, "rough")
    several = dv.attribute(model, loader, resamples=0)
    dv.remove_(model)
    dv.apply_(model, rough, loader[0][0])
    assert several == dv.attribute(model, loader, resamples=0)


def test_several_inputs_and_outputs_with_logits() -> None:
    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor, y: Tensor, scale: float) -> Output:
            return Output(self.a(x) + scale * self.b(y))

    model, x, y = build(0, Two), randn(80, 6), randn(80, 4)
    dv.apply_(model, dv.Recipe(dv.rule("*", input="int8", weight="int3")), (x, y, 0.5))
    with dv.emulation.exact(model), torch.no_grad():
        target = model(x, y, 0.5).logits.argmax(1)
    for mode in ("exact", "first_order"):
        found = dv.attribute(model, [(x, y, 0.5, target)], mode=mode, resamples=20)
        assert [row.op for row in found] == ["a", "a", "b", "b"]
        assert found.samples == 80
        assert found["a", "weight"].values == 18
        assert found["b", "input"].values == 64 * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    model = build(0, lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))).to(dtype)
    x = randn(16, 6, dtype=dtype)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8, mul=ROUGH)), x)
    for mode in ("exact", "first_order"):
        found = dv.attribute(model, [(x, torch.arange(16) % 3)], mode=mode, resamples=20)
        assert all(np.isfinite(row.delta_metric) for row in found)
        assert found["0", "mul"].isolated_sqnr_db < found["0", "input"].isolated_sqnr_db


def test_masks_and_infinities() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)
            scores = torch.softmax(self.q(x) @ self.k(x).mT + mask, -1)
            return self.head(scores @ x).mean(1)

    model, x = build(0, Masked), randn(12, 5, 6)
    rules = [dv.rule("*", **INT8), dv.rule(op="add softmax", input="int8", output="int8")]
    dv.apply_(model, dv.Recipe(*rules), x)
    loader = [(x, torch.arange(12) % 3)]
    for mode in ("exact", "first_order"):
        found = dv.attribute(model, loader, mode=mode, resamples=20)
        assert {row.kind for row in found} == {"linear", "matmul", "add", "softmax"}
        for row in found:
            assert row.isolated_sqnr_db > 15
            assert np.isfinite(row.delta_loss)


def test_scores_that_are_not_numbers_are_wrong() -> None:
    class Root(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sqrt()

    model = Root(1, 2, bias=False)
    model.weight.data = torch.tensor([[1.0], [2.0]])
    x = torch.tensor([[4.0], [-1.0]])
    dv.apply_(model, dv.Recipe(dv.rule("*", output="fixed(8, 0)")), x)
    found = dv.attribute(model, [(x, torch.ones(2).long())], resamples=10)
    assert found.exact_metric == 0.5
    assert np.isnan(found.exact_loss)
    assert found[".", "output"].delta_metric == 0
    assert found.to_dict()["exact_loss"] == "nan"
