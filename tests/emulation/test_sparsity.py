"""Sparse weights in emulated models: where they act, what they follow, what training sees."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dovetail as dv
from dovetail.emulation.sparsifying import held
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError
from dovetail.sparsity import sparsity

X = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))


def net(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(layers or (nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))))


def apply(model: nn.Module, text: str, x: Tensor = X, **fields: str) -> dv.Plan:
    return dv.apply_(model, dv.Recipe(dv.rule("*", sparsity=text, **fields)), x)


def pruned(weight: Tensor, text: str, axis: int = -1) -> Tensor:
    mask = sparsity(text).pattern.mask(weight.detach().abs(), axis)
    return torch.where(mask, weight.detach(), 0)


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


def test_masks_follow_the_weight_unless_fixed() -> None:
    for text, follows in (("topk(0.5)", True), ("topk(0.5, fixed)", False)):
        model = nn.Sequential(nn.Linear(4, 1, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
        apply(model, text, torch.ones(1, 4))
        with torch.no_grad():
            assert model(torch.eye(4)).flatten().tolist() == [4, 3, 0, 0]
            model[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
            expected = [0, 0, 3, 4] if follows else [1, 2, 0, 0]
            assert model(torch.eye(4)).flatten().tolist() == expected
        assert model(torch.eye(4)).flatten().tolist() == expected


def test_weights_and_masks_are_kept_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    apply(model, "topk(0.5)", weight="mxfp4")
    calls = []
    kind = type(sparsity("topk(0.5)").pattern)
    original = kind.mask
    monkeypatch.setattr(kind, "mask", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(3):
        with torch.no_grad():
            model(X)
        model(X).sum().backward()
    assert len(calls) == 2  # once for each layer
    with torch.no_grad():
        model[0].weight.mul_(2)
        model(X)
    assert len(calls) == 3


def test_turned_weights_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 8))
            self.bias = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.bias, x, self.weight)

    model = Turned()
    expected = X @ pruned(model.weight.T, "topk(0.5)").T
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity="topk(0.5)")), X)
    calls = []
    kind = type(sparsity("topk(0.5)").pattern)
    original = kind.mask
    monkeypatch.setattr(kind, "mask", lambda *a, **k: calls.append(1) or original(*a, **k))
    with torch.no_grad():
        for _ in range(3):
            assert torch.allclose(model(X), expected, atol=1e-5)
        assert len(calls) == 1
        model.weight.neg_()
        assert torch.allclose(model(X), -expected, atol=1e-5)
    assert len(calls) == 2
    gone = weakref.ref(model.weight)
    del model
    gc.collect()
    assert gone() is None


def test_one_weight_may_have_two_masks() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 8)
            self.head = nn.Linear(8, 8, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.table(ids))

    model, ids = Tied(), torch.arange(8)
    weight = model.head.weight.detach()
    expected = F.linear(pruned(weight, "1:4"), pruned(weight, "2:4"))
    rules = dv.rule("head", sparsity="2:4"), dv.rule("table", op="embedding", sparsity="1:4")
    dv.apply_(model, dv.Recipe(*rules), ids)
    with torch.no_grad():
        assert torch.equal(model(ids), expected)
        assert torch.equal(model(ids), expected)


@pytest.mark.parametrize(
    ("text", "of_weight", "of_scores"),
    [
        ("topk(0.5)", "dense", False),
        ("topk(0.5, backward=masked)", "masked", False),
        ("topk(0.5, score=learned, backward=joint)", "masked", True),
        ("topk(0.5, score=learned, backward=supermask)", "none", True),
    ],
)
@pytest.mark.parametrize("formats", [{}, {"weight": "int8", "input": "int8"}])
def test_gradients_of_the_modes(
    text: str, of_weight: str, of_scores: bool, formats: dict[str, str]
) -> None:
    model = nn.Sequential(nn.Linear(16, 8))
    apply(model, text, **formats)
    weight = model[0].weight
    (model(X) ** 2).sum().backward()
    gone = model(torch.eye(16)).sub(model[0].bias).T == 0
    if of_weight == "none":
        assert weight.grad is None
    else:
        assert weight.grad is not None
        assert bool((weight.grad[gone] != 0).any()) == (of_weight == "dense")
        assert weight.grad[~gone].any()
    scores = dict(model.named_parameters()).get("0._dovetail_linear_scores")
    assert (scores is not None) == of_scores
    if scores is not None:
        assert scores.grad is not None
        assert scores.grad.any()


def test_learned_scores_are_trained_and_no_part_of_the_users_state() -> None:
    model = net()
    before = list(model.state_dict())
    model.requires_grad_(False)
    apply(model, "topk(0.5, score=learned, backward=supermask)")
    assert list(model.state_dict()) == before
    assert model.load_state_dict(net().state_dict()).missing_keys == []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    first = model(X)
    torch.nn.functional.cross_entropy(first, torch.tensor([0, 1, 2, 3, 0])).backward()
    optimizer.step()
    assert not torch.equal(model(X), first)
    own = zip(model.state_dict().values(), net().state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in own)
    saved = dv.state(model)
    assert saved["0.scores"].shape == (8, 16)
    fresh = net()
    dv.load_state(fresh, saved, X)
    assert torch.equal(fresh(X), model(X))
    dv.remove_(model)
    assert [name for name, _ in model.named_parameters()] == before


def test_learned_scores_need_a_module_that_can_hold_them() -> None:
    model = net()
    model[0].forward = functools.partial(nn.Linear.forward, model[0])
    with pytest.raises(DovetailError, match="the nearest that works is score=magnitude"):
        apply(model, "topk(0.5, score=learned, backward=joint)")
    assert not [name for name, _ in model.named_parameters() if "dovetail" in name]


@pytest.mark.parametrize("text", ["topk(0.3, fixed)", "2:4", "bernoulli(0.5, seed=3)"])
def test_copies_pickles_and_states_are_equal(text: str) -> None:
    model = net()
    apply(model, text, weight="int8", input="int8")
    with torch.no_grad():
        model[0].weight.neg_()
        expected = model(X)
        assert torch.equal(copy.deepcopy(model)(X), expected)
        assert torch.equal(pickle.loads(pickle.dumps(model))(X), expected)
        fresh = net()
        fresh.load_state_dict(model.state_dict())
        dv.load_state(fresh, safetensors.torch.load(safetensors.torch.save(dv.state(model))), X)
        assert torch.equal(fresh(X), expected)


def test_wanda_is_the_weight_times_the_norm_of_its_inputs() -> None:
    model = net(nn.Linear(4, 3))
    x = torch.tensor([[1.0, 2.0, 0.0, 0.1], [1.0, -2.0, 0.0, 0.1]])
    apply(model, "topk(0.5, score=wanda)", x)
    with pytest.raises(DovetailError, match=r"0: its scores are not known yet; .*model\(batch\)'"):
        model(x)
    with dv.calibrate(model):
        model(x)
    ((site, module),) = sites(model)
    norms = x.pow(2).sum(0).sqrt().expand(3, 4)
    assert torch.allclose(held(site, module)["scores"], norms)
    weight = model[0].weight.detach()
    mask = sparsity("topk(0.5)").pattern.mask(weight.abs() * norms)
    assert torch.equal(model(x), F.linear(x, torch.where(mask, weight, 0), model[0].bias))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
        nn.Conv1d(4, 2, 2, dilation=2),
    ],
)
def test_norms_count_an_input_as_often_as_its_weight_meets_it(layer: nn.Module) -> None:
    x = torch.randn(2, 4, *[7] * (layer.weight.dim() - 2))
    model = nn.Sequential(copy.deepcopy(layer))
    dv.apply_(model, dv.Recipe(dv.rule("*", sparsity="topk(0.5, score=wanda)")), x)
    with torch.inference_mode(), dv.calibrate(model):
        model(x)
    ((site, module),) = sites(model)
    norms = held(site, module)["scores"]
    # One weight of 1 at a time: what comes out are the inputs that it meets.
    place = (1, 0, *[1] * (layer.weight.dim() - 2))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[place] = 1
        met = layer(x).pow(2).sum().sqrt()
        own = norms[place] if isinstance(layer, (nn.Conv1d, nn.Conv2d)) else norms[0, 1, 1, 1]
    assert torch.allclose(own, met)


def test_ranges_are_those_of_the_sparse_network() -> None:
    model = net(nn.Linear(16, 8, bias=False))
    apply(model, "1:16", output="int8")
    with dv.calibrate(model):
        model(X)
    largest = F.linear(X, pruned(model[0].weight, "1:16")).abs().max()
    assert model[0]._dovetail_linear_output_scale == largest / 127


@pytest.mark.parametrize(("name", "sign"), [("gradient", None), ("movement", -1.0)])
def test_scores_of_gradients(name: str, sign: float | None) -> None:
    model = net(nn.Linear(16, 4))
    other = copy.deepcopy(model)
    apply(model, f"topk(0.5, fixed, score={name})")
    with pytest.raises(DovetailError, match=r"mask is not chosen yet; .*backward"):
        model(X)
    with pytest.raises(DovetailError, match="needs gradients: run"), dv.calibrate(model):
        model(X)
    with dv.calibrate(model):
        (model(X) ** 2).sum().backward()
        (model(X) ** 2).sum().backward()
    (other(X) ** 2).sum().backward()
    product = 2 * other[0].weight.grad * other[0].weight.detach()
    expected = product.abs() if sign is None else sign * product
    ((site, module),) = sites(model)
    assert torch.allclose(held(site, module)["scores"], expected)
    mask = sparsity("topk(0.5)").pattern.mask(expected)
    assert torch.equal(held(site, module)["mask"], mask)


def test_redrawn_masks_change_in_training_only_and_repeat_with_the_seed() -> None:
    model = net(nn.Linear(16, 8))
    apply(model, "bernoulli(0.5, redraw)")
    torch.manual_seed(3)
    first, second = model(X), model(X)
    torch.manual_seed(3)
    assert torch.equal(model(X), first)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(X), model(X))


def test_layers_of_one_seed_draw_different_masks() -> None:
    model = net(nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False))
    apply(model, "bernoulli(0.5, seed=1)")
    masks = [layer(torch.eye(16)) == 0 for layer in model]
    assert not torch.equal(*masks)


@pytest.mark.parametrize("formats", [{}, {"weight": "int8", "input": "int8"}])
@pytest.mark.parametrize("text", ["2:4", "topk(0.4, score=learned, backward=joint)"])
def test_compiled_and_exported_models_have_the_same_bits(
    formats: dict[str, str], text: str
) -> None:
    model = net()
    apply(model, text, **formats)
    expected = model(X)
    expected.sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for p in model.parameters():
        p.grad = None
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    y = compiled(X)
    y.sum().backward()
    assert torch.equal(y, expected)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(grads, found, strict=True))
    with torch.no_grad():
        program = torch.export.export(model.eval(), (X,))
        assert torch.equal(program.module()(X), expected)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("dovetail.mask.default") == 2


def test_gradients_under_torch_func() -> None:
    model = net()
    apply(model, "2:4", weight="int8", input="int8")
    (model(X) ** 2).sum().backward()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return (torch.func.functional_call(model, values, (X,)) ** 2).sum()

    for name, found in torch.func.grad(loss)(parameters).items():
        assert torch.allclose(found, dict(model.named_parameters())[name].grad)


def test_taps_see_the_codes_of_the_pruned_weight() -> None:
    from dovetail.emulation.taps import tap

    model = net(nn.Linear(16, 8))
    apply(model, "2:4", weight="int8", input="int8", weight_storage="mxfp4")
    zeros = []
    with tap(model, lambda op, call: zeros.append(int((call.codes()[1] == 0).sum()))):
        model(X)
    assert zeros[0] >= 64


def test_recipes_with_sparsity_are_files(tmp_path: object) -> None:
    recipe = dv.Recipe(
        dv.rule("*", sparsity="2:4(score=wanda)"), dv.rule("0", sparsity="dense", weight="int8")
    )
    path = f"{tmp_path}/recipe.yaml"
    recipe.save(path)
    assert dv.Recipe.load(path) == recipe
