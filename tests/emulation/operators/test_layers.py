"""Norms, lookups, pools and what moves values: reached, cast in every slot, else torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dovetail as dv
from dovetail.emulation import tap
from helpers import hits, randn

IMAGE, ROWS = randn(2, 4, 8, 8), randn(3, 4, 8)
INDICES = torch.tensor([[0, 2], [1, 1]])


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


LAYERS = {
    "layer_norm": (lambda: nn.LayerNorm(8), (ROWS,)),
    "layer_norm-bare": (lambda: nn.LayerNorm(8, elementwise_affine=False), (ROWS,)),
    "rms_norm": (lambda: nn.RMSNorm(8), (ROWS,)),
    "batch_norm": (lambda: nn.BatchNorm2d(4), (IMAGE,)),
    "batch_norm-1d": (lambda: nn.BatchNorm1d(4, affine=False), (ROWS,)),
    "group_norm": (lambda: nn.GroupNorm(2, 4), (IMAGE,)),
    "instance_norm": (lambda: nn.InstanceNorm2d(4, affine=True), (IMAGE,)),
    "embedding": (lambda: nn.Embedding(3, 8, padding_idx=0), (INDICES,)),
    "embedding_bag": (lambda: nn.EmbeddingBag(3, 8, mode="mean"), (INDICES,)),
    "bilinear": (lambda: nn.Bilinear(8, 8, 5), (ROWS, ROWS.flip(0))),
    "max_pool": (lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (IMAGE,)),
    "max_pool-1d": (lambda: nn.MaxPool1d(2), (ROWS,)),
    "max_pool-adaptive": (lambda: nn.AdaptiveMaxPool2d(3), (IMAGE,)),
    "avg_pool": (lambda: nn.AvgPool2d(3, padding=1, count_include_pad=False), (IMAGE,)),
    "avg_pool-1d": (lambda: nn.AvgPool1d(2), (ROWS,)),
    "avg_pool-adaptive": (lambda: nn.AdaptiveAvgPool2d(1), (IMAGE,)),
    "avg_pool-adaptive-1d": (lambda: nn.AdaptiveAvgPool1d(3), (ROWS,)),
    "interpolate": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (IMAGE,)),
}
FORMATS = {
    "input": "bfp(m=8, block=4)",
    "other": "fp8_e5m2",
    "weight": "fp8_e4m3",
    "bias": "fp6_e3m2fn",
}


def case(name):
    make, inputs = LAYERS[name]
    layer = seeded(make)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(randn(*parameter.shape, seed=number + 5))
    return layer, inputs, name.split("-")[0]


def by_hand(layer, inputs, kind):
    """The layer computed by torch on operands that are cast one by one."""
    fields = set(dv.kinds.KINDS[kind].fields)
    axis = dv.kinds.KINDS[kind].block_axis
    for name, parameter in layer.named_parameters():
        parameter.data = dv.cast(parameter.data, FORMATS[name])
    if "input" in fields:
        slots = ("input", "other")
        inputs = [dv.cast(x, FORMATS[slot], axis) for slot, x in zip(slots, inputs, strict=False)]
    return dv.cast(layer(*inputs), "bf16")


@pytest.mark.parametrize("name", LAYERS)
def test_every_slot_is_cast_and_nothing_else_changes(name):
    layer, inputs, kind = case(name)
    plain = layer(*inputs)
    fields = {f: FORMATS[f] for f in dv.kinds.KINDS[kind].fields if f in FORMATS}
    plan = dv.apply_(layer, dv.Recipe(dv.rule(op=kind, output="bf16", **fields)), inputs)
    assert [(op.key, op.kind) for op in plan] == [(".", kind)]
    y = layer(*inputs)
    assert hits(layer, *inputs) == ["."]
    dv.remove_(layer)
    assert torch.equal(layer(*inputs), plain)
    assert torch.equal(y, by_hand(layer, inputs, kind))


@pytest.mark.parametrize("name", [n for n in LAYERS if list(case(n)[0].parameters())])
def test_gradients_of_the_parameters_pass_straight_through(name):
    layer, inputs, kind = case(name)
    fields = {f: "fp8_e5m2" for f in dv.kinds.KINDS[kind].fields if f in FORMATS}
    dv.apply_(layer, dv.Recipe(dv.rule(op=kind, **fields)), inputs)
    layer(*inputs).square().sum().backward()
    ours = [p.grad for p in layer.parameters()]
    dv.remove_(layer)
    layer.zero_grad()
    for parameter in layer.parameters():
        parameter.data = dv.cast(parameter.data, "fp8_e5m2")
    floats = [dv.cast(x, "fp8_e5m2") if x.is_floating_point() else x for x in inputs]
    layer(*floats).square().sum().backward()
    for a, b in zip(ours, (p.grad for p in layer.parameters()), strict=True):
        assert torch.equal(a, b)


def test_running_statistics_move_once_in_training_also_when_watched():
    def run(watch):
        torch.manual_seed(0)
        layer = nn.BatchNorm1d(4)
        dv.apply_(layer, dv.Recipe(dv.rule(op="batch_norm", input="fp8_e4m3")), ROWS)
        layer.train()
        seen = []
        with tap(layer, lambda op, call: seen.append(call.exact() if watch else None)):
            layer(ROWS)
        return layer.running_mean.clone(), layer.num_batches_tracked.clone(), seen

    mean, count, _ = run(False)
    again, count_again, seen = run(True)
    assert torch.equal(mean, again)
    assert int(count) == int(count_again) == 1
    assert seen[0] is not None
    wanted = nn.BatchNorm1d(4)
    wanted(dv.cast(ROWS, "fp8_e4m3"))
    assert torch.equal(mean, wanted.running_mean)


def test_cat_casts_each_of_its_tensors():
    class Joins(nn.Module):
        def forward(self, *tensors):
            return torch.cat(tensors, dim=1)

    parts = (randn(2, 3), randn(2, 5, seed=1), randn(2, 1, seed=2))
    model = Joins()
    plan = dv.apply_(
        model, dv.Recipe(dv.rule(op="cat", input="bfp(m=4, block=4)", output="bf16")), parts
    )
    assert [op.key for op in plan] == [".:cat"]
    wanted = torch.cat([dv.cast(p, "bfp(m=4, block=4)") for p in parts], 1)
    assert torch.equal(model(*parts), dv.cast(wanted, "bf16"))
    dv.remove_(model)
    dv.apply_(model, dv.Recipe(dv.rule(op="cat", input="int8")), parts)
    scale = max(float(p.abs().max()) for p in parts) / 127
    assert float(model._dovetail_cat_input_scale) == pytest.approx(scale)


def test_dropout_draws_what_torch_draws():
    model = nn.Sequential(nn.Dropout(0.5))
    dv.apply_(model, dv.Recipe(dv.rule(op="dropout", output="fp8_e5m2")), ROWS)
    model.train()
    torch.manual_seed(3)
    y = model(ROWS)
    torch.manual_seed(3)
    assert torch.equal(y, dv.cast(F.dropout(ROWS, 0.5), "fp8_e5m2"))
    model.eval()
    assert torch.equal(model(ROWS), dv.cast(ROWS, "fp8_e5m2"))


def test_what_has_no_plain_result_is_listed():
    class Uncovered(nn.Module):
        def forward(self, x):
            y, _ = F.max_pool2d(x, 2, return_indices=True)
            return y

    plan = dv.plan(Uncovered(), dv.Recipe(dv.rule(op="*", output="bf16", optional=True)), IMAGE)
    assert plan.uncovered == (".:max_pool2d_with_indices",)


def test_an_embedding_that_renormalises_its_rows_is_listed():
    layer = nn.Embedding(3, 4, max_norm=1.0)
    recipe = dv.Recipe(dv.rule(op="embedding", weight="fp8_e4m3", optional=True))
    assert dv.plan(layer, recipe, INDICES).uncovered == (".:embedding",)


def test_exported_layers_are_reached_again():
    """An exported model calls aten functions."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.ln = nn.BatchNorm2d(4), nn.LayerNorm(8)
            self.table = nn.Embedding(3, 8)

        def forward(self, x, i):
            y = F.max_pool2d(self.ln(self.bn(x)), 2)
            return (
                torch.cat([F.avg_pool2d(y, 2), y.softmax(-1)[..., :2, :2]]) + self.table(i).mean()
            )

    net = Net().eval()
    exported = torch.export.export(net, (IMAGE, INDICES)).module()
    recipe = dv.Recipe(dv.rule(op="norm lookup max_pool softmax cat", output="bf16"))
    wanted = dv.apply_(net, recipe, (IMAGE, INDICES))
    found = dv.apply_(exported, recipe, (IMAGE, INDICES))
    assert sorted(op.kind for op in found) == sorted(op.kind for op in wanted)
    assert len(found) == 6
    assert torch.equal(exported(IMAGE, INDICES), net(IMAGE, INDICES))
