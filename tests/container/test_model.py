"""Models that are told their configuration, and take it on with their first inputs."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import dovetail as dv
from dovetail.container import transform
from dovetail.container.pending import emulates, recipe_of, waits
from dovetail.emulation import Arguments


class Net(nn.Module):
    """A module, a function between activations, and a keyword argument."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(16, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x, *, scale=1.0):
        h = F.gelu(self.fc1(x)) * scale
        return self.fc2(h @ h.transpose(-1, -2) @ h)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


X = torch.linspace(-2, 2, 3 * 16).reshape(3, 16)
RECIPE = dv.Recipe(
    dv.rule("fc*", input="int8", weight="int8"), dv.rule("*", op="matmul gelu", output="bf16")
)


def expected(net, recipe=RECIPE, **kwargs):
    same = copy.deepcopy(net)
    dv.apply_(same, recipe, Arguments((X,), kwargs))
    return same(X, **kwargs)


def test_the_first_inputs_are_the_example(net):
    want = expected(net, scale=2.0)
    model = dv.Model(net).transform(RECIPE)
    assert waits(net)
    assert not emulates(net)
    assert torch.equal(model(X, scale=2.0), want)
    assert not waits(net)
    assert "forward" not in net.__dict__
    assert set(model.config) == {"fc1", "fc2", ".:matmul_0", ".:matmul_1", ".:gelu"}
    assert model.config["fc1"] == {"input": "int8", "weight": "int8"}


def test_an_example_settles_it_at_once(net):
    want = expected(net)
    model = dv.Model(net).transform(RECIPE, example=X)
    assert not waits(net)
    assert torch.equal(model(X), want)


def test_later_rules_add_to_earlier_ones(net):
    model = dv.Model(net).transform(RECIPE)
    model(X)
    model.transform(None, dv.rule("fc2", weight="int4"), dv.rule("fc1", output="bf16"))
    both = RECIPE + dv.Recipe(dv.rule("fc2", weight="int4"), dv.rule("fc1", output="bf16"))
    assert torch.equal(model(X), expected(_plain(net), both))
    assert model.config["fc2"]["weight"] == "int4"


def _plain(net):
    plain = Net()
    plain.load_state_dict(net.state_dict())
    return plain


def test_baseline_and_reset_leave_torch(net):
    with torch.no_grad():
        want = net(X)
    model = dv.Model(net).transform(RECIPE)
    model(X)
    assert torch.equal(model.transform("BASELINE")(X), want)
    model.transform("BASIC")
    assert not torch.equal(model(X), want)
    model.transform(reset=True)
    assert torch.equal(model(X), want)
    assert recipe_of(net).rules == ()
    assert type(net) is Net


def test_a_model_told_nothing_is_its_body_forward_and_backward(net):
    twin = copy.deepcopy(net)
    model = dv.Model(net)
    model(X, scale=0.5).square().sum().backward()
    twin(X, scale=0.5).square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert model.config == {}


def test_baseline_trains_as_torch_does(net):
    twin = copy.deepcopy(net)
    model = dv.Model(net).transform("BASELINE")
    model(X).square().sum().backward()
    twin(X).square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_state_dict_has_the_bodys_names(net):
    model = dv.Model(net)
    assert list(model.state_dict()) == list(net.state_dict())
    other = dv.Model(Net())
    assert other.load_state_dict(net.state_dict()) == ([], [])
    assert torch.equal(other.fc1.weight, net.fc1.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_state_dict_of_a_container_in_a_container(net):
    outer = nn.Sequential(dv.Model(net), nn.BatchNorm1d(4))
    plain = nn.Sequential(_plain(net), nn.BatchNorm1d(4))
    assert list(outer.state_dict()) == list(plain.state_dict())
    assert outer.state_dict()._metadata.keys() == plain.state_dict()._metadata.keys()
    plain.load_state_dict(outer.state_dict())
    outer.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_take_the_configuration_along(net, settled, copied):
    want = expected(net)
    model = dv.Model(net).transform(RECIPE)
    if settled:
        model(X)
    other = copied(model)
    assert waits(other.body) is not settled
    assert torch.equal(other(X), want)
    assert waits(net) is not settled
    assert torch.equal(model(X), want)


def test_freeze_and_thaw(net, tmp_path):
    model = dv.Model(net).transform(RECIPE)
    want = model(X)
    model.freeze(tmp_path / "frozen.yaml")
    model.transform("FP8")
    assert not torch.equal(model(X), want)
    assert torch.equal(model.thaw(tmp_path / "frozen.yaml")(X), want)
    assert model.recipe == RECIPE


def test_what_cannot_be_read_changes_nothing(net):
    model = dv.Model(net).transform(RECIPE)
    want = model(X)
    with pytest.raises(dv.DovetailError, match=r"no file 'missing\.yaml'"):
        model.transform("missing.yaml")
    with pytest.raises(dv.DovetailError, match=r"a file, a preset .*, not 3"):
        model.transform(RECIPE, 3)
    with pytest.raises(dv.DovetailError, match="weights='no': say 'load' or 'ignore'"):
        model.transform(weights="no")
    assert model.recipe == RECIPE
    assert torch.equal(model(X), want)


def test_what_does_not_fit_the_model_is_refused_on_every_input(net):
    model = dv.Model(net).transform(RECIPE)
    model(X)
    model.transform(None, dv.rule("fc9", input="int8"))
    for _ in range(2):
        with pytest.raises(dv.DovetailError, match="'fc9' matches no operation"):
            model(X)
    model.transform(RECIPE, reset=True)
    assert torch.equal(model(X), expected(_plain(net)))


def test_refused_with_an_example_leaves_the_model_as_it_was(net):
    model = dv.Model(net).transform(RECIPE, example=X)
    want = model(X)
    with pytest.raises(dv.DovetailError, match="matches no operation"):
        model.transform(None, dv.rule("fc9", input="int8"), example=X)
    assert torch.equal(model(X), want)
    assert model.recipe == RECIPE


def test_a_part_with_its_own_configuration_is_refused(net):
    whole = nn.Sequential(net, nn.ReLU())
    transform(net, RECIPE)
    with pytest.raises(dv.DovetailError, match="'0' waits with a configuration of its own"):
        transform(whole, "FP8")
    net(X)
    with pytest.raises(dv.DovetailError, match="a part of this model is emulated by itself"):
        transform(whole, "FP8")


def test_the_plan_waits_for_inputs(net):
    model = dv.Model(net).transform(RECIPE)
    with pytest.raises(dv.DovetailError, match="run the model once"):
        model.config  # noqa: B018


def test_tree_and_monitoring_speak_of_the_body(net):
    model = dv.Model(net).transform(RECIPE, example=X)
    assert "fc1 Linear  input=int8, weight=int8" in model.tree()
    with model.monitoring("fc*") as monitor:
        model(X)
    assert list(monitor.records) == ["fc1", "fc2"]


def test_attributes_are_the_bodys(net):
    model = dv.Model(net)
    assert model.fc1 is net.fc1
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'fc9'"):
        model.fc9  # noqa: B018
    with pytest.raises(dv.DovetailError, match=r"made of an nn\.Module"):
        dv.Model(3)


def test_an_instances_own_forward_comes_back(net):
    net.forward = lambda x: Net.forward(net, x) + 1
    own = net.forward
    transform(net, dv.rule("fc1", output="bf16"))
    net(X)
    transform(net, reset=True)
    assert net.forward is own


def test_compiles_after_it_has_settled(net):
    model = dv.Model(net).transform(RECIPE)
    want = model(X)
    assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(X), want)


def test_aware_and_unaware():
    class Own(nn.Module):
        def transform(self):
            return "its own"

    dv.aware()
    try:
        dv.aware()
        layer = nn.Linear(64, 2).transform("BASIC")
        layer(torch.ones(1, 64))
        assert Own().transform() == "its own"
    finally:
        dv.unaware()
    assert not hasattr(nn.Module, "transform")
    assert emulates(layer)
    dv.unaware()


def test_aware_refuses_a_strangers_method():
    nn.Module.transform = lambda self: None
    try:
        with pytest.raises(dv.DovetailError, match="of another package"):
            dv.aware()
        dv.unaware()
        assert hasattr(nn.Module, "transform")
    finally:
        del nn.Module.transform


def config(tmp_path, **urls):
    path = tmp_path / "config.yaml"
    path.write_text(
        "".join(f"{m}: {{output_format: SAME, state_dict_url: '{u}'}}\n" for m, u in urls.items())
    )
    return path


def test_weights_that_a_configuration_names(net, tmp_path):
    new = nn.Linear(16, 16)
    torch.save(new.state_dict(), tmp_path / "a b.pth")
    save_file(nn.Linear(16, 4).state_dict(), tmp_path / "fc2.safetensors")
    path = config(
        tmp_path,
        fc1=(tmp_path / "a b.pth").as_uri(),
        fc2=str(tmp_path / "fc2.safetensors"),
    )
    before = net.fc1.weight.clone()
    transform(net, path, weights="ignore")
    assert torch.equal(net.fc1.weight, before)
    transform(net, path, reset=True)
    assert torch.equal(net.fc1.weight, new.weight)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.org/a.pth", "is not a local file; fetch it, or say weights='ignore'"),
        ("file:///missing.pth", "no file file:///missing.pth"),
        ("{tmp}/code.pth", "holds no weights"),
        ("{tmp}/other.pth", "only the file has 'other'"),
        ("{tmp}/shape.pth", r"weight is \(16, 16\), in the file \(4, 4\)"),
    ],
)
def test_weights_refused_before_any_is_loaded(net, tmp_path, url, message):
    torch.save(nn.Linear(4, 4), tmp_path / "code.pth")
    torch.save({"other": torch.ones(1), "bias": torch.ones(16)}, tmp_path / "other.pth")
    torch.save({"weight": torch.ones(4, 4), "bias": torch.ones(16)}, tmp_path / "shape.pth")
    torch.save(nn.Linear(16, 4).state_dict(), tmp_path / "good.pth")
    before = net.fc2.weight.clone()
    path = config(tmp_path, fc2=f"{tmp_path}/good.pth", fc1=url.format(tmp=tmp_path))
    with pytest.raises(dv.DovetailError, match=f"'fc1': .*{message}"):
        transform(net, path)
    assert torch.equal(net.fc2.weight, before)
    assert not waits(net)


def test_a_misspelt_preset_is_told_the_nearest():
    with pytest.raises(dv.DovetailError, match="unknown preset 'BASIK'; did you mean 'BASIC'"):
        dv.Model(nn.Linear(2, 2)).transform("BASIK")
