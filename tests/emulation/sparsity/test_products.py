"""Where sparsity acts: products of every kind compute with the pruned weight, codes too."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dovetail as dv
from dovetail.errors import DovetailError
from dovetail.sparsity import sparsity
from sparse_nets import X, apply, net, pruned


@pytest.mark.parametrize("text", ["2:4", "topk(0.3)", "topk(0.3, per_output)", "blocks(4, 2, 0.5)"])
@pytest.mark.parametrize(
    "formats", [{}, {"weight": "int8", "input": "int8(dynamic)"}, {"weight": "mxfp4"}]
)
def test_the_product_is_that_of_the_pruned_weight(text: str, formats: dict[str, str]) -> None:
    model, other = net(), net()
    apply(model, text, **formats)
    with torch.no_grad():
        for layer in (other[0], other[2]):
            layer.weight.copy_(pruned(layer.weight, text))
    if formats:
        dv.apply_(other, dv.Recipe(dv.rule("*", **formats)), X)
    with torch.no_grad():
        assert torch.equal(model(X), other(X))
    assert torch.equal(model(X), other(X))  # recorded: the other way through


def test_masks_are_chosen_before_any_cast() -> None:
    """Codes of a coarse format tie; the mask still keeps the largest of the weight itself."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.90, 0.91, 0.92, 0.93]]))
    apply(model, "2:4", torch.ones(1, 4), weight="int2")
    assert model(torch.eye(4)).flatten().count_nonzero() == 2
    assert model(torch.eye(4)).flatten()[2:].all()


@pytest.mark.parametrize(
    ("layer", "x", "axis"),
    [
        (nn.Conv2d(8, 4, 3), torch.randn(1, 8, 5, 5), 1),
        (nn.Conv1d(8, 4, 3, groups=2), torch.randn(1, 8, 9), 1),
        (nn.Embedding(6, 8), torch.tensor([[0, 5]]), -1),
        (nn.EmbeddingBag(6, 8), torch.tensor([[0, 5]]), -1),
    ],
)
def test_every_kind_with_a_weight_is_pruned_along_its_inputs(
    layer: nn.Module, x: Tensor, axis: int
) -> None:
    model, other = nn.Sequential(layer), nn.Sequential(copy.deepcopy(layer))
    dv.apply_(model, dv.Recipe(dv.rule("*", op="*", sparsity="2:4")), x)
    with torch.no_grad():
        other[0].weight.copy_(pruned(other[0].weight, "2:4", axis))
        assert torch.equal(model(x), other(x))


def test_transposed_convolutions_and_bilinear_forms() -> None:
    layer = nn.ConvTranspose2d(8, 4, 3, stride=2)
    model, x = nn.Sequential(layer), torch.randn(1, 8, 4, 4)
    other = copy.deepcopy(layer)
    apply(model, "2:4", x)
    with torch.no_grad():
        mask = sparsity("2:4").pattern.mask(other.weight.abs(), 0)
        other.weight.copy_(torch.where(mask, other.weight, 0))
        assert torch.equal(model(x), other(x))

    class Form(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4, 8))

        def forward(self, one: Tensor, two: Tensor) -> Tensor:
            return F.bilinear(one, two, self.weight)

    form, pair = Form(), (torch.randn(2, 4), torch.randn(2, 8))
    expected = F.bilinear(*pair, pruned(form.weight, "1:4"))
    dv.apply_(form, dv.Recipe(dv.rule("*", op="bilinear", sparsity="1:4")), pair)
    assert torch.equal(form(*pair), expected)


def test_taps_see_the_codes_of_the_pruned_weight() -> None:
    from dovetail.emulation.taps import tap

    model = net(nn.Linear(16, 8))
    apply(model, "2:4", weight="int8", input="int8", weight_storage="mxfp4")
    zeros = []
    with tap(model, lambda op, call: zeros.append(int((call.codes()[1] == 0).sum()))):
        model(X)
    assert zeros[0] >= 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"sparsity": "2:3"},
            "0 .*'2:3' runs along axis 1 .* the nearest that divides it is '2:2'",
        ),
        ({"sparsity": "blocks(3, 1, 0.5)"}, "its 8 rows are no multiple of 3"),
        ({"sparsity": "2:4", "op": "relu"}, "sets sparsity, which relu has not"),
        ({"sparsity": "2:4", "op": "matmul"}, "matches no operation"),
        ({"sparsity": "2;4"}, "cannot read '2;4'"),
    ],
)
@pytest.mark.parametrize("example", [None, X])
def test_what_does_not_fit_is_refused_in_the_plan(
    fields: dict[str, str], message: str, example: Tensor | None
) -> None:
    with pytest.raises(DovetailError) as caught:
        dv.plan(net(), dv.Recipe(dv.rule("*", **fields)), example)
    if example is not None or "relu" not in message:
        caught.match(message)


def test_dense_is_no_rule_and_undoes_an_earlier_one() -> None:
    recipe = dv.Recipe(dv.rule("*", sparsity="2:4"), dv.rule("2", sparsity="dense"))
    planned = dv.plan(net(), recipe, X)
    assert [op.key for op in planned] == ["0"]
    assert "sparsity  2:4" in planned.table()
    assert planned.to_dict()["ops"][0]["arithmetic"] == {"sparsity": "2:4"}


def test_recipes_with_sparsity_are_files(tmp_path: object) -> None:
    recipe = dv.Recipe(
        dv.rule("*", sparsity="2:4(score=wanda)"), dv.rule("0", sparsity="dense", weight="int8")
    )
    path = f"{tmp_path}/recipe.yaml"
    recipe.save(path)
    assert dv.Recipe.load(path) == recipe
