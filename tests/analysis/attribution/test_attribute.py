"""``dv.attribute``: by hand, against passes without a cache, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import dovetail as dv
from dovetail.analysis.attribution import Attribution
from dovetail.analysis.attribution.passes import Passes
from dovetail.emulation.execute import emulated
from dovetail.emulation.partial import partial, sources_of
from dovetail.emulation.state import sites
from dovetail.errors import DovetailError
from dovetail.recipe.selectors import Selector
from helpers import INT8, build, modes, randn
from recovery.models import Block, everything, same

ROUGH = "broken_array(bits=8, drop_columns=6)"


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0].mean(1))


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu_(self.norm(self.a(x)))
        y = nn.functional.relu(self.b(y) + y, inplace=True)
        return self.head(y.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Block(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean(1))


CODES = dv.rule("*", input="int8", weight="int4", mul=ROUGH, acc="int14", output="fp8_e4m3fn")
RECIPES = {
    "linear": dv.Recipe(CODES, dv.rule("2", sparsity="2:4", bias="bf16")),
    "conv": dv.Recipe(CODES, dv.rule(op="relu", output="fp4_e2m1fn")),
    "attention": dv.Recipe(
        dv.rule("*", **INT8, mul=ROUGH),
        dv.rule(op="softmax", fn="poly2(fp16)"),
        dv.rule(op="layer_norm", input="fp8_e4m3fn"),
        dv.rule("*.down", sparsity="2:4"),
    ),
    "lstm": dv.Recipe(
        dv.rule("*", **INT8, acc="int16(saturate)"), dv.rule(op="sigmoid", fn="poly2(fp16)")
    ),
    "drawn": dv.Recipe(dv.rule("*", input="int4(rounding=Stochastic)", weight="int4")),
}


def made(name: str) -> tuple[nn.Module, list[Any]]:
    """An emulated model and a loader of two batches, of which the exact model is mostly right."""
    make, shape = {
        "linear": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
        "drawn": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
        "conv": (Convolutions, (2, 5, 5)),
        "attention": (Attention, (4, 16)),
        "lstm": (Recurrent, (4, 6)),
    }[name]
    model = build(0, make).eval()
    with torch.no_grad():
        batches = [randn(size, *shape, seed=size) for size in (12, 8)]
        loader = [(x, model(x).argmax(1)) for x in batches]
    dv.apply_(model, RECIPES[name], batches[0])
    return model, loader


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


def test_two_layers_by_hand() -> None:
    """y = 2 * round(x); z = y rounded to multiples of 4: each cast's part, alone and removed."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False))
    model[0].weight.data = torch.tensor([[2.0]])
    model[1].weight.data = torch.tensor([[1.0], [-1.0]])
    x = torch.tensor([[0.4], [0.6], [1.4], [-2.6]])
    fixed, coarse = "fixed(8, 0)", "fixed(8, -2)"
    dv.apply_(model, dv.Recipe(dv.rule("0", input=fixed), dv.rule("1", output=coarse)), x)

    def mean_output(model: nn.Module, loader: Any) -> float:
        return float(torch.cat([model(y)[:, 0] for y, _ in loader]).mean())

    found = dv.attribute(model, [(x[:3], x[:3, 0]), (x[3:], x[3:, 0])], mean_output, resamples=0)
    exact = [0.8, 1.2, 2.8, -5.2]
    rounded = [0.0, 2.0, 2.0, -6.0]  # 2 * round(x)
    alone = [0.0, 0.0, 4.0, -4.0]  # to multiples of 4, ties to even
    both = [0.0, 0.0, 0.0, -8.0]
    assert found.exact_metric == pytest.approx(np.mean(exact), abs=1e-6)
    assert found.emulated_metric == np.mean(both)
    first, second = found["0", "input"], found["1", "output"]
    assert first.delta_metric == pytest.approx(np.mean(rounded) - np.mean(exact), abs=1e-6)
    assert second.delta_metric == pytest.approx(np.mean(alone) - np.mean(exact), abs=1e-6)
    assert first.disabled_delta_metric == np.mean(alone) - np.mean(both)
    assert second.disabled_delta_metric == np.mean(rounded) - np.mean(both)
    noise = np.sum(np.subtract(rounded, exact) ** 2)
    assert first.isolated_sqnr_db == pytest.approx(10 * np.log10(np.sum(np.square(exact)) / noise))
    # the second layer gives y and -y, so that the ratio at the output is that of y
    assert first.accumulated_sqnr_db == pytest.approx(first.isolated_sqnr_db)
    cosine = np.dot(rounded, exact) / np.linalg.norm(rounded) / np.linalg.norm(exact)
    assert first.isolated_cosine == pytest.approx(cosine)
    assert (first.values, first.saturated, first.ci_low) == (3, 0, None)
    assert found.higher_is_better is None
    assert found.metric == "mean_output"


def first_output(model: nn.Module, loader: Any) -> float:
    return float(torch.cat([model(y)[:, 0] for y, _ in loader]).double().mean())


@pytest.mark.parametrize(
    ("depth", "fields"),
    [
        (1, {"input": "int12", "weight": "int12", "bias": "bf16", "mul": "truncated(bits=12)"}),
        (3, {"weight": "int12", "bias": "bf16"}),
    ],
)
def test_sources_add_up_to_the_total_in_the_linear_regime(depth: int, fields: Any) -> None:
    """Small errors that do not depend on each other, in a linear model under a linear metric."""
    model = build(0, lambda: nn.Sequential(*[nn.Linear(8, 8) for _ in range(depth)]))
    x = randn(16, 8)
    dv.apply_(model, dv.Recipe(dv.rule("*", **fields)), x)
    found = dv.attribute(model, [(x, x[:, 0])], first_output, resamples=0)
    total = found.emulated_metric - found.exact_metric
    parts = found.by_source
    assert set(parts) == set(fields)
    assert total == pytest.approx(sum(part["delta_metric"] for part in parts.values()), rel=2e-3)
    if depth > 1:
        removed = sum(part["disabled_delta_metric"] for part in parts.values())
        assert total == pytest.approx(-removed, rel=2e-3)
    assert abs(total) > 1e-6


@pytest.mark.parametrize("name", RECIPES)
def test_rows_of_every_model(name: str) -> None:
    model, loader = made(name)
    found = dv.attribute(model, loader, resamples=100)
    planned = [(site.op.key, source) for site, _ in sites(model) for source in sources_of(site)]
    assert sorted((row.op, row.source) for row in found) == sorted(planned)
    exact, emulated = _measured(model, loader)
    assert found.samples == 20
    assert found.exact_metric == exact.value
    if name != "drawn":
        assert found.emulated_metric == emulated.value
    for row in found:
        assert row.ci_low <= row.delta_metric <= row.ci_high
        assert row.disabled_ci_low <= row.disabled_delta_metric <= row.disabled_ci_high
        assert row.accumulated_kl >= 0
        assert row.source not in ("input", "weight", "output", "acc") or row.values > 0
        assert (row.changed is not None) == (row.source == "mul")
        assert row.with_sources == _goes_along(model, row.op, row.source)


def _measured(model: nn.Module, loader: list[Any]) -> tuple[Any, Any]:
    with dv.emulation.exact(model):
        exact = dv.analysis.accuracy(model, loader)
    return exact, dv.analysis.accuracy(model, loader)


def _goes_along(model: nn.Module, op: str, source: str) -> tuple[str, ...]:
    site = next(site for site, _ in sites(model) if site.op.key == op)
    own = sources_of(site)
    if source not in ("input", "weight"):
        return ()
    return tuple(name for name in ("mul", "acc") if name in own)


def test_summaries_and_histograms() -> None:
    model, loader = made("conv")
    found = dv.attribute(model, loader, resamples=0, inspected=8)
    table = dv.analysis.layers(model, loader[0][0][:8])
    assert [each.op for each in found.ops] == [row.key for row in table]
    assert found.by_op["a"]["accumulated_sqnr_db"] == table["a"].accumulated_db
    assert found["a", "mul"].changed == table["a"].changed
    shown = found.to_dict()["histograms"]["a"]
    assert sum(shown["input"]["counts"]) == 8 * 2 * 25
    assert sum(shown["weight"]["counts"]) == 4 * 2 * 9
    assert shown["input"]["low"] == -shown["input"]["high"]
    assert shown["input"]["edges"][-1] <= shown["input"]["high"] * (1 + 1e-6)
    assert shown["output"]["high"] == 448.0


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


@pytest.mark.parametrize("mode", ["exact", "first_order"])
@pytest.mark.parametrize("name", ["linear", "conv", "lstm"])
def test_the_model_is_left_as_it_was(name: str, mode: str) -> None:
    model, loader = made(name)
    model.train()
    next(iter(model.children())).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, flags = everything(model), [module.training for module in model.modules()]
    classes = [type(module) for module in model.modules()]
    entries = [module.__dict__.get("_dovetail") for module in model.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()

    def check() -> None:
        assert same(everything(model), before)
        assert [module.training for module in model.modules()] == flags
        assert [type(module) for module in model.modules()] == classes
        assert [module.__dict__.get("_dovetail") for module in model.modules()] == entries
        assert torch.equal(torch.get_rng_state(), state)
        assert all((p.grad == 1).all() for p in model.parameters())
        assert dv.emulation.taps.emulation_of(model).performer is None
        assert modes() == 0

    dv.attribute(model, loader, mode=mode, resamples=10)
    check()
    for stop in (1, 2, 5):

        def interrupt(done: int, _total: int | None, stop: int = stop) -> None:
            if done == stop:
                raise KeyboardInterrupt

        if stop <= 2 or mode == "exact":
            with pytest.raises(KeyboardInterrupt):
                dv.attribute(model, loader, mode=mode, progress=interrupt)
            check()


def test_an_interruption_inside_a_pass() -> None:
    model, loader = made("conv")
    before, runs = everything(model), []

    def interrupt(*_: Any) -> None:
        runs.append(1)
        if len(runs) == 9:
            raise KeyboardInterrupt

    hook = model.b.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        dv.attribute(model, loader)
    hook.remove()
    assert same(everything(model), before)
    assert len(runs) == 9
    assert modes() == 0


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
        ({"loss": nn.functional.mse_loss}, "loss is what mode='first_order' differentiates"),
        ({"metric": "loss", "mode": "first_order"}, "differentiates the loss, no metric"),
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


def test_inference_mode_around_it_and_empty_batches_in_it() -> None:
    model, loader = made("conv")
    wanted = dv.attribute(model, loader, resamples=20)
    empty = (torch.zeros(0, 2, 5, 5), torch.zeros(0, dtype=torch.long))
    with torch.inference_mode():
        inner = [(x.clone(), t.clone()) for x, t in loader]
        found = dv.attribute(model, [empty, *inner, empty], resamples=20)
        predicted = dv.attribute(model, inner, mode="first_order", resamples=20)
    assert found == wanted
    assert predicted == dv.attribute(model, loader, mode="first_order", resamples=20)


def test_a_state_that_a_pass_changes_is_put_back_before_the_next() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 3)
            self.register_buffer("runs", torch.ones(()))
            self.register_buffer("last", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x) * self.runs + self.last
            self.runs.mul_(2)
            self.last = y[-1].detach()
            return y

    model, x = build(0, Counting), randn(8, 6)
    target = model.a(x).argmax(1)
    dv.apply_(model, dv.Recipe(dv.rule("a", input="int8", weight="int3")), x)
    model.runs.fill_(3)
    last = model.last
    found = dv.attribute(model, [(x, target)] * 2, resamples=0)
    assert model.runs == 3
    assert model.last is last
    assert found.exact_metric == _measured(model, [(x, target)])[0].value
    one = dv.attribute(model, [(x, target)], resamples=0)
    assert [row.delta_metric for row in found] == [row.delta_metric for row in one]


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


def test_operations_and_sources_that_are_asked_for() -> None:
    model, loader = made("attention")
    whole = dv.attribute(model, loader, resamples=20)
    some = dv.attribute(model, loader, select=["*:softmax", "block.?"], resamples=20)
    assert {row.op for row in some} == {"block:softmax", *(f"block.{name}" for name in "qkvo")}
    assert all(row == whole[row.op, row.source] for row in some)
    mul = dv.attribute(model, loader, select="*.up", sources=["mul"], resamples=20)
    assert mul.rows == (whole["block.up", "mul"],)
    assert mul.ops == tuple(op for op in whole.ops if op.op == "block.up")
    predicted = dv.attribute(model, loader, mode="first_order", sources=["fn"])
    assert [row.op for row in predicted] == ["block:softmax"]
    with pytest.raises(
        DovetailError, match=r"matches no emulated operation; did you mean 'block\.u"
    ):
        dv.attribute(model, loader, select="block.upp")
    with pytest.raises(DovetailError, match="unknown source of error 'multiplier'"):
        dv.attribute(model, loader, sources=["multiplier"])
    with pytest.raises(DovetailError, match="matches has the source bias"):
        dv.attribute(model, loader, sources="bias")


def test_an_operation_s_sources_together() -> None:
    """Alone in an exact model, and exact in an emulated one."""
    model, loader = made("linear")
    found = dv.attribute(model, loader, "loss", resamples=30)
    rules = {"0": dv.Recipe(CODES), "2": RECIPES["linear"]}
    dv.remove_(model)
    for op in found.ops:
        assert op.ci_low <= op.delta_metric <= op.ci_high
        recipe = dv.Recipe(*(replace(r, selector=Selector(op.op)) for r in rules[op.op]))
        dv.apply_(model, recipe, loader[0][0])
        alone = dv.attribute(model, loader, "loss", resamples=0).emulated_metric
        dv.remove_(model)
        assert found.exact_metric + op.delta_metric == pytest.approx(alone, rel=1e-9)
        other = next(each for each in found.ops if each is not op)
        left = found.emulated_metric + other.disabled_delta_metric
        assert left == pytest.approx(alone, rel=1e-9)
        assert found.by_op[op.op]["whole"]["delta_metric"] == op.delta_metric


def test_one_source_is_the_whole() -> None:
    model, loader = made("conv")
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("head", weight="int4")), loader[0][0])
    passes: list[int] = []
    found = dv.attribute(model, loader, progress=lambda done, _: passes.append(done))
    assert len(passes) == 2 * (2 + 2)
    assert found.ops[0].delta_metric == found["head", "weight"].delta_metric


def test_a_recipe_without_error_has_no_rows() -> None:
    model, loader = made("linear")
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule("0", input="same")), loader[0][0])
    for mode in ("exact", "first_order"):
        found = dv.attribute(model, loader, mode=mode)
        assert (found.rows, found.by_op, found.by_source) == ((), {}, {})
        assert found.exact_metric == found.emulated_metric


def test_who_counts_meanwhile_sees_nothing() -> None:
    model, loader = made("linear")
    wanted = dv.attribute(model, loader, resamples=0)
    with dv.counters(model) as counts, dv.emulation.exact(model):
        assert dv.attribute(model, loader, resamples=0) == wanted
        assert counts == {}
        model(loader[0][0])
    with dv.counters(model) as counts:
        model(loader[0][0])
    assert list(counts) == ["0", "2"]


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
@pytest.mark.parametrize("seed", range(10))
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
